"""Nothing a packet contains can stop the daemon: it is counted by its reason and dropped, and others are served."""
import os
import random
import socket
import struct
import time

from harness import packets as p
from harness.daemon import wait
from harness.namespaces import C4, C6, S4, S6, V4, V6, at, expect
from harness.peers import MIB, ask, echo_datagram, named
from harness.runner import BOTH, case

RULES = [{"name": "four", "protocol": "tcp+udp", "listen": at(V4, 80), "target": at(S4, 8080)},
         {"name": "six", "protocol": "tcp+udp", "listen": at(V6, 80), "target": at(S6, 8080)}]


def serve(world, **options):
    for address in (S4, S6):
        world.serve(named("here"), address, 8080)
        world.serve_datagrams(echo_datagram, address, 8080)
    return world.daemon(RULES, **options)


def still_serves(world, daemon):
    expect(daemon.alive, "the daemon died: %s", daemon.last())
    for address in (V4, V6):
        with world.client.connect(address, 80) as s:
            expect(ask(s) == "here", "no TCP exchange with %s afterwards", address)
        with world.client.datagrams(address, 80) as s:
            s.send(b"x")
            expect(s.recv(10) == b"x", "no UDP exchange with %s afterwards", address)


def syn(options=b"", **keys):
    return p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 5000, 80, options=options, **keys))


def syn6(options=b"", **keys):
    return p.ipv6(C6, V6, p.TCP, p.tcp(C6, V6, 5000, 80, options=options, **keys))


def udp6(**keys):
    return p.udp(C6, V6, 5000, 80, b"data", **keys)


def malformed():
    """(what, packet, reasons that may be counted for it)"""
    good_udp, good_tcp = p.udp(C4, V4, 5000, 80, b"data"), p.tcp(C4, V4, 5000, 80)
    hello = p.udp(C6, V6, 5000, 80, b"data")
    header = ("truncated-header", "bad-header-length", "bad-total-length")
    transport = ("truncated-header", "bad-transport-length", "bad-header-length")
    yield "IPv4 of 1 octet", b"\x45", header
    yield "IPv4 of 19 octets", syn()[:19], header
    yield "IPv6 of 39 octets", syn6()[:39], header
    yield "version 5", p.ipv4(C4, V4, p.UDP, good_udp, version=5), ("bad-version",)
    yield "version 0", p.ipv4(C4, V4, p.UDP, good_udp, version=0), ("bad-version",)
    yield "IPv4 header of 16 octets", p.ipv4(C4, V4, p.UDP, good_udp, words=4), ("bad-header-length",)
    yield "IPv4 header beyond the packet", p.ipv4(C4, V4, p.UDP, b"", words=15), ("bad-header-length", *header)
    yield "IPv4 total beyond the packet", p.ipv4(C4, V4, p.UDP, good_udp, total=1400), ("bad-total-length", "truncated-header")
    yield "IPv4 total under the header", p.ipv4(C4, V4, p.UDP, good_udp, total=10), ("bad-total-length",)
    yield "IPv4 header checksum", p.ipv4(C4, V4, p.UDP, good_udp, check=0x1234), ("bad-header-checksum",)
    yield "IPv6 payload beyond the packet", p.ipv6(C6, V6, p.UDP, hello, length=1000), ("bad-total-length", "truncated-header")
    yield "TCP of 19 octets", p.ipv4(C4, V4, p.TCP, good_tcp[:19]), transport
    yield "TCP of nothing", p.ipv4(C4, V4, p.TCP, b""), transport
    yield "TCP header of 16 octets", syn(words=4), transport
    yield "TCP header beyond the segment", syn(words=15), transport
    yield "TCP checksum", syn(check=0x1234), ("bad-transport-checksum",)
    yield "TCP checksum over IPv6", syn6(check=0x1234), ("bad-transport-checksum",)
    yield "TCP option beyond the header", syn(options=b"\x02\x28\x05\xb4"), ("bad-tcp-options",)
    yield "TCP option of length 0", syn(options=b"\x08\x00\x00\x00"), ("bad-tcp-options",)
    yield "TCP option of length 1", syn6(options=b"\x03\x01\x07\x00"), ("bad-tcp-options",)
    yield "TCP option without a length", syn(options=b"\x01\x01\x01\x02"), ("bad-tcp-options",)
    yield "SYN and FIN", syn(flags=p.SYN | p.FIN), ("bad-tcp-flags",)
    yield "SYN and RST", syn(flags=p.SYN | p.RST), ("bad-tcp-flags",)
    yield "UDP of 7 octets", p.ipv4(C4, V4, p.UDP, good_udp[:7]), transport
    yield "UDP length under 8", p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 5000, 80, b"data", length=7)), ("bad-transport-length",)
    yield "UDP length beyond the packet", p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 5000, 80, b"data", length=500)), transport
    yield "UDP checksum", p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 5000, 80, b"data", check=0x1234)), (
        "bad-transport-checksum",)
    yield "UDP checksum 0 over IPv6", p.ipv6(C6, V6, p.UDP, udp6(check=0)), ("bad-transport-checksum",)
    yield "source port 0", p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 0, 80)), ("zero-port",)
    yield "destination port 0", p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 5000, 0)), ("zero-port", "no-rule")
    yield "land attack", p.ipv4(V4, V4, p.TCP, p.tcp(V4, V4, 80, 80)), ("land-attack", "martian-source")
    yield "land attack over IPv6", p.ipv6(V6, V6, p.TCP, p.tcp(V6, V6, 80, 80)), ("land-attack", "martian-source")
    for source in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "10.77.0.255", "0.0.0.0"):
        yield "from " + source, p.ipv4(source, V4, p.TCP, p.tcp(source, V4, 5000, 80)), ("martian-source",)
    for source in ("::1", "::", "ff02::1", "::ffff:10.77.0.1"):
        yield "from " + source, p.ipv6(source, V6, p.TCP, p.tcp(source, V6, 5000, 80)), ("martian-source",)
    for destination in ("255.255.255.255", "10.77.0.255", "224.0.0.1", "127.0.0.1"):
        yield "to " + destination, p.ipv4(C4, destination, p.UDP, p.udp(C4, destination, 5000, 80)), (
            "martian-destination", "multicast-destination")
    yield "protocol 132", p.ipv4(C4, V4, 132, b"x" * 20), ("unsupported-protocol",)
    yield "no next header", p.ipv6(C6, V6, 59, b"x" * 20), ("unsupported-protocol", "bad-extension-header")
    yield "first fragment without its TCP header", p.ipv4(C4, V4, p.TCP, b"x" * 8, fragment=0x2000), ("tiny-fragment",)
    yield "fragment beyond 65535", p.ipv4(C4, V4, p.UDP, b"x" * 1000, fragment=0x1FFF), ("fragment", "bad-fragment")
    yield "fragment of an odd size", p.ipv4(C4, V4, p.UDP, b"x" * 13, fragment=0x2000, identification=10), (
        "fragment", "bad-fragment")
    yield "cut extension header", p.ipv6(C6, V6, 0, b"\x11\x10"), ("bad-extension-header", "truncated-header")
    yield "extension header beyond the packet", p.ipv6(C6, V6, 60, b"\x11\xff" + bytes(6) + hello), (
        "bad-extension-header", "truncated-header")
    yield "IPv4 loose source route", p.ipv4(C4, V4, p.UDP, good_udp, options=b"\x83\x07\x04\xc6\x12\x02\x02\x00"), ("source-routed",)
    yield "IPv4 option beyond the header", p.ipv4(C4, V4, p.UDP, good_udp, options=b"\x07\x09\x04\x00"), ("bad-ip-options",)
    yield "source in 240.0.0.0/4", p.ipv4("250.1.2.3", V4, p.UDP, p.udp("250.1.2.3", V4, 5000, 80)), ("martian-source",)
    yield "routing header 0 with segments left", p.ipv6(C6, V6, 43, b"\x11\x02\x00\x01" + bytes(20) + hello), (
        "source-routed",)
    chain = b"".join(p.extension(60) for _ in range(100)) + p.extension(p.UDP) + hello
    yield "a hundred extension headers", p.ipv6(C6, V6, 60, chain), ("bad-extension-header", "truncated-header")
    yield "ICMP checksum", p.ipv4(C4, V4, p.ICMP, p.icmp(C4, V4, 8, 0, check=0x1234)), (
        "icmp-bad-checksum", "bad-transport-checksum")
    yield "ICMPv6 checksum", p.ipv6(C6, V6, p.ICMPV6, p.icmp(C6, V6, 128, 0, check=0x1234)), (
        "icmp-bad-checksum", "bad-transport-checksum")
    yield "ICMP of 3 octets", p.ipv4(C4, V4, p.ICMP, b"\x08\x00\x00"), ("truncated-header", "bad-transport-length", "icmp-ignored")
    yield "ICMP error quoting nothing", p.ipv4(C4, V4, p.ICMP, p.icmp(C4, V4, 3, 3)), ("icmp-ignored", "truncated-header")
    yield "unknown ICMP type", p.ipv4(C4, V4, p.ICMP, p.icmp(C4, V4, 200, 0)), ("icmp-ignored",)
    yield "unknown ICMPv6 type", p.ipv6(C6, V6, p.ICMPV6, p.icmp(C6, V6, 250, 0)), ("icmp-ignored",)


@case(limit=40)
def malformed_packets_are_counted_by_reason(world):
    daemon = serve(world)
    injector, wrong = p.Injector(world), []
    for what, packet, reasons in malformed():
        before = daemon.drops(*reasons)
        if not injector.send(packet):
            continue
        deadline = time.monotonic() + 0.5
        while daemon.drops(*reasons) == before and time.monotonic() < deadline:
            expect(daemon.alive, "%s: the daemon died: %s", what, daemon.last())
            time.sleep(0.005)
        if daemon.drops(*reasons) == before:
            wrong.append("%s (want %s)" % (what, "|".join(dict.fromkeys(reasons))))
    injector.close()
    expect(not wrong, "not counted: %s", "; ".join(wrong))
    still_serves(world, daemon)


@case()
def options_that_are_odd_but_lawful_are_taken(world):
    """NOP padding, an unknown option, IPv4 options and IPv6 destination options do not cost a client its connection."""
    daemon = serve(world)
    injector, listener = p.Injector(world), p.Listener(world)
    lawful = {
        6001: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6001, 80, options=b"\x01" * 40)),
        6002: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6002, 80, options=b"\xfd\x04\xab\xcd\x02\x04\x05\xb4")),
        6003: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6003, 80), options=b"\x01\x01\x01\x01"),
        6004: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6004, 80, options=b"\x03\x03\xff\x00")),          # shift 255
        6005: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6005, 80, options=b"\x02\x04\x00\x00")),          # MSS 0
        6006: p.ipv6(C6, V6, 60, p.extension(p.TCP) + p.tcp(C6, V6, 6006, 80)),
        6007: p.ipv4(C4, V4, p.TCP, p.tcp(C4, V4, 6007, 80, payload=b"data on SYN")),
    }
    for packet in lawful.values():
        expect(injector.send(packet), "the kernel did not take a packet")
    answered = set()
    for data in listener.packets(1.0):
        segment = data[40:] if data[0] >> 4 == 6 else data[(data[0] & 15) * 4:]
        if len(segment) >= 14 and segment[13] & (p.SYN | p.ACK) == p.SYN | p.ACK:
            answered.add(struct.unpack(">H", segment[2:4])[0])
    injector.close()
    listener.close()
    expect(answered == set(lawful), "no SYN,ACK for %s", sorted(set(lawful) - answered))
    still_serves(world, daemon)


@case(limit=30)
def random_octets_never_stop_it(world):
    """20 000 packets: noise, and right packets with a few octets changed. The seed is printed."""
    daemon = serve(world)
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    source, injector = random.Random(seed), p.Injector(world)
    stock = [packet for _, packet, _ in malformed()] + [syn(), syn6()]
    memory = daemon.resident()
    for _ in range(20_000):
        if source.random() < 0.3:
            first = source.choice((0x45, 0x46, 0x60, source.randrange(256)))
            packet = bytes([first]) + source.randbytes(source.randrange(1, 200))
        else:
            packet = bytearray(source.choice(stock))
            for _ in range(source.randrange(1, 4)):
                packet[source.randrange(len(packet))] = source.randrange(256)
            packet = bytes(packet[:source.randrange(1, len(packet) + 1)]) if source.random() < 0.2 else bytes(packet)
        injector.send(packet)
    injector.close()
    time.sleep(0.3)
    still_serves(world, daemon)
    expect(daemon.resident() - memory < 64 * MIB, "memory grew by %d MiB", (daemon.resident() - memory) // MIB)


@case(limit=30)
def blind_segments_do_not_harm_a_flow(world):
    """RST, SYN and data from outside of the window, with the flow's own addresses and ports."""
    daemon = serve(world)
    source, injector = random.Random(9), p.Injector(world)
    with world.client.connect(V4, 80) as s:
        port = s.getsockname()[1]
        expect(ask(s) == "here", "no exchange")
        for _ in range(300):
            for flags in (p.RST, p.RST | p.ACK, p.SYN, p.ACK, p.FIN | p.ACK, p.PSH | p.ACK, 0, 0x3F):
                segment = p.tcp(C4, V4, port, 80, flags, sequence=source.getrandbits(32), acknowledgment=source.getrandbits(32),
                                payload=b"evil" if flags & p.PSH else b"")
                injector.send(p.ipv4(C4, V4, p.TCP, segment))
        time.sleep(0.2)
        expect(ask(s) == "here", "the flow was harmed")
    injector.close()
    still_serves(world, daemon)


@case(limit=40)
def udp_flood_is_bounded_and_a_genuine_session_works_after(world):
    bound = 2000
    daemon = serve(world, daemon={"max_flows": bound})
    before, memory = daemon.descriptors(), daemon.resident()
    injector = p.Injector(world)
    packet = bytearray(p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 1, 80, b"flood", check=0)))
    for number in range(20_000):
        struct.pack_into(">H", packet, 20, 20_000 + number)
        injector.send(bytes(packet))
        if number % 1000 == 0:
            expect(daemon.flows() <= bound, "%d sessions, max_flows is %d", daemon.flows(), bound)
    injector.close()
    time.sleep(0.2)
    expect(0 < daemon.flows() <= bound, "%d sessions, max_flows is %d", daemon.flows(), bound)
    expect(daemon.descriptors() <= before + bound + 64, "%d descriptors", daemon.descriptors())
    expect(daemon.resident() - memory < 64 * MIB, "memory grew by %d MiB", (daemon.resident() - memory) // MIB)
    still_serves(world, daemon)


@case(limit=40)
def flood_beyond_the_open_file_limit_is_survived(world):
    """The descriptors run out before max_flows does: oldest sessions go, the daemon stays."""
    daemon = serve(world, prefix=["prlimit", "--nofile=400:400"])
    injector = p.Injector(world)
    packet = bytearray(p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 1, 80, b"flood", check=0)))
    for number in range(3000):
        struct.pack_into(">H", packet, 20, 20_000 + number)
        injector.send(bytes(packet))
    injector.close()
    time.sleep(0.3)
    expect(daemon.alive, "the daemon died: %s", daemon.last())
    wait(lambda: daemon.flows() < 400, 5, "a bounded session table")
    still_serves(world, daemon)


@case(limit=40)
def syn_flood_from_clients_that_do_not_exist(world):
    """Each SYN's client never answers; a genuine client is served after the flood and memory stays bounded."""
    daemon = serve(world)
    memory, injector = daemon.resident(), p.Injector(world)
    for number in range(3000):
        source = "10.77.%d.%d" % (200 + number // 250, 1 + number % 250)
        injector.send(p.ipv4(source, V4, p.TCP, p.tcp(source, V4, 1024 + number, 80)))
    injector.close()
    time.sleep(0.5)
    still_serves(world, daemon)
    expect(daemon.resident() - memory < 64 * MIB, "memory grew by %d MiB", (daemon.resident() - memory) // MIB)


@case(limit=30)
def full_flow_table_is_counted_and_recovers(world):
    daemon = serve(world, daemon={"max_flows": 50})
    clients = []
    for _ in range(50):
        clients.append(world.client.connect(V4, 80))
    extra = world.client.socket(V4)
    extra.setblocking(False)
    extra.connect_ex((V4, 80))
    wait(lambda: daemon.drops("flow-table-full") >= 1, 3, "counted flow-table-full")
    expect(ask(clients[0]) == "here", "an open flow was harmed")
    for s in clients:
        s.close()
    wait(lambda: daemon.flows() <= 1, 5, "end of the flows")
    extra.close()
    still_serves(world, daemon)


@case(families=BOTH)
def refusals_are_not_an_amplifier(world, family):
    """What is sent back to a SYN without a rule is one small segment, and nothing answers a reset."""
    daemon = serve(world)
    injector, listener = p.Injector(world), p.Listener(world)
    client, virtual, wrap = ((C4, V4, p.ipv4), (C6, V6, p.ipv6))[family == 6]
    for flags in (p.RST, p.RST | p.ACK):
        injector.send(wrap(client, virtual, p.TCP, p.tcp(client, virtual, 7000, 81, flags)))
    answers = [d for d in listener.packets(0.4)]
    expect(not answers, "%d packets answer a reset", len(answers))
    injector.send(wrap(client, virtual, p.TCP, p.tcp(client, virtual, 7000, 81)))
    answers = [d for d in listener.packets(0.4)]
    expect(len(answers) == 1 and len(answers[0]) <= 60, "%d packets answer a SYN without a rule", len(answers))
    injector.close()
    listener.close()
    expect(daemon.alive, "the daemon died")


@case(limit=30)
def control_socket_survives_nonsense(world):
    daemon = serve(world)
    for text in (b"", b"\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"\xff" * 1000,
                 b"GET / HTTP/9.9\r\n\r\n",
                 b"POST /api/v1/status HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(1)
            s.connect(daemon.control)
            try:
                s.sendall(text)
                answer = s.recv(4096)
                expect(b"root:" not in answer, "a file of the host was served")
            except (TimeoutError, ConnectionError):
                pass
    held = []
    for _ in range(200):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        try:
            s.connect(daemon.control)
        except OSError:
            s.close()
            break
        held.append(s)
    still_serves(world, daemon)
    for s in held:
        s.close()
    wait(lambda: daemon.status()["flow_count"] >= 0, 3, "answer of the control socket")
    mode = os.stat(daemon.control).st_mode & 0o777
    expect(mode == 0o600, "the control socket's mode is %o", mode)
