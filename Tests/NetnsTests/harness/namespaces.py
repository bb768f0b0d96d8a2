"""Network namespaces and the topology that every test stands on.

    C (client) -- the daemon's TUN device -- daemon in H (host) -- veth pair -- S (servers)

C has no other way out than the device that the daemon makes in it, so whatever arrives in S came through the daemon.
Names begin with `pfn` and the runner's process number; what a killed runner left behind is removed by the next one.
Addresses are of 198.18.0.0/15 and 2001:2::/48 (benchmarking), 10.77.0.0/16 and fd77::/16 (virtual addresses).
"""
import contextlib
import json
import os
import signal
import socket
import subprocess
import time

from harness import kernel

PREFIX = "pfn"
H4, H6 = "198.18.2.1", "2001:2:0:2::1"
S4, S6 = "198.18.2.2", "2001:2:0:2::2"
DARK4 = "198.18.2.99"               # on-link of H, owned by nobody: no answer to ARP
NOWHERE4 = "198.19.255.1"           # H has no route to it
WIDE4, WIDE6 = "198.18.9.0/24", "2001:2:0:9::/64"        # every address of these is local in S
NAMED4, NAMED6 = "198.18.20.0/24", "2001:2:0:20::/64"    # likewise; clients name them as such
C4, C6 = "10.77.0.1", "fd77::1"     # the device's own addresses, hence the client's source
V4, V6 = "10.77.0.10", "fd77::10"   # the virtual addresses of most rules
CLIENT, VIRTUAL, TARGET = {4: C4, 6: C6}, {4: V4, 6: V6}, {4: S4, 6: S6}


def at(address, port):
    """An address and a port as the configuration and URLs write them."""
    return "%s:%s" % ("[%s]" % address if ":" in address else address, port)


class Failed(Exception):
    """A test's expectation did not hold; the text is the one line of the report."""


def expect(condition, text, *values):
    if not condition:
        raise Failed(text % values if values else text)


def run(argv, check=True, input=None, timeout=20):
    """Runs a tool to its end and returns its standard output."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, input=input,
                          stdin=None if input is not None else subprocess.DEVNULL)
    if check and done.returncode:
        raise Failed("%s: exit %d: %s" % (" ".join(str(a) for a in argv[:8]), done.returncode,
                                          " ".join((done.stderr or done.stdout).split())[-300:]))
    return done.stdout


class Namespace:
    def __init__(self, name):
        self.name, self.path = name, "/run/netns/" + name
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace inside the `with`."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.setns(self.descriptor)
            yield self
        finally:
            kernel.setns(home)
            os.close(home)

    def argv(self, argv):
        """nsenter execs its program, so the process number is the program's own."""
        return ["nsenter", "--net=" + self.path] + [str(a) for a in argv]

    def run(self, argv, **options):
        return run(self.argv(argv), **options)

    def ip(self, *lines):
        run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n")

    def nft(self, text):
        self.run(["nft", "-f", "-"], input=text)

    def sysctl(self, **values):
        with self.entered():
            for key, value in values.items():
                with open("/proc/sys/net/" + key.replace("__", "/"), "w") as f:
                    f.write(str(value))

    def set_congestion_control(self, *wanted):
        """The first that the kernel permits: outside of the first namespace only unrestricted ones can be a default."""
        for name in wanted:
            try:
                return self.sysctl(ipv4__tcp_congestion_control=name)
            except (PermissionError, FileNotFoundError):
                continue
        raise Failed("none of the congestion controls %s is permitted" % ", ".join(wanted))

    def socket(self, address, kind=socket.SOCK_STREAM):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.entered():
            return socket.socket(family, kind)

    def connect(self, address, port, timeout=5.0, source_port=0):
        """A connected TCP socket whose calls are bounded by `timeout` seconds."""
        s = self.socket(address)
        s.settimeout(timeout)
        try:
            if source_port:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("", source_port))
            s.connect((address, port))
        except BaseException:
            s.close()
            raise
        return s

    def datagrams(self, address, port, timeout=2.0):
        """A connected UDP socket."""
        s = self.socket(address, socket.SOCK_DGRAM)
        s.settimeout(timeout)
        s.connect((address, port))
        return s

    def snapshot(self):
        """Links, addresses, routes and rules of the namespace, without what changes by itself.

        Link-local and multicast entries are left out: they appear when the kernel has noticed the carrier.
        """
        def tidy(rows):
            volatile = ("valid_life_time", "preferred_life_time", "flags", "expires", "operstate")
            kept = (row for row in rows if not str(row.get("dst", "")).startswith(("fe80:", "ff00:")))
            return sorted(json.dumps({k: v for k, v in row.items() if k not in volatile}, sort_keys=True) for row in kept)
        seen = {}
        for label, argv in (("link", ["link"]), ("route4", ["-4", "route", "show", "table", "all"]),
                            ("route6", ["-6", "route", "show", "table", "all"]), ("rule4", ["-4", "rule"]),
                            ("rule6", ["-6", "rule"])):
            rows = json.loads(run(["ip", "-n", self.name, "-j"] + argv) or "[]")
            seen[label] = tidy(row for row in rows if row)
        addresses = json.loads(run(["ip", "-n", self.name, "-j", "addr"]) or "[]")
        seen["address"] = sorted("%s %s/%s" % (row["ifname"], a["local"], a["prefixlen"])
                                 for row in addresses if row for a in row.get("addr_info", [])
                                 if not a["local"].startswith("fe80:"))
        return seen

    def await_local(self, address, within=30.0):
        """Waits until the kernel has taken an IPv6 address as its own."""
        deadline = time.monotonic() + within
        while not any(row.get("dst") == address for row in json.loads(
                run(["ip", "-n", self.name, "-j", "-6", "route", "show", "table", "local"]) or "[]")):
            if time.monotonic() > deadline:
                raise Failed("%s has no route to its own address %s" % (self.name, address))
            time.sleep(0.01)

    def has_device(self, name):
        return any(row.get("ifname") == name for row in json.loads(run(["ip", "-n", self.name, "-j", "link"])))


def remove(tag):
    """Deletes every namespace whose name begins with `tag`."""
    folder = "/run/netns"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name.startswith(tag):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def sweep():
    """Deletes what runners that no longer live left behind."""
    folder = "/run/netns"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        number = name[len(PREFIX):].split("-")[0]
        if name.startswith(PREFIX) and number.isdigit() and not os.path.exists("/proc/" + number):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Namespaces:
    """The three namespaces of one test; removed at the end of the `with`, however it ends."""

    def __init__(self, tag):
        self.tag = tag

    def __enter__(self):
        try:
            return self.made()
        except BaseException:
            remove(self.tag)
            raise

    def made(self):
        c, h, s = (self.tag + letter for letter in "chs")
        batch = ["netns add " + n for n in (c, h, s)]
        batch += ["link add pfs0 netns %s type veth peer name pfs0 netns %s" % (h, s)]
        run(["ip", "-batch", "-"], input="\n".join(batch) + "\n")
        self.client, self.host, self.servers = (Namespace(n) for n in (c, h, s))
        for each in (self.client, self.host, self.servers):
            # Router solicitations and address detection would be traffic of the kernel's own making.
            each.set_congestion_control("cubic", "reno")
            each.sysctl(ipv4__ip_local_port_range="1024 65535", ipv4__tcp_tw_reuse=1,
                        ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0,
                        ipv6__conf__default__router_solicitations=0, ipv6__conf__default__accept_ra=0,
                        ipv6__conf__all__disable_ipv6=0, ipv6__conf__default__disable_ipv6=0,
                        ipv4__ping_group_range="0 2147483647")
        self.servers.sysctl(ipv4__ip_nonlocal_bind=1, ipv6__ip_nonlocal_bind=1)     # for servers in WIDE and NAMED
        self.client.ip("link set lo up")
        self.host.ip("link set lo up", "link set pfs0 up", "addr add %s/24 dev pfs0" % H4,
                     "addr add %s/64 dev pfs0 nodad" % H6,
                     *("route add %s via %s" % (p, S4) for p in (WIDE4, NAMED4)),
                     *("route add %s via %s" % (p, S6) for p in (WIDE6, NAMED6)))
        self.servers.ip("link set lo up", "link set pfs0 up", "addr add %s/24 dev pfs0" % S4,
                        "addr add %s/64 dev pfs0 nodad" % S6,
                        *("route add local %s dev lo" % p for p in (WIDE4, WIDE6, NAMED4, NAMED6)))
        # The kernel adds an IPv6 address's own route later, by a worker of its own: after a snapshot, it would look
        # like something that a daemon left.
        self.host.await_local(H6)
        self.servers.await_local(S6)
        return self

    def __exit__(self, *_):
        for each in (self.client, self.host, self.servers):
            os.close(each.descriptor)
        remove(self.tag)


def end(process, sig=signal.SIGTERM, within=2.0):
    """Ends a child that the test started, and reaps it."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
