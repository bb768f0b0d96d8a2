"""Echo for covered addresses; paths narrower than the device; what the network says, on one side and the other."""
import os
import re
import socket
import struct
import subprocess

from harness.daemon import wait
from harness.namespaces import TARGET, VIRTUAL, Namespace, at, expect
from harness.peers import MIB, digest, echo, echo_datagram, receive_all, send_pattern
from harness.runner import BOTH, case, tool_missing


def ping(world, address, *options):
    tool_missing("ping")
    done = subprocess.run(world.client.argv(["ping", "-6" if ":" in address else "-4", "-n", *options, address]),
                          capture_output=True, text=True, timeout=15)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    expect(found, "ping said: %s", " ".join((done.stdout + done.stderr).split())[:200])
    return int(found[2]), done.stdout


def forward(family, port=80, **keys):
    return {"listen": at(VIRTUAL[family], port), "target": at(TARGET[family], 8080)} | keys


@case(families=BOTH)
def covered_address_answers(world, family):
    world.daemon([forward(family)])
    received, text = ping(world, VIRTUAL[family], "-c", "5", "-i", "0.05", "-W", "1")
    expect(received == 5, "%d of 5 echoes", received)
    expect("wrong data" not in text and "DUP" not in text, "%s", " ".join(text.split())[:200])


@case(families=BOTH)
def every_size_within_the_mtu_answers(world, family):
    world.daemon([forward(family)])
    for size in (0, 1, 7, 56, 1000, 1452 if family == 6 else 1472):
        received, text = ping(world, VIRTUAL[family], "-c", "1", "-W", "1", "-s", str(size), "-p", "a5")
        expect(received == 1 and "wrong data" not in text, "no answer, or a wrong one, with %d octets", size)


@case(families=BOTH)
def uncovered_address_does_not_answer(world, family):
    world.daemon([forward(family)])
    address = {4: "10.77.0.99", 6: "fd77::99"}[family]
    received, _ = ping(world, address, "-c", "2", "-i", "0.2", "-W", "1")
    expect(received == 0, "an address without a rule answered")


@case()
def every_address_of_a_covered_prefix_answers(world):
    world.daemon([{"listen": "10.77.4.0/24:80", "target": "198.18.9.0/24:*"}])
    for address in ("10.77.4.1", "10.77.4.200"):
        expect(ping(world, address, "-c", "1", "-W", "1")[0] == 1, "%s does not answer", address)


@case()
def udp_rule_covers_its_address_too(world):
    world.daemon([forward(4, protocol="udp")])
    expect(ping(world, VIRTUAL[4], "-c", "1", "-W", "1")[0] == 1, "no answer")


@case()
def echo_beyond_the_mtu_is_answered_or_counted(world):
    daemon = world.daemon([forward(4)])
    received, _ = ping(world, VIRTUAL[4], "-c", "1", "-W", "1", "-s", "4000")
    expect(received == 1 or daemon.drops("fragment") >= 2, "neither answered nor counted")


@case(families=BOTH)
def flood_of_echoes_is_answered(world, family):
    world.daemon([forward(family)])
    received, _ = ping(world, VIRTUAL[family], "-c", "2000", "-f", "-W", "1", "-q")
    expect(received >= 1900, "%d of 2000 echoes", received)


@case(families=BOTH)
def many_large_echoes_in_one_turn_are_answered(world, family):
    """More of them than there is memory for answers that wait for the device."""
    tool_missing("ping")
    daemon = world.daemon([forward(family)], device={"queues": 1})
    with daemon.stopped():
        pings = [world.spawn(world.client, ["ping", "-n", "-q", "-c", "50", "-l", "50", "-s", "1400", "-w", "5", VIRTUAL[family]])
                 for _ in range(4)]
        wait(lambda: echoes_sent(world, family) >= 200, 5, "200 echoes in the device's queue")
    for each in pings:
        each.wait(10)
        with open(each.output_path) as f:
            text = f.read()
        expect("50 received" in text, "ping said: %s", " ".join(text.split())[:200])
    expect(daemon.drops("frame-queue-full") == 0, "answers found no room")


def echoes_sent(world, family):
    """By the client's kernel."""
    text = world.client.run(["cat", "/proc/net/snmp6" if family == 6 else "/proc/net/snmp"])
    if family == 6:
        return int(re.search(r"Icmp6OutEchos\s+(\d+)", text)[1])
    names, values = (line.split() for line in text.splitlines() if line.startswith("IcmpMsg:"))
    return int(dict(zip(names, values)).get("OutType8", 0))


# A client behind a router that is behind the device: E -- C -- the daemon's device. The link from C to E takes less
# than the device; E itself does not know.

FAR = {4: "10.78.0.2", 6: "fd78::2"}
NEAR = {4: "10.78.0.1", 6: "fd78::1"}
ON_LINK = {4: "%s/24 dev pfe0", 6: "%s/64 dev pfe0 nodad"}


def behind_a_narrow_link(world, mtu):
    """A namespace whose link from C takes `mtu` octets."""
    name = world.client.name[:-1] + "e"
    world.client.run(["ip", "netns", "add", name])
    far = Namespace(name)
    far.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
    world.client.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv4__icmp_ratelimit=0)
    families = (4, 6) if mtu >= 1280 else (4,)
    world.client.ip("link add pfe0 type veth peer name pfe0 netns %s" % name, "link set pfe0 mtu %d up" % mtu,
                    *("addr add %s" % (ON_LINK[f] % NEAR[f]) for f in families))
    far.ip("link set lo up", "link set pfe0 up", *("addr add %s" % (ON_LINK[f] % FAR[f]) for f in families),
           *("route add default via %s" % NEAR[f] for f in families))
    world.before = world.snapshot()
    return far


def silence_too_big(namespace):
    """The router drops packets that are too big and says nothing."""
    namespace.nft("table inet silent { chain output { type filter hook output priority 0; "
                  "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop\n }\n }")


def download(world, far, family, octets):
    """Downloads a pattern; returns the size of the segments that the client's kernel saw (TCP_INFO, tcpi_rcv_mss)."""
    world.serve(lambda c: send_pattern(c, octets), TARGET[family], 8080)
    with far.connect(VIRTUAL[family], 80, timeout=15) as s:
        count, found = receive_all(s)
        expect(count == octets and found == digest(octets), "%d of %d octets, or wrong ones", count, octets)
        return struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 20)[0]


@case(families=BOTH)
def download_through_a_narrow_link(world, family):
    far = behind_a_narrow_link(world, 1300)
    world.daemon([forward(family)])
    segment = download(world, far, family, 8 * MIB)
    expect(segment <= 1300 - (52 if family == 4 else 72), "segments of %d octets", segment)


@case(families=BOTH, limit=40)
def download_through_a_narrow_link_that_keeps_silent(world, family):
    far = behind_a_narrow_link(world, 1300)
    silence_too_big(world.client)
    world.daemon([forward(family)])
    segment = download(world, far, family, 4 * MIB)
    expect(segment <= 1300 - (52 if family == 4 else 72), "segments of %d octets", segment)


@case()
def download_through_the_narrowest_silent_link(world):
    far = behind_a_narrow_link(world, 576)
    silence_too_big(world.client)
    world.daemon([forward(4)])
    segment = download(world, far, 4, MIB)
    expect(segment <= 576 - 52, "segments of %d octets", segment)


@case(families=BOTH)
def upload_through_a_narrow_link(world, family):
    far = behind_a_narrow_link(world, 1300)
    server = world.serve(receive_all, TARGET[family], 8080)
    world.daemon([forward(family)])
    with far.connect(VIRTUAL[family], 80) as s:
        send_pattern(s, 4 * MIB)
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (4 * MIB, digest(4 * MIB)), "other octets than were sent")


@case(families=BOTH)
def answers_through_a_narrow_link_come_in_fragments(world, family):
    far = behind_a_narrow_link(world, 1300)
    world.serve_datagrams(lambda data, peer: b"a" * 1400, TARGET[family], 8080)
    world.daemon([forward(family, protocol="udp")])
    with far.datagrams(VIRTUAL[family], 80, timeout=0.5) as s:
        lost = 0
        while True:     # the one that was too big is lost
            s.send(b"?")
            try:
                expect(len(s.recv(4096)) == 1400, "not the answer")
                break
            except TimeoutError:
                lost += 1
                expect(lost < 5, "no answer of 1400 octets arrives")
        expect(lost == 1, "%d answers were lost", lost)
        for _ in range(20):
            s.send(b"?")
            expect(len(s.recv(4096)) == 1400, "not the answer")


# What the network says of a target reaches the client of the session that it is about.

IP_RECVERR, IPV6_RECVERR = 11, 25
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_WANT, PMTUDISC_DO = 10, 23, 0, 1, 2


def attentive(world, family, discovery=None, port=80):
    """A client's UDP socket that hears what ICMP says."""
    s = world.client.datagrams(VIRTUAL[family], port, timeout=3)
    level = socket.IPPROTO_IPV6 if family == 6 else socket.IPPROTO_IP
    s.setsockopt(level, IPV6_RECVERR if family == 6 else IP_RECVERR, 1)
    if discovery is not None:
        s.setsockopt(level, IPV6_MTU_DISCOVER if family == 6 else IP_MTU_DISCOVER, discovery)
    return s


def report(s):
    """The next entry of the error queue: (type, code, info, offender's address)."""
    def look():
        try:
            return s.recvmsg(4096, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1]
        except BlockingIOError:
            return None
    for level, kind, data in wait(look, 3, "ICMP error"):
        if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
            _, origin, type_, code, _, info, _ = struct.unpack_from("=IBBBBII", data)
            offender = (socket.inet_ntop(socket.AF_INET6, data[24:40]) if origin == 3
                        else socket.inet_ntoa(data[20:24]))
            expect(origin in (2, 3), "not from the network: origin %d", origin)
            return type_, code, info, offender
    expect(False, "an entry without a report")


@case(families=BOTH)
def what_is_said_of_a_datagram_reaches_its_client(world, family):
    kinds = {4: {"port-unreachable": (3, 3), "host-unreachable": (3, 1), "net-unreachable": (3, 0),
                 "admin-prohibited": (3, 13), "host-prohibited": (3, 13)},
             6: {"port-unreachable": (1, 4), "addr-unreachable": (1, 3), "no-route": (1, 0),
                 "admin-prohibited": (1, 1)}}[family]
    world.serve_datagrams(echo_datagram, TARGET[family], 7000)
    world.servers.nft("table inet shut { chain input { type filter hook input priority 0; %s\n }\n }" % "; ".join(
        "udp dport %d reject with %s type %s" % (7001 + number, "icmp" if family == 4 else "icmpv6", kind)
        for number, kind in enumerate(kinds)))
    world.daemon([{"protocol": "udp", "listen": at(VIRTUAL[family], "7000-7009"), "target": at(TARGET[family], "*")}])
    with attentive(world, family, port=7000) as other:
        for number, (kind, (type_, code)) in enumerate(kinds.items()):
            with attentive(world, family, port=7001 + number) as s:
                s.send(b"?")
                heard = report(s)
                expect(heard[:2] == (type_, code), "%s was told as type %d code %d", kind, *heard[:2])
                expect(heard[3] == VIRTUAL[family], "told by %s", heard[3])
        other.send(b"x")        # another session has heard nothing of it
        expect(other.recv(10) == b"x", "no echo")


@case()
def host_that_is_down_is_told_to_datagram_clients(world):
    world.daemon([{"protocol": "udp", "listen": at(VIRTUAL[4], 80), "target": "198.18.2.99:80"}])
    with attentive(world, 4) as s:
        s.settimeout(8)
        s.send(b"?")
        try:
            expect(False, "an answer: %r", s.recv(10))
        except OSError as error:
            expect(not isinstance(error, TimeoutError), "nothing was said")
        expect(report(s)[:2] == (3, 1), "not as host unreachable")


@case(families=BOTH)
def datagram_too_long_for_the_targets_path_is_told_with_its_mtu(world, family):
    """The kernel of H knows that the path is narrow, or learns it from a router."""
    daemon = narrow_target(world, family, 1300)
    with attentive(world, family, PMTUDISC_DO) as s:
        s.send(b"a" * 1400)
        type_, code, mtu, offender = report(s)
        expect((type_, code) == {4: (3, 4), 6: (2, 0)}[family], "told as type %d code %d", type_, code)
        expect((mtu, offender) == (1300, VIRTUAL[family]), "MTU %d, from %s", mtu, offender)
        s.setblocking(False)
        try:        # the client's kernel has taken it in
            s.send(b"a" * 1400)
            expect(False, "a datagram beyond the MTU was sent")
        except OSError as error:
            expect(error.errno == 90, "%s", error)
    expect(daemon.flows() == 1, "%d flows", daemon.flows())


@case(families=BOTH)
def datagrams_of_clients_that_fragment_pass_a_narrow_path(world, family):
    narrow_target(world, family, 1300)
    with attentive(world, family) as s:
        s.settimeout(0.5)
        for size in (1, 1400, 1200, 4000, 1400, 9000, 1400):
            data = os.urandom(size)
            for _ in range(5):      # one may be lost while the MTU becomes known
                try:
                    s.send(data)
                    expect(s.recv(65536) == data, "another datagram than was sent")
                    break
                except TimeoutError:
                    continue
                except OSError as error:
                    expect(error.errno == 90, "%s", error)
            else:
                expect(False, "datagrams of %d octets do not pass", size)


def narrow_target(world, family, mtu):
    """A target behind S, whose link to it takes `mtu` octets; echoes datagrams."""
    name = world.client.name[:-1] + "t"
    world.client.run(["ip", "netns", "add", name])
    behind = Namespace(name)
    behind.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
    world.servers.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    near, far = {4: ("198.18.77.1/24", "198.18.77.2"), 6: ("2001:2:0:77::1/64", "2001:2:0:77::2")}[family]
    hop = {4: "198.18.2.2", 6: "2001:2:0:2::2"}[family]
    world.servers.ip("link add pft0 type veth peer name pft0 netns %s" % name, "link set pft0 mtu %d up" % mtu,
                     "addr add %s dev pft0%s" % (near, " nodad" if family == 6 else ""))
    behind.ip("link set lo up", "link set pft0 mtu %d up" % mtu,
              "addr add %s/%d dev pft0%s" % (far, 24 if family == 4 else 64, " nodad" if family == 6 else ""),
              "route add default via %s" % near.split("/")[0])
    world.host.ip("route add %s via %s" % (far, hop))
    world.before = world.snapshot()
    world.serve_datagrams(echo_datagram, far, 8080, namespace=behind)
    return world.daemon([{"protocol": "udp", "listen": at(VIRTUAL[family], 80), "target": at(far, 8080)}])


@case(families=BOTH)
def client_that_is_gone_ends_its_session(world, family):
    server = world.serve_datagrams(lambda data, peer: None, TARGET[family], 8080)
    daemon = world.daemon([forward(family, protocol="udp", udp_timeout="1h")])
    with world.client.datagrams(VIRTUAL[family], 80) as s:
        s.send(b"?")
        peer = wait(lambda: next(iter(server.peers), None), 3, "datagram at the target")
        server.socket.sendto(b"!", peer)
        expect(s.recv(10) == b"!", "no answer")
    expect(daemon.flows() == 1, "the session ended by itself")
    server.socket.sendto(b"anybody there?", peer)
    wait(lambda: daemon.flows() == 0, 3, "end of the session")


@case(families=BOTH)
def what_is_said_of_a_connection_that_stands_does_not_end_it(world, family):
    world.serve(echo, TARGET[family], 8080)
    world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        s.sendall(b"before")
        expect(s.recv(10) == b"before", "no echo")
        world.servers.nft("table inet shut { chain input { type filter hook input priority 0; tcp dport 8080 "
                          "counter reject with icmpx type host-unreachable\n }\n }")
        s.sendall(b"during")
        wait(lambda: re.search(r"packets [1-9]", world.servers.run(["nft", "list", "table", "inet", "shut"])), 3,
             "rejected segment")
        world.servers.nft("delete table inet shut")
        expect(s.recv(10) == b"during", "no echo after the network had mended")


@case()
def target_that_falls_silent_is_a_reset_when_the_kernel_gives_up(world):
    world.serve(echo, TARGET[4], 8080)
    world.host.sysctl(ipv4__tcp_retries2=3)
    world.daemon([forward(4)])
    with world.client.connect(VIRTUAL[4], 80, timeout=15) as s:
        s.sendall(b"before")
        expect(s.recv(10) == b"before", "no echo")
        world.servers.nft("table inet shut { chain input { type filter hook input priority 0; tcp dport 8080 drop\n }\n }")
        s.sendall(b"during")
        try:
            expect(False, "%r instead of a reset", s.recv(10))
        except ConnectionResetError:
            pass
