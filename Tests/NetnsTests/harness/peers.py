"""Servers and clients that live in the test's own process, and the data they exchange.

A handler's return value or exception is kept: `result()` hands it to the test, so what a server saw is asserted too.
"""
import fcntl
import functools
import hashlib
import itertools
import queue
import random
import select
import socket
import struct
import threading
import time

from harness.namespaces import Failed, expect

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ANY = {4: "0.0.0.0", 6: "::"}
SO_RCVBUFFORCE = 33         # Python has no name for it


class StreamServer:
    """A TCP listener; each connection is handled in a thread of its own."""

    def __init__(self, namespace, address, port, handler):
        self.handler, self.results, self.accepted, self.open = handler, queue.Queue(), 0, []
        self.socket = namespace.socket(address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind((address, port))
        self.socket.listen(4096)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.append(connection)
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        try:
            connection.settimeout(60)
            self.results.put((self.handler(connection), None))
        except Exception as error:  # handed to the test by result()
            self.results.put((None, error))
        finally:
            connection.close()

    def result(self, within=20.0):
        """The next finished handler's return value; what it raised is raised here."""
        try:
            value, error = self.results.get(timeout=within)
        except queue.Empty:
            raise Failed("the server's side did not finish within %g s" % within)
        if error is not None:
            raise error
        return value

    def close(self):
        # shutdown wakes a thread that is blocked in accept; close alone does not.
        for s in [self.socket] + self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class DatagramServer:
    """A UDP socket; `handler(data, peer)` returns the answer, a list of answers, or None."""

    def __init__(self, namespace, address, port, handler):
        self.handler, self.peers, self.received = handler, set(), 0
        self.socket = namespace.socket(address, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * MIB)   # whatever net.core.rmem_max says
        self.socket.bind((address, port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(65536)
                if peer is None:        # close() woke us
                    return
                self.received += 1
                self.peers.add(peer[:2])
                answer = self.handler(data, peer)
                for each in answer if isinstance(answer, list) else [answer]:
                    if each is not None:
                        self.socket.sendto(each, peer)
            except ConnectionRefusedError:
                continue
            except OSError:
                return

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


# Data.

_BLOCK_OCTETS = 8 * MIB


@functools.lru_cache(maxsize=4)
def _doubled(seed):
    return memoryview(random.Random(seed).randbytes(_BLOCK_OCTETS) * 2)


def blocks(total, seed=77):
    """`total` octets as blocks, each a different rotation of one random block: a repeat or a shift is seen."""
    doubled = _doubled(seed)
    for number in itertools.count():
        if total <= 0:
            return
        start = number * 104_729 % _BLOCK_OCTETS
        size = min(total, _BLOCK_OCTETS)
        yield doubled[start:start + size]
        total -= size


def digest(total, seed=77):
    h = hashlib.sha256()
    for block in blocks(total, seed):
        h.update(block)
    return h.hexdigest()


def send_pattern(connection, total, seed=77):
    for block in blocks(total, seed):
        connection.sendall(block)


def receive(connection, total):
    """Exactly `total` octets."""
    data = bytearray()
    while len(data) < total:
        piece = connection.recv(min(total - len(data), MIB))
        if not piece:
            raise Failed("end of stream after %d of %d octets" % (len(data), total))
        data += piece
    return bytes(data)


def receive_all(connection, pause=None):
    """Everything until end of stream, as (octets, digest); a reset leaves (octets, digest, error) in the exception's args."""
    h, count, buffer = hashlib.sha256(), 0, bytearray(256 * KIB)
    while True:
        n = connection.recv_into(buffer)
        if not n:
            return count, h.hexdigest()
        h.update(memoryview(buffer)[:n])
        count += n
        if pause:
            pause(count)


def receive_until_reset(connection, pause=None):
    """Everything until ECONNRESET, as (octets, digest); a clean end of stream is a failure."""
    h, count, buffer = hashlib.sha256(), 0, bytearray(256 * KIB)
    while True:
        try:
            n = connection.recv_into(buffer)
        except ConnectionResetError:
            return count, h.hexdigest()
        expect(n, "end of stream after %d octets where a reset was due", count)
        h.update(memoryview(buffer)[:n])
        count += n
        if pause:
            pause(count)


def reset(connection):
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drain_output(connection, within=10.0):
    """Waits until everything sent has been acknowledged (SIOCOUTQ)."""
    deadline = time.monotonic() + within
    while struct.unpack("i", fcntl.ioctl(connection, 0x5411, b"\0" * 4))[0]:
        expect(time.monotonic() < deadline, "sent octets stayed unacknowledged for %g s", within)
        time.sleep(0.005)


def readable(connection, within):
    return bool(select.select([connection], [], [], within)[0])


# Handlers.

def echo(connection):
    total = 0
    while True:
        data = connection.recv(256 * KIB)
        if not data:
            return total
        connection.sendall(data)
        total += len(data)


def named(text):
    """Answers every request with `text`, so that a client sees which target it reached."""
    def handler(connection):
        while connection.recv(4096):
            connection.sendall(text.encode())
    return handler


def echo_datagram(data, peer):
    return data


def ask(connection, text=b"?"):
    connection.sendall(text)
    return connection.recv(4096).decode()
