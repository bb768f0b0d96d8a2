"""A hundred thousand SYNs from clients that do not exist: the target hears of a few, and true clients are served.

The spoofed senders are of 198.18.0.0/15, to which the client's namespace has no route: nobody answers what they are sent.
"""
import random
import socket
import struct
import threading
import time

from harness import packets as p
from harness.daemon import wait
from harness.namespaces import S4, V4, at, expect
from harness.peers import MIB, ask, named
from harness.runner import case, figure

SYNS = 100_000
HALF_OPEN = 64
FLOOD_SECONDS = 30          # far beyond what it takes; a bound of the test, not of the daemon
BATCH, ON_THE_WAY = 64, 320 # SYNs; the device's queue holds 500
MEMORY = 16 * MIB


def syns(count, seed):
    """SYN packets that differ in sender, port and sequence number, with right checksums."""
    source = random.Random(seed)
    packet = bytearray(p.ipv4("198.18.0.0", V4, p.TCP, p.tcp("198.18.0.0", V4, 0, 80, sequence=0, options=b"\x02\x04\x05\xb4")))
    header, segment = (~struct.unpack_from(">H", packet, at)[0] & 0xFFFF for at in (10, 36))
    base = 0xC612           # the upper half of 198.18.0.0, which is in both checksums

    def folded(total):
        total = (total & 0xFFFF) + (total >> 16)
        return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF

    for _ in range(count):
        bits = source.getrandbits(65)
        address, port, sequence = bits & 0x1FFFF, 1024 + (bits >> 17 & 0x7FFF), bits >> 33
        change = (address >> 16) + (address & 0xFFFF)
        struct.pack_into(">I", packet, 12, base << 16 | address)
        struct.pack_into(">HHI", packet, 20, port, 80, sequence)
        struct.pack_into(">H", packet, 10, folded(header + change))
        struct.pack_into(">H", packet, 36, folded(segment + change + port + (sequence >> 16) + (sequence & 0xFFFF)))
        yield bytes(packet)


class Flood:
    """Sends the SYNs from a thread as fast as the daemon takes them: no more are on their way than the device's queue holds,
    so that all of them arrive, and true clients wait behind others and are not lost beside them."""

    def __init__(self, world, seed):
        self.injector, self.sent, self.seconds = p.Injector(world), 0, 0.0
        self.packets, self.client = list(syns(SYNS, seed)), world.client
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.began = time.monotonic()
        self.thread.start()

    def run(self):
        target, send = ("pf0", p.ETH_P_IP), self.injector.socket.sendto
        with self.client.entered(), open("/proc/thread-self/net/dev") as figures:
            def taken():
                figures.seek(0)
                row = next(line for line in figures if line.strip().startswith("pf0:"))
                return int(row.split(":")[1].split()[9])

            before = taken()
            for start in range(0, SYNS, BATCH):
                while start + BATCH - (taken() - before) > ON_THE_WAY:
                    if time.monotonic() - self.began > FLOOD_SECONDS:
                        return
                    time.sleep(0.0002)
                for packet in self.packets[start:start + BATCH]:
                    send(packet, target)
                    self.sent += 1
        self.seconds = time.monotonic() - self.began

    def is_running(self):
        return self.thread.is_alive()

    def end(self):
        self.thread.join(FLOOD_SECONDS + 5)
        self.injector.close()
        expect(self.sent == SYNS, "only %d of %d SYNs were sent", self.sent, SYNS)


def syns_resent(connected):
    """How often a client's SYN was sent again: tcpi_total_retrans of a connection that has said nothing else. The first
    time is after a second, the next after two more."""
    return struct.unpack_from("=I", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]


def counter(daemon, name):
    """A figure of /metrics, summed over workers."""
    lines = daemon.text("/metrics").splitlines()
    rows = [line for line in lines if line.split("{")[0].split(" ")[0] in ("portferry_" + name, "portferry_%s_total" % name)]
    expect(rows, "/metrics has no %s", name)
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in rows))


@case(limit=80)
def target_sees_few_of_a_hundred_thousand_syns(world):
    server = world.serve(named("here"), S4, 8080)
    daemon = world.daemon([{"listen": at(V4, 80), "target": at(S4, 8080), "max_half_open": HALF_OPEN}])
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "no exchange before the flood")
    genuine, times, resent, memory = 1, [], [], daemon.resident()
    flood = Flood(world, seed)
    wait(lambda: flood.sent > SYNS // 20, 10, "flood under way")
    while flood.is_running() or len(times) < 3:
        began, during = time.monotonic(), flood.is_running()
        with world.client.connect(V4, 80, timeout=30) as s:
            resent.append(syns_resent(s))
            expect(ask(s) == "here", "no exchange during the flood")
        genuine += 1
        times.append((time.monotonic() - began, during))
        time.sleep(0.05)
    flood.end()
    served = [seconds for seconds, during in times if during]
    expect(served, "no client came while the flood was under way")
    sent, accepted = counter(daemon, "syn_cookies_sent"), counter(daemon, "syn_cookies_accepted")
    grown = daemon.resident() - memory
    figure("%d SYNs in %.1f s; %d clients served during it, slowest in %.2f s; the target saw %d connections; "
           "%d cookies sent, %d accepted; memory grew by %.1f MiB",
           SYNS, flood.seconds, len(served), max(served), server.accepted, sent, accepted, grown / MIB)
    # Within a second, by the client's own clock; a busy machine may be late for one in four.
    expect(max(resent) <= 1 and sum(resent) <= max(1, len(resent) // 4), "clients' SYNs were sent again: %s", resent)
    expect(server.accepted <= HALF_OPEN + genuine, "the target saw %d connections, %d of true clients",
           server.accepted, genuine)
    expect(sent >= SYNS * 9 // 10, "only %d cookies were sent", sent)
    expect(0 < accepted <= genuine, "%d cookies were accepted, %d clients came", accepted, genuine)
    expect(grown < MEMORY, "memory grew by %d MiB", grown // MIB)
    expect(daemon.flows() <= HALF_OPEN + 8, "%d flows stand", daemon.flows())
