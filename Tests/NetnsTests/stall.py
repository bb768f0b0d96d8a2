"""A side that reads nothing: what the other sent is acknowledged all the same, no timer of its kernel runs, and nobody is cut.

A client's kernel would otherwise send again what the daemon keeps for the target, ever more slowly, and give up at last.
"""
import os
import random
import socket
import struct
import threading
import time

from harness.daemon import wait
from harness.namespaces import S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import MIB, blocks, digest, receive, receive_all, send_pattern
from harness.runner import BOTH, case, figure


def forward(family, **keys):
    return {"listen": at(VIRTUAL[family], 80), "target": at(TARGET[family], 8080)} | keys


class Sender:
    """What a kernel says of a connection that sends (TCP_INFO)."""

    def __init__(self, connection):
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        self.state, self.retransmits = data[0], data[2]
        self.unacknowledged, = struct.unpack_from("I", data, 24)
        self.retransmitted, = struct.unpack_from("I", data, 100)


def fill(connection, total, seed=77):
    """Sends as much of the pattern as the kernel takes; returns the count."""
    connection.setblocking(False)
    sent, idle_since = 0, time.monotonic()
    for block in blocks(total, seed):
        start = 0
        while start < len(block):
            try:
                start += connection.send(block[start:start + 256 * 1024])
                idle_since = time.monotonic()
            except BlockingIOError:
                if time.monotonic() - idle_since > 0.5:
                    return sent + start
                time.sleep(0.005)
        sent += len(block)
    return sent


def timeouts(namespace):
    """Retransmission timers that ran out in the namespace."""
    with namespace.entered(), open("/proc/thread-self/net/netstat") as f:
        names, values = (line.split() for line in f.readlines()[:2])
    return int(values[names.index("TCPTimeouts")])


def expect_at_rest(connection, seconds):
    """For so long nothing is on its way unacknowledged, and nothing is sent again."""
    wait(lambda: Sender(connection).unacknowledged == 0, 1, "acknowledgement of everything sent")
    before, deadline = Sender(connection).retransmitted, time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = Sender(connection)
        expect(now.state == 1, "the connection is in state %d", now.state)
        expect(now.unacknowledged == 0, "%d segments are unacknowledged", now.unacknowledged)
        expect(now.retransmits == 0 and now.retransmitted == before, "%d segments were sent again",
               now.retransmitted - before)
        time.sleep(0.05)


@case(limit=40, families=BOTH)
def what_a_stalled_target_was_sent_is_acknowledged(world, family):
    total, go = 64 * MIB, threading.Event()

    def handler(connection):
        go.wait(30)
        return receive_all(connection)

    server = world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        sent = fill(s, total)
        expect(sent < total, "64 MiB left the client while nobody read")
        expect_at_rest(s, 8)
        expect(daemon.flows() == 1, "the flow is gone")
        expect(int(daemon.status()["counters"]["stalls_relieved"]) > 0, "no stall was relieved")
        go.set()
        rest = iter(blocks(total))
        s.settimeout(30)
        skipped = sent
        for block in rest:
            if skipped < len(block):
                s.sendall(block[skipped:])
            skipped = max(0, skipped - len(block))
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, digest(total)), "not what was sent")


def standing(daemon):
    """What each thread may do, by its name: the kernel's words of capability sets and the rest."""
    found, folder = {}, "/proc/%d/task" % daemon.process.pid
    for thread in os.listdir(folder):
        with open(os.path.join(folder, thread, "status")) as f:
            words = dict(line.split(":", 1) for line in f.read().splitlines())
        found.setdefault(words["Name"].strip(), []).append({k: v.split() for k, v in words.items()})
    return found


@case(limit=40)
def a_daemon_that_gave_up_root_relieves_too(world):
    """With that one capability in the threads that need it, and none in the others."""
    network, none = "%016x" % (1 << 12), "%016x" % 0
    go = threading.Event()

    def handler(connection):
        go.wait(30)
        return receive_all(connection)

    os.chmod(world.scratch, 0o755)
    server = world.serve(handler, S4, 8080)
    daemon = world.daemon([forward(4)], daemon={"user": "nobody"})
    with world.client.connect(V4, 80) as s:
        sent = fill(s, 64 * MIB)
        expect_at_rest(s, 5)
        expect(int(daemon.status()["counters"]["stalls_relieved"]) > 0, "no stall was relieved")
        threads = standing(daemon)
        expect("ferry-worker-0" in threads, "no worker among %s", sorted(threads))
        for name, each in threads.items():
            held = network if name == "ferry-device" or name.startswith("ferry-worker-") else none
            for words in each:
                expect(words["Uid"] == ["65534"] * 4, "%s runs as %s", name, words["Uid"])
                expect(words["CapPrm"] == words["CapEff"] == [held], "%s holds %s", name, words["CapPrm"])
                expect(words["CapInh"] == words["CapAmb"] == [none], "%s could pass on capabilities", name)
                expect(words["NoNewPrivs"] == ["1"] or held == none, "%s could gain more", name)
        go.set()
        s.setblocking(True)
        s.shutdown(socket.SHUT_WR)
        expect(server.result()[0] == sent, "not what was sent")


@case(limit=40)
def a_target_that_stalls_again_and_again_loses_nothing(world):
    total, source = 24 * MIB, random.Random(5)
    stalls = [source.randrange(total) for _ in range(12)]

    def handler(connection):
        left = sorted(stalls)

        def pause(count):
            if left and count >= left[0]:
                left.pop(0)
                time.sleep(0.6)
        return receive_all(connection, pause)

    server = world.serve(handler, S4, 8080)
    world.daemon([forward(4)])
    with world.client.connect(V4, 80, timeout=30) as s:
        send_pattern(s, total)
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, digest(total)), "not what was sent")
    # Left unacknowledged, each stall would let the client's retransmission timer run out at least once. The kernel's
    # probes for a lost tail, which come sooner, are no sign of it; a busy machine may be late now and then.
    expired = timeouts(world.client)
    figure("%d stalls, %d expired retransmission timers", len(stalls), expired)
    expect(expired < len(stalls) // 2, "in %d stalls the client's timer expired %d times", len(stalls), expired)


@case(limit=40, families=BOTH)
def a_client_that_reads_nothing_keeps_its_flow(world, family):
    total = 32 * MIB
    server = world.serve(lambda connection: send_pattern(connection, total), TARGET[family], 8080)
    daemon = world.daemon([forward(family, keepalive="1s")])
    with world.client.connect(VIRTUAL[family], 80, timeout=30) as s:
        first = receive(s, 1000)
        time.sleep(15)                  # longer than ten probes or keep-alive questions without an answer would take
        expect(daemon.flows() == 1, "the flow is gone")
        expect(server.results.empty(), "32 MiB left the server while nobody read")
        expect(first == bytes(next(blocks(total)))[:1000], "the first octets are not what was sent")
        rest = b"".join(bytes(b) for b in blocks(total))[1000:]
        expect(receive(s, total - 1000) == rest, "not what was sent")
        expect(not s.recv(1), "octets beyond the end")
