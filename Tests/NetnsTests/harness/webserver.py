"""A small HTTP/1.1 server for bulk transfers: `webserver.py ADDRESS PORT SEED`, a process of its own for speed.

`GET /OCTETS` answers with that much of the seeded pattern; `PUT` answers with the SHA-256 of its
body, plain or chunked. `webserver.py --send OCTETS SEED` writes the pattern to standard output, for curl to upload.
"""
import hashlib
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.peers import blocks  # noqa: E402


class Server:
    def __init__(self, address, port, seed):
        self.seed = seed
        self.listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def run(self):
        print("listening", flush=True)
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb", buffering=1 << 18) as stream:
            while request := stream.readline().decode().split():
                fields = {}
                while (line := stream.readline().strip()):
                    name, _, value = line.decode().partition(":")
                    fields[name.lower()] = value.strip().lower()
                if request[0] == "GET":
                    self.answer(connection, int(request[1].strip("/")))
                else:
                    if "expect" in fields:
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    self.take(connection, stream, fields)

    def answer(self, connection, total):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for block in blocks(total, self.seed):
            connection.sendall(block)

    def take(self, connection, stream, fields):
        h, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))

        def body(size):
            while size:
                n = stream.readinto(buffer[:min(size, len(buffer))])
                if not n:
                    raise EOFError("the body ended early")
                h.update(buffer[:n])
                size -= n

        if fields.get("transfer-encoding") == "chunked":
            while size := int(stream.readline(), 16):
                body(size)
                stream.readline()
            stream.readline()
        else:
            body(int(fields["content-length"]))
        text = h.hexdigest().encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


if __name__ == "__main__":
    if sys.argv[1] == "--send":
        for each in blocks(int(sys.argv[2]), int(sys.argv[3])):
            sys.stdout.buffer.write(each)
    else:
        Server(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
