"""Many flows at once: each proven by an exchange, none left behind."""
import asyncio
import errno
import re
import resource
import time

from harness.daemon import wait
from harness.namespaces import S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import ask, named, reset
from harness.runner import BOTH, case, tool_missing


def forward(family, **keys):
    return {"listen": at(VIRTUAL[family], 80), "target": at(TARGET[family], 8080)} | keys


class Crowd:
    """Clients and an echo server on one event loop."""

    def __init__(self, world, family, count):
        self.world, self.family, self.count = world, family, count
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        need = 2 * count + 200
        expect(hard == resource.RLIM_INFINITY or hard >= need, "open files are limited to %d, %d are needed", hard, need)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))

    async def echo(self, reader, writer):
        self.served += 1
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()
        self.served -= 1

    async def open(self, number):
        async with self.gate:
            s = self.world.client.socket(VIRTUAL[self.family])
            s.setblocking(False)
            await asyncio.get_running_loop().sock_connect(s, (VIRTUAL[self.family], 80))
            self.clients.append(s)
            await self.exchange(number, s)

    async def exchange(self, number, s):
        loop, text = asyncio.get_running_loop(), b"%08d" % number * 8
        await loop.sock_sendall(s, text)
        got = b""
        while len(got) < len(text):
            piece = await loop.sock_recv(s, 4096)
            expect(piece, "flow %d ended early", number)
            got += piece
        expect(got == text, "flow %d got the octets of another", number)

    async def run(self, meanwhile):
        self.gate, self.clients, self.served = asyncio.Semaphore(200), [], 0
        listener = self.world.servers.socket(TARGET[self.family])
        listener.bind((TARGET[self.family], 8080))
        server = await asyncio.start_server(self.echo, sock=listener, backlog=4096)
        began = time.monotonic()
        await asyncio.gather(*(self.open(n) for n in range(self.count)))
        self.seconds = time.monotonic() - began
        meanwhile()
        await asyncio.gather(*(self.exchange(n, s) for n, s in enumerate(self.clients)))
        for s in self.clients:
            s.close()
        end = time.monotonic() + 10
        while self.served and time.monotonic() < end:
            await asyncio.sleep(0.02)
        expect(not self.served, "%d ends of flows did not reach the server", self.served)
        server.close()


@case(limit=60, families=BOTH)
def two_thousand_flows_at_once(world, family):
    daemon = world.daemon([forward(family)])
    before, memory = daemon.descriptors(), daemon.resident()

    def meanwhile():
        expect(daemon.flows() == 2000, "%d flows stand, 2000 are open", daemon.flows())
        print("%.1f KiB each" % ((daemon.resident() - memory) / 2000 / 1024))

    asyncio.run(Crowd(world, family, 2000).run(meanwhile))
    wait(lambda: daemon.flows() == 0, 10, "end of all flows")
    wait(lambda: daemon.descriptors() <= before + 2, 5, "closing of all sockets (%d, were %d)" % (daemon.descriptors(), before))


@case(limit=40)
def flows_come_and_go_by_the_thousand(world):
    """Slots, ports and descriptors are reused: what one flow leaves must not show in the next."""
    daemon = world.daemon([forward(4)])
    before = daemon.descriptors()
    for _ in range(5):
        asyncio.run(Crowd(world, 4, 400).run(lambda: None))
    wait(lambda: daemon.flows() == 0, 10, "end of all flows")
    wait(lambda: daemon.descriptors() <= before + 2, 5, "closing of all sockets")


@case(limit=30)
def same_client_port_is_reused_at_once(world):
    """A five-tuple that comes back right after it ended is a new flow."""
    world.serve(named("here"), S4, 8080)
    world.daemon([forward(4)])
    for number in range(30):
        with world.client.connect(V4, 80, source_port=40_000) as s:
            expect(ask(s) == "here", "no exchange in round %d", number)
            reset(s)


@case(limit=30)
def same_client_port_is_reused_after_a_clean_end(world):
    """Server closes first, so the daemon's end towards the client rests in TIME-WAIT: a new SYN must still get in."""
    def handler(connection):
        connection.recv(10)
        connection.sendall(b"bye")
    world.serve(handler, S4, 8080)
    world.daemon([forward(4)])
    def connect():
        """The client's own kernel frees the port when its FIN is acknowledged, which takes a moment after close()."""
        for attempt in range(50):
            try:
                return world.client.connect(V4, 80, source_port=40_001)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or attempt == 49:
                    raise
                time.sleep(0.01)

    for number in range(20):
        with connect() as s:
            s.sendall(b"?")
            expect(s.recv(10) == b"bye" and s.recv(10) == b"", "no clean exchange in round %d", number)


@case(limit=30)
def idle_daemon_makes_no_system_call(world):
    """With 100 idle flows and an idle UDP session, nothing wakes the daemon for ten seconds."""
    tool_missing("strace")
    world.serve(named("here"), S4, 8080)
    world.serve_datagrams(lambda data, peer: data, S4, 8080)
    daemon = world.daemon([forward(4, protocol="tcp+udp", idle_timeout="2h", udp_timeout="3m")])
    clients = [world.client.connect(V4, 80) for _ in range(100)]
    for s in clients:
        expect(ask(s) == "here", "no exchange")
    session = world.client.datagrams(V4, 80)
    session.send(b"x")
    session.recv(10)
    time.sleep(2.5)                     # delayed acknowledgements, multicast reports of the new device
    output = world.path("strace.out")
    tracer = world.spawn(world.host, ["strace", "-f", "-ttt", "-o", output, "-p", str(daemon.process.pid)])
    time.sleep(1.2)                     # attaching interrupts each thread's wait once
    began = time.time()
    time.sleep(10)
    ended = time.time()
    tracer.terminate()
    tracer.wait(5)
    with open(output) as f:
        lines = f.read().splitlines()
    expect(lines, "strace saw nothing, not even the waits it interrupted: %s", open(tracer.output_path).read()[:200])
    woken = [line for line in lines
             if (stamp := re.match(r"\d+\s+(\d+\.\d+)\s", line)) and began < float(stamp[1]) < ended]
    expect(not woken, "%d system calls in 10 idle seconds, first: %s", len(woken), " / ".join(woken[:4])[:300])
    for s in clients + [session]:
        s.close()
