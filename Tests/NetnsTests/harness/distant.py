"""A client that is not on the daemon's device but behind a link of MTU 1500: D (distant) -- link0 -- C, where the device is.

C forwards; it is also where a kernel's TCP can listen at the same end of the same link, to compare with. The link is either
a pair of TUN devices with a process between them (`lossylink.py`: loss, doubling and reordering by a seed), or a veth pair
whose two ends lose packets by nftables (fast, but loss alone).
"""
import os
import socket
import sys

from harness import kernel, lossylink
from harness.daemon import wait
from harness.namespaces import Failed, Namespace, expect, run

D4, R4 = "198.18.30.2", "198.18.30.1"
LOSS = """table inet lossy {
  chain arriving {
    type filter hook prerouting priority -300;
    iifname link0 numgen random mod 1000 < %d drop
  }
}
"""


class Distant:
    """`permille`: lost, doubled and reordered packets of a thousand, each way; `delay`: milliseconds, each way."""

    def __init__(self, world, permille, seed=None, delay=0):
        name = world.namespaces.tag + "d"       # removed with the test's other namespaces, by its beginning
        run(["ip", "netns", "add", name])
        self.namespace, self.router = Namespace(name), world.client
        ends = (self.namespace, self.router)
        if seed is None:
            run(["ip", "link", "add", "link0", "netns", name, "type", "veth", "peer", "name", "link0", "netns", self.router.name])
            for end in ends:
                with end.socket("0.0.0.0", socket.SOCK_DGRAM) as s:
                    kernel.without_offload(s.fileno(), "link0")
                if permille[0]:
                    end.nft(LOSS % permille[0])
        else:
            process = world.spawn(world.host, [sys.executable, lossylink.__file__, name, self.router.name, seed, *permille, delay], "link")
            wait(lambda: os.path.getsize(process.output_path) or process.poll() is not None, 5, "link")
            expect(process.poll() is None, "the link did not come up")
        for end, own, other in zip(ends, (D4, R4), (R4, D4)):
            end.ip("link set lo up", "link set link0 up mtu 1500 txqueuelen %d" % (10_000 if delay else 1000), "addr add %s/30 dev link0" % own)
            end.sysctl(ipv4__tcp_no_metrics_save=1)     # what one run learnt must not help or harm the next
        self.namespace.ip("route add default via " + R4)
        self.router.sysctl(ipv4__ip_forward=1)
        world.before = world.snapshot()

    def connect(self, address, port, timeout):
        """A connection across the link whose kernel uses CUBIC."""
        s = self.namespace.connect(address, port, timeout)
        use_cubic(s)
        return s


def use_cubic(connection):
    """Of this socket, and of those that it accepts; a namespace's default cannot be one that the host restricts."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    except OSError as error:
        raise Failed("the kernel has no CUBIC to compare with: %s" % error) from None
