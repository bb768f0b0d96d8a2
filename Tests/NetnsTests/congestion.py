"""Congestion between a real kernel's TCP and ours: ECN agreed on, marks made on the way, echoes and reductions."""
import hashlib
import json

from harness.daemon import wait
from harness.namespaces import TARGET, VIRTUAL, at, expect
from harness.peers import MIB, digest, receive_all, send_pattern
from harness.runner import BOTH, case, tool_missing

# Of a thousand packets of each direction a few are marked, as a congested router would. `daemon` is what the daemon sends:
# it arrives in the client's namespace on the device.
MARKS = """
table inet marks {
  counter daemon_capable {}
  counter daemon_reduced {}
  counter daemon_echoed {}
  chain arriving {
    type filter hook prerouting priority -300;
    meta l4proto tcp %(l3)s ecn ect0 counter name daemon_capable
    tcp flags & cwr == cwr counter name daemon_reduced
    tcp flags & (syn | ecn) == ecn counter name daemon_echoed
    meta l4proto tcp %(l3)s ecn ect0 numgen inc mod 40 == 0 %(l3)s ecn set ce
  }
  chain leaving {
    type filter hook postrouting priority 300;
    meta l4proto tcp %(l3)s ecn ect0 numgen inc mod 40 == 0 %(l3)s ecn set ce
  }
}
"""


def counters(world):
    listing = json.loads(world.client.run(["nft", "-j", "list", "counters", "table", "inet", "marks"]))
    return {c["counter"]["name"]: c["counter"]["packets"] for c in listing["nftables"] if "counter" in c}


def forward(family, **options):
    return {"listen": at(VIRTUAL[family], 80), "target": at(TARGET[family], 8080)} | options


def marked_transfer(world, family, **options):
    """What was counted on the way of 16 MiB down and 16 MiB up."""
    tool_missing("nft")
    total = 16 * MIB

    def handler(connection):
        send_pattern(connection, total, seed=3)
        return receive_all(connection)

    server = world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family, **options)])
    world.client.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=1"])
    world.client.nft(MARKS % {"l3": "ip" if family == 4 else "ip6"})
    with world.client.connect(VIRTUAL[family], 80, timeout=30) as s:
        h, left = hashlib.sha256(), total
        while left:
            piece = s.recv(min(left, MIB))
            expect(piece, "the download ended %d octets early", left)
            h.update(piece)
            left -= len(piece)
        expect(h.hexdigest() == digest(total, seed=3), "the download is not what was sent")
        send_pattern(s, total, seed=4)
    expect(server.result() == (total, digest(total, seed=4)), "the upload is not what was sent")
    wait(lambda: daemon.flows() == 0, 5, "end of the flow")
    return counters(world)


@case(limit=60, families=BOTH)
def marks_are_echoed_and_heard(world, family):
    seen = marked_transfer(world, family)
    expect(seen["daemon_capable"] > 0, "nothing left as ECT(0): %s", seen)
    expect(seen["daemon_reduced"] > 0, "the client's echoes were not heard: %s", seen)
    expect(seen["daemon_echoed"] > 0, "marks on the client's data were not echoed: %s", seen)


@case(limit=60)
def marks_are_heard_by_newreno(world):
    seen = marked_transfer(world, 4, congestion="newreno")
    expect(seen["daemon_reduced"] > 0, "the client's echoes were not heard: %s", seen)


@case(limit=60)
def marks_without_offload(world):
    tool_missing("nft")
    total = 4 * MIB
    world.serve(lambda connection: send_pattern(connection, total, seed=3), TARGET[4], 8080)
    world.daemon([forward(4)], device={"offload": False})
    world.client.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=1"])
    world.client.nft(MARKS % {"l3": "ip"})
    with world.client.connect(VIRTUAL[4], 80, timeout=30) as s:
        expect(receive_all(s) == (total, digest(total, seed=3)), "the download is not what was sent")
    seen = counters(world)
    expect(seen["daemon_capable"] > 0 and seen["daemon_reduced"] > 0, "ECN is not in use: %s", seen)


@case()
def a_client_without_ecn_gets_none(world):
    tool_missing("nft")
    world.serve(lambda connection: send_pattern(connection, MIB), TARGET[4], 8080)
    world.daemon([forward(4)])
    world.client.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=0"])
    world.client.nft(MARKS % {"l3": "ip"})
    with world.client.connect(VIRTUAL[4], 80, timeout=30) as s:
        expect(receive_all(s) == (MIB, digest(MIB)), "the download is not what was sent")
    expect(not any(counters(world).values()), "ECN without an agreement: %s", counters(world))
