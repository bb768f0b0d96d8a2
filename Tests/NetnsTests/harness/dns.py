"""As much of DNS (RFC 1035, RFC 6891) as a responder needs that answers TXT queries with a text of the asked size."""
import struct


def text(size):
    return (b"abcdefghijklmnopqrstuvwxyz0123456789" * (size // 36 + 1))[:size]


def query(number, name):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 16, 1)


def answer(data, peer):
    """The reply to a TXT query for `nSIZE.test`; the EDNS option of the query is answered with one."""
    number, flags, questions, _, _, additional = struct.unpack(">6H", data[:12])
    end = 12
    while data[end]:
        end += 1 + data[end]
    question, size = data[12:end + 5], int(data[14:13 + data[12]])
    content = text(size)
    pieces = b"".join(bytes([len(content[i:i + 255])]) + content[i:i + 255] for i in range(0, size, 255))
    record = b"\xc0\x0c" + struct.pack(">2HIH", 16, 1, 60, len(pieces)) + pieces
    option = b"\0" + struct.pack(">2HIH", 41, 1232, 0, 0) if additional else b""
    header = struct.pack(">6H", number, 0x8180 | flags & 0x0110, questions, 1, 0, 1 if option else 0)
    return header + question + record + option
