"""Several workers, each with a queue of the device: every flow lives on one, whatever the kernel does with its packets.

Where the kernel runs the daemon's steering program, ordinary packets come to the right worker, and only what has no ports to
see (fragments, ICMP errors) is handed over. Where it refuses the program, a flow lives where its first packet came.
"""
import asyncio
import collections
import os
import re
import socket
import struct
import time

import bulk
import concurrency
from harness import packets
from harness.daemon import wait
from harness.namespaces import C4, CLIENT, S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import MIB, ask, echo, echo_datagram, named, receive, reset
from harness.runner import BOTH, case, figure, tool_missing

# The daemon's bpf(2) fails as it does without the right to load programs.
WITHOUT_STEERING = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=bpf", "-e", "inject=bpf:error=EPERM"]


def web(family=4, **keys):
    return {"name": "web", "protocol": "tcp+udp", "listen": at(VIRTUAL[family], 80), "target": at(TARGET[family], 8080)} | keys


def homes(daemon, expected):
    """Flows by worker, each flow once."""
    status = daemon.status()
    flows = status["flows"]
    expect(len(flows) == int(status["flow_count"]) == expected, "%d flows listed, %d counted, %d are open", len(flows),
           status["flow_count"], expected)
    seen = collections.Counter((f["protocol"], f["client"], f["virtual"]) for f in flows)
    twice = [flow for flow, count in seen.items() if count > 1]
    expect(not twice, "flows that live twice: %s", twice[:3])
    found = collections.defaultdict(list)
    for f in flows:
        found[int(f["worker"])].append(f)
    return found


def handed_over(daemon):
    return int(daemon.status()["counters"]["packets_handed_over"])


def crowd(world, family, count):
    """TCP clients and UDP clients, each proven by an exchange."""
    streams = [world.client.connect(VIRTUAL[family], 80, timeout=10) for _ in range(count)]
    sessions = [world.client.datagrams(VIRTUAL[family], 80) for _ in range(count)]
    exchange_all(streams + sessions)
    return streams, sessions


def exchange_all(clients, octets=700):
    for number, s in enumerate(clients):
        s.sendall(b"%07d" % number * (octets // 7))
    for number, s in enumerate(clients):
        expect(receive(s, octets) == b"%07d" % number * (octets // 7), "client %d got another's octets", number)


def serve(world, family):
    world.serve(echo, TARGET[family], 8080)
    world.serve_datagrams(echo_datagram, TARGET[family], 8080)


def expect_spread(found, workers, flows, beside=8):
    """Dealt to who has fewer, but for the few whose part has a home already."""
    mean = flows / workers
    counts = [len(found[n]) for n in range(workers)]
    expect(sum(counts) == flows and all(abs(c - mean) <= beside for c in counts), "flows by worker: %s", counts)


def spread(world, family, workers):
    serve(world, family)
    daemon = world.daemon([web(family)], device={"queues": workers})
    expect(int(daemon.status()["workers"]) == workers, "%s workers", daemon.status()["workers"])
    streams, sessions = crowd(world, family, 150)
    expect_spread(homes(daemon, 300), workers, 300)
    expect(handed_over(daemon) == 0, "%d packets came to the wrong worker", handed_over(daemon))
    for s in streams + sessions:
        s.close()


@case(limit=40, families=BOTH)
def two_workers_share_the_flows(world, family):
    spread(world, family, 2)


@case(limit=40, families=BOTH)
def four_workers_share_the_flows(world, family):
    spread(world, family, 4)


@case(limit=40)
def few_flows_are_spread_too(world):
    """Two streams are never left to one worker, nor are those that come when others have gone."""
    serve(world, 4)
    daemon = world.daemon([web()], device={"queues": 2})
    together = 0                        # of one part by chance, once in 16384
    for _ in range(20):
        pair = [world.client.connect(V4, 80) for _ in range(2)]
        exchange_all(pair)
        together += len(homes(daemon, 2)) == 1
        for s in pair:
            reset(s)
        wait(lambda: daemon.flows() == 0, 3, "no flows")
    expect(together <= 1, "%d of 20 pairs lived on one worker", together)
    expect(handed_over(daemon) == 0, "%d packets came to the wrong worker", handed_over(daemon))


@case(limit=60)
def two_thousand_flows_on_four_workers(world):
    daemon = world.daemon([web()], device={"queues": 4}, daemon={"max_flows": 8192})

    def meanwhile():
        expect(daemon.flows() == 2000, "%d flows stand, 2000 are open", daemon.flows())

    asyncio.run(concurrency.Crowd(world, 4, 2000).run(meanwhile))
    wait(lambda: daemon.flows() == 0, 10, "end of the flows")
    expect(handed_over(daemon) == 0, "%d packets came to the wrong worker", handed_over(daemon))


def serve_streams(world):
    tool_missing("iperf3")
    world.spawn(world.servers, ["iperf3", "-s", "-B", S4, "-p", 5201])
    wait(lambda: ":5201" in world.servers.run(["ss", "-Hltn"]), 5, "listening iperf3")


def streams(world, workers):
    serve_streams(world)
    os.chmod(world.scratch, 0o755)
    daemon = world.daemon([bulk.forward(4, 5201)], device={"queues": workers}, daemon={"user": "nobody"})
    up, down = (bulk.iperf(world, "-c", V4, "-P", 8, "-t", 2, *way) for way in ((), ("-R",)))
    figure("%d workers, client and server on the same cores: %.1f Gbit/s up, %.1f down", workers, up * 8 / 2e9, down * 8 / 2e9)
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")
    expect(handed_over(daemon) == 0, "%d packets came to the wrong worker", handed_over(daemon))


@case(limit=40)
def eight_streams_on_one_worker(world):
    streams(world, 1)


@case(limit=40)
def eight_streams_on_two_workers(world):
    streams(world, 2)


@case(limit=40)
def eight_streams_on_four_workers(world):
    streams(world, 4)


# What has no ports to see.

@case(families=BOTH)
def fragments_meet_and_find_their_session(world, family):
    """All fragments between two addresses come to one worker, and the datagram to its session's."""
    serve(world, family)
    daemon = world.daemon([web(family)], device={"queues": 4})
    sessions = [world.client.datagrams(VIRTUAL[family], 80) for _ in range(24)]
    for size in (2000, 7000, 2000):
        exchange_all(sessions, size // 7 * 7)
    found = homes(daemon, 24)
    expect(len(found) > 1, "all sessions live on one worker")
    elsewhere = 24 - max(len(each) for each in found.values())
    expect(handed_over(daemon) >= elsewhere, "%d packets were handed over", handed_over(daemon))
    expect(daemon.drops("hand-over-full", "fragment-timeout") == 0, "packets were lost on the way")
    for s in sessions:
        s.close()


@case(families=BOTH)
def packets_with_extra_headers_find_their_session(world, family):
    """IPv4 options are looked past; behind an IPv6 extension header the ports are not, and the packet is handed over."""
    serve(world, family)
    daemon = world.daemon([web(family)], device={"queues": 4})
    client, virtual = CLIENT[family], VIRTUAL[family]
    sessions = [world.client.datagrams(virtual, 80) for _ in range(24)]
    exchange_all(sessions)
    before = homes(daemon, 24)
    injector = packets.Injector(world)
    for s in sessions:
        datagram = packets.udp(client, virtual, s.getsockname()[1], 80, b"extra")
        if family == 4:
            injector.send(packets.ipv4(client, virtual, packets.UDP, datagram, options=b"\x01" * 8))
        else:
            injector.send(packets.ipv6(client, virtual, 60, packets.extension(packets.UDP, b"\x01\x04\0\0\0\0") + datagram))
    for s in sessions:
        expect(s.recv(100) == b"extra", "another answer")
    injector.close()
    after = homes(daemon, 24)
    expect({n: len(f) for n, f in before.items()} == {n: len(f) for n, f in after.items()}, "sessions moved")
    moved = handed_over(daemon)
    expect(moved == 0 if family == 4 else moved > 0, "%d packets were handed over", moved)
    for s in sessions:
        s.close()


@case()
def icmp_errors_find_the_flow_that_they_are_about(world):
    serve(world, 4)
    daemon = world.daemon([web()], device={"queues": 4})
    sessions = [world.client.datagrams(V4, 80) for _ in range(24)]
    exchange_all(sessions)
    found = homes(daemon, 24)
    expect(len(found) > 1, "all sessions live on one worker")
    injector = packets.Injector(world)
    for s in sessions:
        answer = packets.ipv4(V4, C4, packets.UDP, packets.udp(V4, C4, 80, s.getsockname()[1], b"x" * 20))
        injector.send(packets.ipv4(C4, V4, packets.ICMP, packets.icmp(C4, V4, 3, 3, body=answer[:28])))
    wait(lambda: daemon.flows() == 0, 3, "end of sessions whose clients are gone")
    injector.close()
    ended = handed_over(daemon)
    expect(ended >= 24 - max(len(each) for each in found.values()), "%d errors were handed over", ended)
    for s in sessions:
        s.close()


# Bounds and rules are everybody's.

@case(limit=30)
def max_connections_is_exact_over_all_workers(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([web(max_connections=10)], device={"queues": 4})
    waiting = []
    for _ in range(60):
        s = world.client.socket(V4)
        s.setblocking(False)
        s.connect_ex((V4, 80))
        waiting.append(s)
    wait(lambda: daemon.flows() == 10, 5, "ten flows")
    wait(lambda: daemon.drops("rule-full") >= 50, 5, "the others' SYNs")
    expect(daemon.flows() == 10, "%d flows of ten", daemon.flows())
    for s in waiting:
        s.close()
    wait(lambda: daemon.flows() == 0, 10, "end of the flows")
    after = [world.client.connect(V4, 80) for _ in range(10)]
    expect([ask(s) for s in after] == ["here"] * 10, "the bound was met once, and fewer are let in since")
    expect(len(homes(daemon, 10)) > 1, "all flows live on one worker")
    for s in after:
        s.close()


@case(limit=30)
def reload_reaches_every_worker(world):
    world.serve(named("old"), S4, 8080)
    world.serve(named("new"), S4, 8081)
    daemon = world.daemon([web()], device={"queues": 4})
    before = [world.client.connect(V4, 80) for _ in range(40)]
    expect([ask(s) for s in before] == ["old"] * 40, "no exchange")
    daemon.reload([web(target=at(S4, 8081))])
    after = [world.client.connect(V4, 80) for _ in range(40)]
    expect([ask(s) for s in after] == ["new"] * 40, "a worker has the old rule")
    expect([ask(s) for s in before] == ["old"] * 40, "a flow lost its target")
    rules = daemon.status()["rules"]
    expect(sorted((r["retired"], r["active_flows"]) for r in rules) == [(False, 40), (True, 40)], "rules: %s", rules)
    for s in before:
        s.close()
    wait(lambda: len(daemon.status()["rules"]) == 1, 10, "end of the retired rule")
    daemon.reload([web(target=at(S4, 8081))], device=daemon.device | {"queues": 2})
    expect("device.queues needs a restart" in daemon.log(), "another number of queues was taken")
    for s in after:
        s.close()


# Kernels that do not steer, or have one queue only.

@case(limit=60, families=BOTH)
def without_steering_flows_live_where_they_began(world, family):
    tool_missing("strace")
    serve(world, family)
    daemon = world.daemon([web(family)], device={"queues": 4}, prefix=WITHOUT_STEERING)
    daemon.wait_log(r"steers packets its own way.*EPERM")
    streams, sessions = crowd(world, family, 150)
    expect_spread(homes(daemon, 300), 4, 300, beside=6 * (75 * 3 / 4) ** 0.5)       # by the kernel's hash
    figure("%d packets handed over for 300 flows", handed_over(daemon))
    exchange_all(streams + sessions, 7000)
    homes(daemon, 300)
    expect(daemon.drops("hand-over-full") == 0, "packets were lost on the way")
    for s in sessions:
        s.close()
    for s in streams:
        s.close()


@case(limit=60)
def without_steering_bulk_is_exact(world):
    tool_missing("strace")
    bulk.start_web(world, 4)
    daemon = world.daemon([bulk.forward(4)], device={"queues": 4}, prefix=WITHOUT_STEERING)
    for _ in range(4):
        expect(bulk.curl_down(world, 4, 16 * MIB) == (16 * MIB, bulk.digest(16 * MIB, bulk.SEED)), "a download differs")
        expect(bulk.curl_up(world, 4, 16 * MIB) == bulk.digest(16 * MIB, bulk.SEED), "an upload differs")
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")


@case(limit=40)
def one_queue_where_the_kernel_refuses_several(world):
    """The seventh ioctl of the first attempt attaches the second queue; the attempt with one queue makes six."""
    tool_missing("strace")
    serve(world, 4)
    daemon = world.daemon([web()], device={"queues": 4}, prefix=[
        "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:error=E2BIG:when=7"])
    daemon.wait_log(r"the kernel refuses several queues.*E2BIG")
    expect(int(daemon.status()["workers"]) == 1, "%s workers", daemon.status()["workers"])
    streams, sessions = crowd(world, 4, 10)
    expect(set(homes(daemon, 20)) == {0}, "flows on workers that are not")
    for s in streams + sessions:
        s.close()


# Share nothing.

LINE = 128      # two cache lines: processors fetch the neighbour too


class Memory:
    """What a process has in memory that it may write, page by page."""

    def __init__(self, process):
        self.pages = {}
        page = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/%d/maps" % process) as maps, open("/proc/%d/pagemap" % process, "rb") as pagemap, \
                open("/proc/%d/mem" % process, "rb", 0) as memory:
            for line in maps:
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if not found:
                    continue
                first, last = int(found[1], 16), int(found[2], 16)
                pagemap.seek(first // page * 8)
                present = struct.unpack("<%dQ" % ((last - first) // page), pagemap.read((last - first) // page * 8))
                for number, entry in enumerate(present):
                    if entry >> 63:
                        start = first + number * page
                        memory.seek(start)
                        self.pages[start] = memory.read(page)

    def written(self, later):
        """The lines that differ."""
        lines = set()
        for start, octets in later.pages.items():
            before = self.pages.get(start, bytes(len(octets)))
            if before != octets:
                lines |= {start + n for n in range(0, len(octets), LINE) if before[n:n + LINE] != octets[n:n + LINE]}
        return lines


def expect_nothing_common(daemon, of, work):
    """Compares the daemon's whole memory before and after each worker alone did its work: `work(what the worker has)`."""
    time.sleep(2)                       # timers that were left behind run out
    process, written = daemon.process.pid, {}
    before = Memory(process)
    time.sleep(1)
    idle = before.written(Memory(process))
    expect(not idle, "an idle daemon writes %d lines", len(idle))
    for number, mine in of.items():
        work(mine)
        time.sleep(2)
        after = Memory(process)
        written[number], before = before.written(after), after
    figure("lines of %d octets written by each worker alone: %s, of %.1f MiB looked at", LINE,
           [len(written[n]) for n in sorted(written)], len(before.pages) * 4096 / MIB)
    for one in written:
        expect(len(written[one]) > 20, "worker %d wrote %d lines: no data path was seen", one, len(written[one]))
        for other in written:
            common = written[one] & written[other]
            expect(one == other or not common, "workers %d and %d both write at %s", one, other,
                   [hex(line) for line in sorted(common)[:5]])


@case(limit=60)
def workers_write_no_common_cache_line(world):
    serve(world, 4)
    daemon = world.daemon([web()], device={"queues": 3})
    streams, sessions = crowd(world, 4, 40)
    clients = {"%s %s" % (kind, at(C4, s.getsockname()[1])): s
               for kind, each in (("tcp", streams), ("udp", sessions)) for s in each}
    of = {n: [clients["%s %s" % (f["protocol"], f["client"])] for f in flows] for n, flows in homes(daemon, 80).items()}
    expect(len(of) == 3, "a worker without flows")

    def work(mine):
        for size in (7, 700, 1400):
            exchange_all(mine, size)

    for _ in range(3):                  # what is made once is made: windows have grown, pools are in use
        for mine in of.values():
            exchange_all(mine, 42_000 if mine[0].type == socket.SOCK_STREAM else 700)
    wait(lambda: daemon.flows() == 80, 3, "flows")
    expect_nothing_common(daemon, of, work)
    for s in streams + sessions:
        s.close()


@case(limit=60)
def flows_that_begin_and_end_write_no_common_cache_line(world):
    """The rules are one memory that all workers read, and a reload gives them another.

    Without the steering program, which deals a port anew to each connection: so the kernel brings it to one worker. What is
    written back as it was is not seen: the words that say whose a flow is.
    """
    tool_missing("strace")
    serve(world, 4)
    rules = [web(name="a-rule-with-a-name-of-some-length")]
    daemon = world.daemon(rules, device={"queues": 3}, daemon={"log": {"level": "notice"}},     # lines are one file's
                          prefix=WITHOUT_STEERING)
    streams = [world.client.connect(V4, 80, timeout=10) for _ in range(60)]
    exchange_all(streams)
    of = {n: [int(f["client"].rsplit(":", 1)[1]) for f in flows] for n, flows in homes(daemon, 60).items()}
    expect(len(of) == 3 and min(map(len, of.values())) >= 8, "hardly any flows on a worker: %s", of)
    for s in streams:                   # by resets, so that the ports are free at once
        reset(s)
    wait(lambda: daemon.flows() == 0, 3, "no flows")
    daemon.reload(rules + [web(name="one-that-is-new", listen=at(V4, 82))])

    def work(ports):                    # without a look at the daemon: to tell what is going on, workers write
        for port in ports:
            with world.client.connect(V4, 80, timeout=10, source_port=port) as s:
                exchange_all([s])

    for ports in of.values():           # what is made once is made
        work(ports[:4])
    expect_nothing_common(daemon, {n: ports[4:] for n, ports in of.items()}, work)
