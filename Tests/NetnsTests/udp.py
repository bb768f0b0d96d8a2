"""Datagrams: sessions by five-tuple, sizes from nothing to more than the MTU, DNS, refusals, expiry."""
import random
import socket
import subprocess
import time

from harness import dns
from harness.daemon import wait
from harness.namespaces import C4, S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import echo_datagram
from harness.runner import BOTH, case, tool_missing

SIZES = (0, 1, 64, 512, 1200, 1452, 1472)       # 1472 fills an IPv4 MTU of 1500, 1452 an IPv6 one


def forward(family, port=53, **keys):
    return {"protocol": "udp", "listen": at(VIRTUAL[family], port), "target": at(TARGET[family], 5353)} | keys


def exchange(s, data, attempts=1):
    """Sends and expects the same back."""
    for attempt in range(attempts):
        s.send(data)
        try:
            got = s.recv(65536)
        except TimeoutError:
            if attempt + 1 < attempts:
                continue
            raise
        expect(got == data, "%d octets came back for %d, or others", len(got), len(data))
        return


@case(families=BOTH)
def echo_of_every_size_within_the_mtu(world, family):
    server = world.serve_datagrams(echo_datagram, TARGET[family], 5353)
    daemon = world.daemon([forward(family)])
    with world.client.datagrams(VIRTUAL[family], 53) as s:
        for size in SIZES if family == 4 else SIZES[:-1]:
            exchange(s, random.Random(size).randbytes(size))
    expect(len(server.peers) == 1, "one client came from %d source ports", len(server.peers))
    expect(daemon.flows() == 1, "%d sessions stand for one client", daemon.flows())


@case(families=BOTH)
def datagram_beyond_the_mtu_is_delivered_or_counted(world, family):
    """Fragments are dropped and counted until they are reassembled; nothing may vanish uncounted."""
    world.serve_datagrams(echo_datagram, TARGET[family], 5353)
    daemon = world.daemon([forward(family)])
    reasons = ("fragment", "bad-fragment", "reassembly-full", "datagram-too-large")
    for size in (1473, 2000, 4000, 8192, 65507 if family == 4 else 65487):
        before = daemon.drops(*reasons)
        with world.client.datagrams(VIRTUAL[family], 53, timeout=0.7) as s:
            try:
                exchange(s, random.Random(size).randbytes(size))
                continue
            except TimeoutError:
                pass
        expect(daemon.drops(*reasons) > before, "%d octets neither came back nor were counted", size)


@case(families=BOTH)
def answer_beyond_the_mtu_is_delivered_or_counted(world, family):
    world.serve_datagrams(lambda data, peer: b"a" * int(data), TARGET[family], 5353)
    daemon = world.daemon([forward(family)])
    for size in (1600, 3000, 9000):
        before = daemon.drops("datagram-too-large")
        with world.client.datagrams(VIRTUAL[family], 53, timeout=0.7) as s:
            s.send(b"%d" % size)
            try:
                expect(len(s.recv(65536)) == size, "an answer of another size than %d", size)
                continue
            except TimeoutError:
                pass
        expect(daemon.drops("datagram-too-large") > before, "an answer of %d octets was neither delivered nor counted", size)


@case(families=BOTH)
def refused_target_refuses_the_client(world, family):
    world.daemon([forward(family)])
    with world.client.datagrams(VIRTUAL[family], 53) as s:
        s.send(b"anyone?")
        try:
            expect(False, "an answer: %r", s.recv(100))
        except ConnectionRefusedError:
            pass


@case(families=BOTH)
def no_rule_refuses_the_client(world, family):
    world.daemon([forward(family)])
    with world.client.datagrams(VIRTUAL[family], 54) as s:
        s.send(b"anyone?")
        try:
            expect(False, "an answer: %r", s.recv(100))
        except ConnectionRefusedError:
            pass


@case()
def no_rule_is_silence_when_unmatched_is_drop(world):
    daemon = world.daemon([forward(4)], daemon={"unmatched": "drop"})
    with world.client.datagrams(V4, 54, timeout=0.7) as s:
        s.send(b"anyone?")
        try:
            expect(False, "an answer: %r", s.recv(100))
        except TimeoutError:
            pass
    expect(daemon.drops("no-rule") == 1, "counted %d times", daemon.drops("no-rule"))


@case()
def target_that_comes_up_later_is_reached_by_the_same_socket(world):
    world.daemon([forward(4)])
    with world.client.datagrams(V4, 53, timeout=0.5) as s:
        s.send(b"early")
        try:
            s.recv(100)
        except (ConnectionRefusedError, TimeoutError):
            pass
        world.serve_datagrams(echo_datagram, S4, 5353)
        for _ in range(4):
            try:
                exchange(s, b"later", attempts=3)
                return
            except ConnectionRefusedError:
                continue        # told of the first datagram's fate, which is the past
        expect(False, "still refused")


@case()
def every_client_has_a_session_of_its_own(world):
    server = world.serve_datagrams(lambda data, peer: data + b" %d" % peer[1], S4, 5353)
    daemon = world.daemon([forward(4)])
    sockets = [world.client.datagrams(V4, 53) for _ in range(300)]
    answers = []
    for number, s in enumerate(sockets):
        s.send(b"%d" % number)
    for number, s in enumerate(sockets):
        mine, port = s.recv(100).split()
        expect(int(mine) == number, "client %d got the answer of %s", number, mine)
        answers.append(port)
    expect(len(set(answers)) == len(server.peers) == 300, "300 clients came from %d source ports", len(server.peers))
    expect(daemon.flows() == 300, "%d sessions for 300 clients", daemon.flows())
    for s in sockets:
        s.close()


@case()
def idle_session_expires_and_an_active_one_does_not(world):
    world.serve_datagrams(echo_datagram, S4, 5353)
    daemon = world.daemon([forward(4, udp_timeout="1s")])
    before = daemon.descriptors()
    idle, active = world.client.datagrams(V4, 53), world.client.datagrams(V4, 53)
    exchange(idle, b"once")
    expect(daemon.flows() == 1, "%d sessions for one client", daemon.flows())
    for _ in range(12):
        exchange(active, b"again")
        time.sleep(0.25)
    expect(daemon.flows() == 1, "%d sessions after 3 s with one active client", daemon.flows())
    wait(lambda: daemon.flows() == 0, 4, "expiry of the last session")
    wait(lambda: daemon.descriptors() <= before + 2, 2, "closing of its socket")
    exchange(idle, b"anew")
    idle.close()
    active.close()


@case()
def target_that_sends_unasked_is_heard_while_the_session_stands(world):
    def handler(data, peer):
        return [b"%d" % n for n in range(50)]
    world.serve_datagrams(handler, S4, 5353)
    world.daemon([forward(4)])
    with world.client.datagrams(V4, 53) as s:
        s.send(b"go")
        got = [int(s.recv(100)) for _ in range(50)]
        expect(got == list(range(50)), "out of order or lost: %s", got)


@case()
def zero_length_answers_are_no_end_of_stream(world):
    world.serve_datagrams(lambda data, peer: [b"", b"", data], S4, 5353)
    world.daemon([forward(4)])
    with world.client.datagrams(V4, 53) as s:
        for _ in range(20):
            s.send(b"x")
            expect([s.recv(10) for _ in range(3)] == [b"", b"", b"x"], "empty datagrams were lost")


@case(limit=30, families=BOTH)
def dns_answers_of_every_size_with_dig(world, family):
    tool_missing("dig")
    world.serve_datagrams(dns.answer, TARGET[family], 5353)
    world.daemon([forward(family)])
    for size in (1, 400, 512, 1000, 1200):
        done = subprocess.run(world.client.argv(
            ["dig", "@" + VIRTUAL[family], "-p", "53", "+bufsize=1232", "+tries=2", "+time=2", "+short", "+ignore",
             "-t", "TXT", "n%d.test" % size]), capture_output=True, text=True, timeout=10)
        expect(done.returncode == 0, "dig exited with %d: %s", done.returncode, done.stdout[:200])
        got = done.stdout.replace('"', "").replace(" ", "").strip()
        expect(got == dns.text(size).decode(), "an answer of %d octets for %d", len(got), size)


@case(limit=30)
def thousands_of_queries_in_a_row_are_all_answered(world):
    """Each from a port of its own, as a resolver would; sequential, so that nothing may be lost to full queues."""
    world.serve_datagrams(dns.answer, S4, 5353)
    world.daemon([forward(4)])
    for number in range(3000):
        with world.client.datagrams(V4, 53) as s:
            s.send(dns.query(number, "n64.test"))
            got = s.recv(2048)
            expect(got[:2] == number.to_bytes(2, "big") and dns.text(64) in got, "query %d: a wrong answer", number)


@case()
def client_sees_the_virtual_address_as_source(world):
    world.serve_datagrams(echo_datagram, S4, 5353)
    world.daemon([forward(4)])
    s = world.client.socket(V4, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.bind((C4, 0))
    s.sendto(b"hello", (V4, 53))
    data, source = s.recvfrom(100)
    s.close()
    expect((data, source) == (b"hello", (V4, 53)), "%r came from %s", data, source)


@case(limit=30, families=BOTH)
def bursts_keep_their_order_and_borders(world, family):
    """Bursts of equal datagrams are what segmentation offload joins: borders and order must survive."""
    got = []
    world.serve_datagrams(lambda data, peer: got.append(data), TARGET[family], 5353)
    world.daemon([forward(family)])
    with world.client.datagrams(VIRTUAL[family], 53) as s:
        s.setsockopt(17, 103, 1200)                                # SOL_UDP, UDP_SEGMENT: the kernel's own bursts
        for burst in range(20):
            s.send(b"".join(b"%06d" % (burst * 10 + n) + bytes(1194) for n in range(10)))
            wait(lambda: len(got) >= burst * 10 + 10, 2, "all ten of burst %d" % burst)
    expect([int(d[:6]) for d in got] == list(range(200)), "order was lost")
    expect({len(d) for d in got} == {1200}, "sizes are %s", {len(d) for d in got})
