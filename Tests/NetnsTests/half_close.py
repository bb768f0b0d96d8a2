"""One direction ends, the other goes on: FIN and SHUT_WR correspond exactly, and so do resets."""
import hashlib
import socket
import subprocess
import threading
import time

from harness.daemon import wait
from harness.namespaces import S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import (MIB, digest, drain_output, receive, receive_all, receive_until_reset, reset, send_pattern)
from harness.runner import BOTH, case, tool_missing


def forward(family, port=80):
    return {"listen": at(VIRTUAL[family], port), "target": at(TARGET[family], 8080)}


@case(families=BOTH)
def client_closes_first_and_still_receives(world, family):
    total = 10 * MIB

    def handler(connection):
        got = receive_all(connection)            # ends with the client's FIN
        time.sleep(0.3)
        send_pattern(connection, total)
        return got

    server = world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        send_pattern(s, MIB, seed=5)
        s.shutdown(socket.SHUT_WR)
        expect(receive_all(s) == (total, digest(total)), "the answer after the half-close is not what was sent")
    expect(server.result() == (MIB, digest(MIB, seed=5)), "the request before the half-close is not what was sent")
    wait(lambda: daemon.flows() == 0, 3, "end of the flow")


@case(families=BOTH)
def server_closes_first_and_still_receives(world, family):
    total = 10 * MIB

    def handler(connection):
        send_pattern(connection, MIB, seed=5)
        connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)

    server = world.serve(handler, TARGET[family], 8080)
    world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        expect(receive_all(s) == (MIB, digest(MIB, seed=5)), "what came before the server's half-close is wrong")
        time.sleep(0.3)
        send_pattern(s, total)
        s.shutdown(socket.SHUT_WR)
        expect(server.result() == (total, digest(total)), "the upload after the server's half-close is wrong")


@case()
def half_closed_flow_stays_open_while_nothing_moves(world):
    release = threading.Event()

    def handler(connection):
        receive_all(connection)
        release.wait(15)
        connection.sendall(b"later")

    world.serve(handler, TARGET[4], 8080)
    daemon = world.daemon([forward(4)])
    with world.client.connect(VIRTUAL[4], 80, timeout=15) as s:
        s.shutdown(socket.SHUT_WR)
        time.sleep(5)
        expect(daemon.flows() == 1, "the half-closed flow is gone")
        release.set()
        expect(receive(s, 5) == b"later" and s.recv(1) == b"", "the late answer did not come")


@case()
def both_ends_close_at_once(world):
    barrier = threading.Barrier(2, timeout=10)

    def handler(connection):
        receive(connection, 1)
        barrier.wait()
        connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)[0]

    server = world.serve(handler, TARGET[4], 8080)
    daemon = world.daemon([forward(4)])
    for _ in range(100):
        with world.client.connect(VIRTUAL[4], 80) as s:
            s.sendall(b"x")
            barrier.wait()
            s.shutdown(socket.SHUT_WR)
            expect(s.recv(1) == b"", "octets out of nowhere")
        expect(server.result() == 0, "octets out of nowhere at the server")
    # Where both FINs cross, the flow may rest in TIME-WAIT, but its kernel socket is gone.
    wait(lambda: daemon.flows() <= 100, 3, "end of the flows")


@case()
def client_half_close_with_socat(world):
    tool_missing("socat", "sha256sum")
    world.spawn(world.servers, ["socat", "TCP-LISTEN:8080,bind=%s,reuseaddr" % S4, "EXEC:sha256sum"])
    world.daemon([forward(4)])
    wait(lambda: ":8080" in world.servers.run(["ss", "-Hltn"]), 5, "listening socat")
    data = bytes(range(256)) * 4096
    done = subprocess.run(world.client.argv(["socat", "-t", "10", "-", "TCP:" + at(V4, 80)]), input=data,
                          capture_output=True, timeout=15)
    want = hashlib.sha256(data).hexdigest()
    expect(done.stdout.decode().split()[:1] == [want], "the checksum that came back is %r", done.stdout[:80])


@case(limit=30)
def many_short_connections_end_cleanly_at_both_ends(world):
    """A response that ends with the connection (HTTP/1.0 style) is never cut short."""
    body = bytes(range(256)) * 256

    def handler(connection):
        receive(connection, 4)
        connection.sendall(body)

    world.serve(handler, TARGET[4], 8080)
    daemon = world.daemon([forward(4)])
    before = daemon.descriptors()
    for number in range(500):
        with world.client.connect(VIRTUAL[4], 80) as s:
            s.sendall(b"GET\n")
            got = bytearray()
            while piece := s.recv(65536):
                got += piece
            expect(bytes(got) == body, "response %d had %d of %d octets", number, len(got), len(body))
    wait(lambda: daemon.descriptors() <= before + 2, 5, "closing of the kernel sockets")


@case(families=BOTH)
def target_reset_delivers_every_octet_first(world, family):
    total = MIB // 2

    def handler(connection):
        send_pattern(connection, total)
        drain_output(connection)        # all of it has been acknowledged; now the reset follows it
        reset(connection)

    world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        time.sleep(0.5)                 # where the daemon could take it all, the reset is there before the client reads
        expect(receive_until_reset(s) == (total, digest(total)), "not every octet came before the reset")
    wait(lambda: daemon.flows() == 0, 3, "end of the flow")


@case(families=BOTH)
def client_reset_reaches_the_target_as_reset(world, family):
    def handler(connection):
        return receive_until_reset(connection)

    server = world.serve(handler, TARGET[family], 8080)
    daemon = world.daemon([forward(family)])
    s = world.client.connect(VIRTUAL[family], 80)
    send_pattern(s, MIB)
    drain_output(s)
    reset(s)
    expect(server.result()[0] <= MIB, "more octets than were sent")
    wait(lambda: daemon.flows() == 0, 3, "end of the flow")


@case()
def client_that_closes_with_unread_data_resets_the_target(world):
    """The client's kernel sends RST when a socket with unread octets is closed."""
    def handler(connection):
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except (ConnectionResetError, BrokenPipeError) as error:
            return type(error).__name__

    server = world.serve(handler, TARGET[4], 8080)
    daemon = world.daemon([forward(4)])
    s = world.client.connect(VIRTUAL[4], 80)
    receive(s, 65536)
    s.close()
    expect(server.result(10) in ("ConnectionResetError", "BrokenPipeError"), "the server was not told")
    wait(lambda: daemon.flows() == 0, 3, "end of the flow")
