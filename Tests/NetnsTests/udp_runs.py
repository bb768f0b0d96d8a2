"""Datagrams that programs send and receive by the dozen (UDP_SEGMENT, UDP_GRO): their borders, their order, refusals."""
import contextlib
import os
import random
import re
import socket
import struct

from harness.daemon import wait
from harness.namespaces import TARGET, V4, VIRTUAL, at, expect
from harness.peers import MIB, SO_RCVBUFFORCE
from harness.runner import BOTH, case, tool_missing

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
PMTUDISC_DONT, PMTUDISC_DO = 0, 2
# Datagrams' length, and octets of the whole burst: the last datagram may be shorter.
BURSTS = ((1200, 12_000), (1200, 48_005), (64, 64 * 64), (64, 65), (1, 64), (500, 1500), (1452, 1452 * 40 + 1),
          (9, 9 * 60 + 8))


def forward(family, listen=53, port=5353):
    return {"protocol": "udp", "listen": at(VIRTUAL[family], listen), "target": at(TARGET[family], port)}


def joined(s):
    """Has the kernel give datagrams joined."""
    s.setsockopt(SOL_UDP, UDP_GRO, 1)
    return s


def target(world, family, port=5353):
    s = joined(world.servers.socket(TARGET[family], socket.SOCK_DGRAM))
    s.settimeout(3)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * MIB)
    s.bind((TARGET[family], port))
    return s


def send(s, data, segment, peer=None):
    control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", segment))] if segment and len(data) > segment else []
    s.sendmsg([data], control, 0, *([peer] if peer else []))


def cut(data, segment):
    return [data[at:at + segment] for at in range(0, len(data), segment)] if data else [b""]


class Receiver:
    """Takes datagrams from a socket that may get them joined; counts those that came so."""

    def __init__(self, s):
        self.socket, self.joined, self.peer = s, 0, None

    def take(self, count):
        got = []
        while len(got) < count:
            data, control, _, self.peer = self.socket.recvmsg(65_536, 128)
            segment = next((struct.unpack("=i", d[:4])[0] for level, kind, d in control
                            if (level, kind) == (SOL_UDP, UDP_GRO)), 0)
            parts = cut(data, segment) if segment else [data]
            self.joined += len(parts) if len(parts) > 1 else 0
            got += parts
        return got


def expect_same(got, sent, what):
    expect(list(map(len, got)) == list(map(len, sent)), "%s: lengths %s for %s", what,
           list(map(len, got))[:80], list(map(len, sent))[:80])
    expect(got == sent, "%s: other octets", what)


@case(families=BOTH)
def bursts_arrive_at_the_target_as_they_were_sent(world, family):
    with target(world, family) as server:
        world.daemon([forward(family)])
        receiver = Receiver(server)
        with world.client.datagrams(VIRTUAL[family], 53) as s:
            for segment, octets in BURSTS:
                data = random.Random(octets).randbytes(octets)
                send(s, data, segment)
                sent = cut(data, segment)
                expect_same(receiver.take(len(sent)), sent, "%d by %d" % (octets, segment))
        expect(receiver.joined > 100, "%d datagrams came joined: they went one by one", receiver.joined)


@case(families=BOTH)
def bursts_arrive_at_the_client_as_they_were_sent(world, family):
    for gro in (True, False):
        daemon = world.daemon([forward(family)], device={"name": "pf%d" % gro})
        with target(world, family) as server, world.client.datagrams(VIRTUAL[family], 53) as s:
            s.send(b"?")
            _, peer = server.recvfrom(10)
            receiver = Receiver(joined(s) if gro else s)
            for segment, octets in BURSTS:
                data = random.Random(octets).randbytes(octets)
                send(server, data, segment, peer)
                sent = cut(data, segment)
                expect_same(receiver.take(len(sent)), sent, "%d by %d" % (octets, segment))
            expect(not gro or receiver.joined > 100, "%d datagrams came joined: they went one by one", receiver.joined)
            expect(daemon.drops("device-write-failed") == 0, "the device refused some")
        daemon.stop()


@case(families=BOTH)
def singles_of_all_lengths_keep_their_borders_both_ways(world, family):
    """What may be joined, and what may not: equal lengths, shorter, longer, empty."""
    lengths = [5, 5, 5, 3, 3, 0, 0, 3, 100, 100, 99, 100, 100, 1400, 1400, 1, 0, 1, 1, 1452, 1452, 7]
    world.daemon([forward(family)])
    for seed in range(6):
        random.Random(seed).shuffle(lengths)
        sent = [bytes([seed * 30 + number]) * octets for number, octets in enumerate(lengths)]
        with target(world, family) as server, joined(world.client.datagrams(VIRTUAL[family], 53)) as s:
            for data in sent:
                s.send(data)
            receiver = Receiver(server)
            expect_same(receiver.take(len(sent)), sent, "to the target, seed %d" % seed)
            for data in sent:
                server.sendto(data, receiver.peer)
            expect_same(Receiver(s).take(len(sent)), sent, "to the client, seed %d" % seed)


def narrow(world, mtu):
    for namespace in (world.host, world.servers):
        namespace.ip("link set pfs0 mtu %d" % mtu)
    world.before = world.snapshot()


@case()
def bursts_of_datagrams_longer_than_the_targets_path_lose_nothing(world):
    """The kernel sends no run of datagrams beyond the MTU: they go one by one, in fragments."""
    narrow(world, 1300)
    daemon = world.daemon([forward(4)])
    with target(world, 4) as server, world.client.datagrams(VIRTUAL[4], 53) as s:
        s.setsockopt(*MTU_DISCOVER[4], PMTUDISC_DONT)
        receiver = Receiver(server)
        for segment, octets in ((1400, 28_000), (1000, 10_000), (1400, 14_003), (1300, 2600), (1200, 24_001)):
            data = random.Random(octets).randbytes(octets)
            send(s, data, segment)
            sent = cut(data, segment)
            expect_same(receiver.take(len(sent)), sent, "%d by %d" % (octets, segment))
        expect(receiver.joined > 20, "%d of the shorter datagrams came joined", receiver.joined)
        expect(daemon.drops("datagram-too-large", "target-write-failed") == 0, "some were dropped")


@case(families=BOTH)
def bursts_of_datagrams_that_may_not_be_fragmented_are_counted_one_by_one(world, family):
    narrow(world, 1300)
    daemon = world.daemon([forward(family)])
    with target(world, family) as server:
        receiver = Receiver(server)
        for _ in range(2):
            with world.client.datagrams(VIRTUAL[family], 53) as s:
                s.setsockopt(*MTU_DISCOVER[family], PMTUDISC_DO)
                before = daemon.drops("datagram-too-large")
                data = random.Random(7).randbytes(12_000)
                send(s, data, 1000)
                sent = cut(data, 1000)
                expect_same(receiver.take(len(sent)), sent, "datagrams that fit")
                if before:      # the client's kernel has learnt the path's MTU
                    continue
                send(s, random.Random(8).randbytes(28_000), 1400)
                wait(lambda: daemon.drops("datagram-too-large") == 20, 3, "counting of all twenty")
        expect(daemon.drops("target-write-failed") == 0, "others were dropped")


@case()
def run_that_this_host_forbids_is_counted_datagram_by_datagram(world):
    daemon = world.daemon([forward(4)])
    world.host.nft("table inet shut { chain output { type filter hook output priority 0; udp dport 5353 drop\n }\n }")
    with world.client.datagrams(V4, 53) as s:
        send(s, random.Random(1).randbytes(12_000), 1000)
        wait(lambda: daemon.drops("target-write-failed") == 12, 3, "counting of all twelve")


@case()
def refusals_of_datagrams_lose_none_of_those_behind_them(world):
    """A closed port's answer to one datagram fails the send of the next, which is sent again: each time."""
    world.host.ip("link set lo mtu 1300")       # no runs: they go one by one, in fragments
    world.before = world.snapshot()
    daemon = world.daemon([forward(4) | {"target": "127.0.0.1:5353"}])
    with world.client.datagrams(V4, 53) as s:
        s.setsockopt(*MTU_DISCOVER[4], PMTUDISC_DONT)
        send(s, random.Random(2).randbytes(28_000), 1400)
        wait(lambda: daemon.drops("target-write-failed") or int(daemon.status()["rules"][0]["octets_up"]) == 28_000, 3,
             "counting of all twenty")
        expect(daemon.drops("target-write-failed") == 0, "%d were dropped", daemon.drops("target-write-failed"))


@case(families=BOTH)
def a_kernel_without_runs_gets_datagrams_one_by_one(world, family):
    """The worker's fifth setsockopt is its first session's UDP_GRO. Linux 4.17 would send a run as one datagram."""
    tool_missing("strace")
    daemon = world.daemon([forward(family)], device={"queues": 1})
    trace = os.path.join(world.scratch, "trace")
    daemon.trace_worker(world, "-o", trace, "-e", "trace=setsockopt", "-e", "inject=setsockopt:error=ENOPROTOOPT:when=5")
    with target(world, family) as server, world.client.datagrams(VIRTUAL[family], 53) as s:
        receiver = Receiver(server)
        for segment, octets in BURSTS:
            data = random.Random(octets).randbytes(octets)
            send(s, data, segment)
            sent = cut(data, segment)
            expect_same(receiver.take(len(sent)), sent, "%d by %d" % (octets, segment))
    with open(trace) as lines:
        failed = [line for line in lines if "INJECTED" in line]
    expect(len(failed) == 1 and re.search("UDP_GRO|0x68", failed[0]), "another call than UDP_GRO failed: %s", failed)
    expect(receiver.joined == 0, "%d datagrams came joined", receiver.joined)
    expect(daemon.drops("target-write-failed") == 0, "some were dropped")


@case(families=BOTH)
def sessions_take_turns_where_the_device_takes_no_runs(world, family):
    """A run is one message of the target's, and a write to the device for each of its datagrams."""
    daemon = world.daemon([forward(family), forward(family, 54, 5454)], device={"offload": False, "queues": 1})
    with target(world, family) as first, target(world, family, 5454) as second, \
            world.client.socket(VIRTUAL[family], socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * MIB)
        peers = []
        for port, server in ((53, first), (54, second)):
            s.sendto(b"?", (VIRTUAL[family], port))
            peers.append(server.recvfrom(10)[1])
        with daemon.stopped():
            for _ in range(10):
                for server, peer, octet in zip((first, second), peers, (b"1", b"2")):
                    send(server, octet * 64 * 9, 9, peer)
        got = [s.recv(10)[:1] for _ in range(2 * 10 * 64)]
        alone = next(number for number, octet in enumerate(got) if octet != got[0])
        expect(alone <= 256, "%d datagrams of one session came before any of the other", alone)


@case(families=BOTH)
def a_burst_of_replies_waits_in_the_socket_or_is_counted(world, family):
    daemon = world.daemon([forward(family) | {"udp_timeout": "1s"}])
    with target(world, family) as server, world.client.datagrams(VIRTUAL[family], 53) as s:
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 * MIB)
        s.send(b"?")
        peer = server.recvfrom(10)[1]
        with daemon.stopped():
            for number in range(1000):
                server.sendto(b"%64d" % number, peer)
        got = [int(s.recv(100)) for _ in range(1000)]
        expect(got == list(range(1000)), "1000 replies came as %s...", got[:20])
        with daemon.stopped():
            for number in range(8000):
                server.sendto(b"%64d" % number, peer)
        s.settimeout(0.5)
        received = 0
        with contextlib.suppress(TimeoutError):
            while s.recv(100):
                received += 1
        wait(lambda: daemon.flows() == 0, 5, "end of the session")
        lost = daemon.drops("target-queue-full")
        expect(received < 8000 and received + lost == 8000, "%d replies came, %d were counted as lost", received, lost)
