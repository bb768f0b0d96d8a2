"""What is compared: Portferry, the kernel itself, and forwarders that are installed.

    C (client) -- the forwarder's device, or a veth pair -- the forwarder in H -- veth pair -- S (servers)

Portferry and pasta make a device in C and are reached at an address behind it; the others listen on H's end of a
veth pair, or, as the kernel does, translate what arrives there.
"""
import os
import re
import shutil
import subprocess

from harness import kernel
from harness.daemon import BINARY, Daemon, wait
from harness.namespaces import S4, V4, Failed, end

C_SIDE, H_SIDE = "198.18.1.2", "198.18.1.1"
BULK, ASKED, COUNTED = 5201, 5301, 5302     # ports: iperf3, the answering server, the counting one
TCP_PORTS, UDP_PORTS = (BULK, ASKED), (COUNTED,)


def first_line(*argv):
    """What a program calls itself; programs differ in where they say it."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    return next((line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()), "")


class Forwarder:
    """One way from C to S. `address` is what clients connect to."""
    name, title, program, forwards_datagrams, address = "", "", None, True, H_SIDE

    def __init__(self):
        self.processes = []

    def path(self):
        return shutil.which(self.program)

    def missing(self):
        """Why it cannot be measured here; None when it can."""
        return None if self.path() else "%s is not installed" % self.program

    def version(self):
        found = re.search(r"\d+(\.\d+|_\w+)+", first_line(self.path(), self.version_option))
        return found.group(0) if found else ""

    version_option = "-v"

    def launch(self, scratch, *argv):
        with open(os.path.join(scratch, self.name + ".log"), "ab") as log:
            self.processes.append(subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                   preexec_fn=kernel.die_with_parent))

    def start(self, world, scratch):
        raise NotImplementedError

    def stop(self):
        for process in self.processes:
            for child in kernel.children_of(process.pid):
                try:
                    os.kill(child, 9)
                except ProcessLookupError:
                    pass
            end(process)
        self.processes = []


def join(world):
    """A veth pair between C and H, for those that make no device of their own."""
    from harness.namespaces import run
    run(["ip", "link", "add", "pfc0", "netns", world.client.name, "type", "veth", "peer", "name", "pfc0", "netns",
         world.host.name])
    world.client.ip("link set pfc0 up", "addr add %s/24 dev pfc0" % C_SIDE, "route add default via %s" % H_SIDE)
    world.host.ip("link set pfc0 up", "addr add %s/24 dev pfc0" % H_SIDE)
    world.servers.ip("route add 198.18.1.0/24 via 198.18.2.1")


class Kernel(Forwarder):
    name, title, program = "kernel", "kernel (DNAT)", "nft"

    def version(self):
        return os.uname().release

    def start(self, world, scratch):
        join(world)
        world.host.sysctl(ipv4__ip_forward=1)
        rules = "".join("ip daddr %s %s dport { %s } dnat to %s\n" % (H_SIDE, protocol, ", ".join(map(str, ports)), S4)
                        for protocol, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)))
        world.host.nft("table ip bench {\nchain in {\ntype nat hook prerouting priority dstnat;\n%s}\n}\n" % rules)


class Haproxy(Forwarder):
    name = title = program = "haproxy"
    forwards_datagrams = False

    def start(self, world, scratch):
        join(world)
        lines = ["global", "maxconn 4000", "defaults", "mode tcp", "timeout connect 5s", "timeout client 1m", "timeout server 1m"]
        for port in TCP_PORTS:
            lines += ["listen p%d" % port, "bind %s:%d" % (H_SIDE, port), "server s %s:%d" % (S4, port)]
        config = os.path.join(scratch, "haproxy.cfg")
        with open(config, "w") as f:
            f.write("\n".join(lines) + "\n")
        self.launch(scratch, *world.host.argv([self.path(), "-db", "-f", config]))


class Socat(Forwarder):
    name = title = program = "socat"
    version_option = "-V"

    def version(self):
        done = subprocess.run([self.path(), "-V"], capture_output=True, text=True, timeout=10)
        found = re.search(r"socat version (\S+)", done.stdout)
        return found.group(1) if found else ""

    def start(self, world, scratch):
        join(world)
        for port in TCP_PORTS:
            self.launch(scratch, *world.host.argv([
                self.path(), "-b", 131072, "TCP4-LISTEN:%d,bind=%s,reuseaddr,fork,backlog=512,nodelay" % (port, H_SIDE),
                "TCP4:%s:%d,nodelay" % (S4, port)]))
        for port in UDP_PORTS:
            self.launch(scratch, *world.host.argv([
                self.path(), "-b", 65536, "UDP4-LISTEN:%d,bind=%s,reuseaddr,fork" % (port, H_SIDE), "UDP4:%s:%d" % (S4, port)]))


class Pasta(Forwarder):
    name = title = program = "pasta"
    version_option = "--version"
    address = S4

    def start(self, world, scratch):
        world.host.ip("route add default via %s" % S4)      # it takes no interface without one
        self.launch(scratch, *world.host.argv([
            self.path(), "--foreground", "--quiet", "--config-net", "--netns", world.client.path, "--runas", 0,
            "--ns-ifname", "tap0", "--interface", "pfs0", "--mtu", 65520, "--no-map-gw", "-t", "none", "-u", "none",
            "-T", "none", "-U", "none"]))


class Portferry(Forwarder):
    name = title = "portferry"
    address = V4
    daemon = None

    def path(self):
        return BINARY

    def missing(self):
        return None if os.access(BINARY, os.X_OK) else "there is no program at %s" % BINARY

    version_option = "--version"

    def start(self, world, scratch):
        rule = {"protocol": "tcp+udp", "listen": V4 + ":*", "target": S4 + ":*"}
        self.daemon = Daemon(scratch, world.host, world.client, [rule]).start()

    def stop(self):
        if self.daemon:
            self.daemon.discard()
            os.unlink(self.daemon.notify_path)
        self.daemon = None


ALL = (Portferry, Kernel, Haproxy, Socat, Pasta)


def wait_for_path(world, forwarder):
    """An exchange of octets through the forwarder, so that nothing is measured that does not forward."""
    def exchange():
        for process in forwarder.processes:
            if process.poll() is not None:
                raise Failed("%s ended with %d" % (forwarder.name, process.returncode))
        try:
            with world.client.connect(forwarder.address, ASKED, timeout=1.0) as connection:
                connection.sendall(b"?")
                return len(connection.recv(64)) > 0
        except OSError:
            return False
    wait(exchange, 10, "way through %s" % forwarder.name, every=0.05)
