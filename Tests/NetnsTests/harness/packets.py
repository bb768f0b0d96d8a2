"""Hand-made packets: built whole and right, then spoilt by the test; sent through a packet socket on the client's device.

A packet socket bypasses the client's own IP stack, so what it refuses to build reaches the daemon all the same.
"""
import ipaddress
import socket
import struct

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def octets(address):
    return ipaddress.ip_address(address).packed


def transport_checksum(source, destination, protocol, segment):
    pseudo = octets(source) + octets(destination)
    if ":" in source:
        pseudo += struct.pack(">IHBB", len(segment), 0, 0, protocol)
    else:
        pseudo += struct.pack(">BBH", 0, protocol, len(segment))
    return checksum(pseudo + segment)


def ipv4(source, destination, protocol, payload, *, options=b"", version=4, words=None, total=None, identification=1,
         fragment=0, ttl=64, check=None):
    """`fragment` is the 16-bit flags and offset field; `words`, `total` and `check` replace the right values."""
    words = 5 + len(options) // 4 if words is None else words
    total = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, identification, fragment, ttl, protocol, 0)
    header += octets(source) + octets(destination) + options
    value = checksum(header) if check is None else check
    return header[:10] + struct.pack(">H", value) + header[12:] + payload


def ipv6(source, destination, next_header, payload, *, version=6, length=None, hops=64):
    length = len(payload) if length is None else length
    return struct.pack(">IHBB", version << 28, length, next_header, hops) + octets(source) + octets(destination) + payload


def tcp(source, destination, source_port, port, flags=SYN, *, sequence=1000, acknowledgment=0, options=b"", words=None,
        payload=b"", window=64240, check=None):
    words = 5 + len(options) // 4 if words is None else words
    segment = struct.pack(">HHIIBBHHH", source_port, port, sequence, acknowledgment, words << 4, flags, window, 0, 0)
    segment += options + payload
    value = transport_checksum(source, destination, TCP, segment) if check is None else check
    return segment[:16] + struct.pack(">H", value) + segment[18:]


def udp(source, destination, source_port, port, payload=b"", *, length=None, check=None):
    length = 8 + len(payload) if length is None else length
    segment = struct.pack(">HHHH", source_port, port, length, 0) + payload
    value = (transport_checksum(source, destination, UDP, segment) or 0xFFFF) if check is None else check
    return segment[:6] + struct.pack(">H", value) + segment[8:]


def icmp(source, destination, kind, code, rest=b"\0\0\0\0", body=b"", *, check=None):
    message = struct.pack(">BBH", kind, code, 0) + rest + body
    if check is None:
        check = transport_checksum(source, destination, ICMPV6, message) if ":" in source else checksum(message)
    return message[:2] + struct.pack(">H", check) + message[4:]


def extension(next_header, body=b"\0" * 6):
    """An IPv6 extension header in the common form; `body` fills it to a multiple of eight octets."""
    return bytes([next_header, (len(body) + 2) // 8 - 1]) + body


def fragment6(next_header, offset_and_flag, identification=7):
    return struct.pack(">BBHI", next_header, 0, offset_and_flag, identification)


class Injector:
    """Sends packets into the daemon's device from the client's side, as the client's kernel would."""

    def __init__(self, world, device="pf0"):
        with world.client.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.device = device

    def send(self, packet, protocol=None):
        """False where the kernel itself would not take it."""
        if protocol is None:
            protocol = ETH_P_IPV6 if packet[:1] and packet[0] >> 4 == 6 else ETH_P_IP
        try:
            self.socket.sendto(packet, (self.device, protocol))
            return True
        except OSError:
            return False

    def close(self):
        self.socket.close()


class Listener:
    """Receives what the daemon sends to the client, before the client's stack judges it."""

    def __init__(self, world, device="pf0"):
        with world.client.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self.socket.bind((device, 3))
        self.socket.settimeout(0.5)

    def packets(self, seconds=0.5):
        """Incoming packets until there has been none for `seconds`."""
        self.socket.settimeout(seconds)
        try:
            while True:
                data, address = self.socket.recvfrom(65536)
                if address[2] == socket.PACKET_HOST:
                    yield data
        except TimeoutError:
            return

    def close(self):
        self.socket.close()
