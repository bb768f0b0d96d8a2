"""Slow and endless peers: byte-exact back-pressure with bounded memory, and no flow that starves another."""
import contextlib
import hashlib
import os
import random
import re
import socket
import threading
import time

from harness.daemon import wait
from harness.namespaces import S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import MIB, ask, digest, drain_output, named, receive, receive_all, receive_until_reset, reset, send_pattern
from harness.runner import BOTH, case, tool_missing

FLOW_MEMORY = 16 * MIB      # far above the bound of one flow's buffers, far below what is sent


def forward(family, port=80, **keys):
    return {"listen": at(VIRTUAL[family], port), "target": at(TARGET[family], 8000 + port)} | keys


def reluctant(count_first=2.0):
    """A reader that sleeps, nibbles, sleeps again, and then reads on."""
    state = {"slept": 0}

    def pause(count):
        if state["slept"] < 40:
            state["slept"] += 1
            time.sleep(0.05)
    time.sleep(count_first)
    return pause


@case(limit=40, families=BOTH)
def slow_target_gets_every_octet(world, family):
    total = 48 * MIB
    server = world.serve(lambda c: receive_all(c, reluctant()), TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    before = daemon.resident()
    with world.client.connect(VIRTUAL[family], 80, timeout=30) as s:
        began = time.monotonic()
        sender = threading.Thread(target=send_pattern, args=(s, total), daemon=True)
        sender.start()
        time.sleep(1.5)
        expect(sender.is_alive(), "48 MiB left the client while nobody read: %.1f s", time.monotonic() - began)
        expect(daemon.resident() - before < FLOW_MEMORY, "one blocked flow holds %d MiB", (daemon.resident() - before) // MIB)
        sender.join(25)
        expect(not sender.is_alive(), "the upload stalled")
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, digest(total)), "not what was sent")


@case(limit=40, families=BOTH)
def slow_client_gets_every_octet(world, family):
    total = 48 * MIB

    def handler(connection):
        send_pattern(connection, total)
        return time.monotonic()

    server = world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    before = daemon.resident()
    with world.client.connect(VIRTUAL[family], 80, timeout=30) as s:
        pause = reluctant(1.5)
        expect(server.results.empty(), "48 MiB left the server while nobody read")
        expect(daemon.resident() - before < FLOW_MEMORY, "one blocked flow holds %d MiB", (daemon.resident() - before) // MIB)
        expect(receive_all(s, pause) == (total, digest(total)), "not what was sent")


@case(limit=40)
def endless_target_meets_a_client_that_never_reads(world):
    def endless(connection):
        block = bytes(MIB)
        while True:
            connection.sendall(block)

    world.serve(endless, S4, 8080)
    world.serve(named("here"), S4, 8081)
    daemon = world.daemon([forward(4), forward(4, port=81)])
    before = daemon.resident()
    deaf = [world.client.connect(V4, 80) for _ in range(8)]
    slowest = 0
    for _ in range(30):
        began = time.monotonic()
        with world.client.connect(V4, 81) as s:
            expect(ask(s) == "here", "no exchange beside the endless senders")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.1)
    expect(slowest < 1.0, "an exchange beside blocked flows took %.1f s", slowest)
    grown = daemon.resident() - before
    expect(grown < 8 * FLOW_MEMORY, "eight blocked flows hold %d MiB", grown // MIB)
    middle = daemon.resident()
    time.sleep(2)
    expect(daemon.resident() - middle < 4 * MIB, "memory still grows: %d MiB in 2 s", (daemon.resident() - middle) // MIB)
    for s in deaf:
        s.close()
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")


@case(limit=40)
def many_targets_that_speak_at_once_leave_the_device_its_turn(world):
    """Between two looks at what is ready, the worker reads 4 MiB from targets, and one flow's part more."""
    tool_missing("strace")
    said = threading.Event()

    def speak(connection):
        said.wait(20)
        connection.sendall(bytes(128 * 1024))
        connection.recv(1)

    world.serve(speak, S4, 8080)
    daemon = world.daemon([forward(4)], device={"queues": 1})
    trace = os.path.join(world.scratch, "trace")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(world.client.connect(V4, 80)) for _ in range(100)]
        tracer = daemon.trace_worker(world, "-o", trace, "-e", "trace=epoll_pwait2,readv", "-e", "signal=none")
        with daemon.stopped():
            said.set()
            wait(lambda: waiting_for(world) > 100 * 60_000, 10, "data in the targets' sockets")
        for s in clients:
            expect(len(receive(s, 128 * 1024)) == 128 * 1024, "a download fell short")
        tracer.terminate()
        tracer.wait()
    turns, octets = [], 0
    with open(trace) as lines:
        for line in lines:
            if line.startswith("epoll_pwait2"):
                turns.append(octets)
                octets = 0
            elif line.startswith("readv") and (found := re.search(r"= (\d+)$", line)):
                octets += int(found[1])
    expect(max(turns) <= 4 * MIB + 256 * 1024, "a turn read %d octets", max(turns))
    expect(max(turns) > 2 * MIB, "no turn had much to read: %d octets", max(turns))


def waiting_for(world):
    """Octets in the receive queues of connections to the targets' port."""
    rows = world.host.run(["ss", "-tnH", "dport", "=", ":8080"]).splitlines()
    return sum(int(row.split()[1]) for row in rows)


@case(limit=40)
def memory_of_a_burst_goes_back_when_nothing_is_kept(world):
    def endless(connection):
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(MIB))

    world.serve(endless, S4, 8080)
    daemon = world.daemon([forward(4)], device={"queues": 1})
    before = daemon.resident_data()
    deaf = [world.client.connect(V4, 80) for _ in range(64)]
    wait(lambda: daemon.resident_data() - before > 12 * MIB, 10, "memory for 64 blocked flows")
    for s in deaf:
        reset(s)
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")
    wait(lambda: daemon.resident_data() - before < 4 * MIB, 5, "the memory given back")


@case(limit=40)
def blocked_flow_costs_no_processor_time(world):
    """A closed window is waited for, not polled."""
    world.serve(lambda c: (time.sleep(30), None), S4, 8080)
    daemon = world.daemon([forward(4)])

    def seconds():
        with open("/proc/%d/stat" % daemon.process.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    s = world.client.connect(V4, 80, timeout=1)
    try:
        send_pattern(s, 64 * MIB)
    except TimeoutError:
        pass
    before = seconds()
    time.sleep(4)
    used = seconds() - before
    expect(used < 0.2, "a blocked flow used %.2f s of processor time in 4 s", used)
    reset(s)


@case(limit=30)
def window_opens_again_after_a_long_stop(world):
    """Longer than several probe intervals: no probe, update or timer may end the flow."""
    def handler(connection):
        time.sleep(8)
        return receive_all(connection)

    total = 16 * MIB
    server = world.serve(handler, S4, 8080)
    world.daemon([forward(4)])
    with world.client.connect(V4, 80, timeout=25) as s:
        send_pattern(s, total)
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, digest(total)), "not what was sent")


@case(limit=30)
def reset_after_a_stall_still_delivers_what_came_before(world):
    """The client reads slowly; what it was sent lies in the daemon when the target resets."""
    total = MIB // 2

    def handler(connection):
        send_pattern(connection, total)
        drain_output(connection)
        reset(connection)

    world.serve(handler, S4, 8080)
    world.daemon([forward(4)])
    s = world.client.socket(V4)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    s.settimeout(20)
    s.connect((V4, 80))
    time.sleep(0.7)
    expect(receive_until_reset(s, lambda count: time.sleep(0.002)) == (total, digest(total)), "not every octet came before the reset")
    s.close()


@case(limit=30, families=BOTH)
def tiny_writes_keep_their_order(world, family):
    server = world.serve(receive_all, TARGET[family], 8080)
    world.daemon([forward(family)])
    total = 20_000
    data = random.Random(3).randbytes(total)
    with world.client.connect(VIRTUAL[family], 80) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(0, total, 7):
            s.sendall(data[n:n + 7])
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, hashlib.sha256(data).hexdigest()), "not what was sent")
