// What the tests of this target share: packets made octet by octet without the code under test.

import Primitives
import TestSupport
import Wire

func pseudoHeader(_ source: IPAddress, _ destination: IPAddress, _ transport: Int, _ octets: Int)
  -> [UInt8]
{
  source.octets + destination.octets + big32(octets) + big32(transport)
}

func address(_ text: String) -> IPAddress {
  guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
  return address
}

/// An IPv4 packet made by hand.
func ipv4(
  from source: String = "192.0.2.1", to destination: String = "198.51.100.2", transport: Int = 6,
  options: [UInt8] = [], identification: Int = 0x1234, fragmentation: Int = 0x4000,
  payload: [UInt8]
) -> [UInt8] {
  var header =
    [UInt8(0x45 + options.count / 4), 0x2e] + big16(20 + options.count + payload.count)
    + big16(identification) + big16(fragmentation) + [57, UInt8(transport), 0, 0]
    + address(source).octets + address(destination).octets + options
  header.replaceSubrange(10..<12, with: big16(Int(~onesComplementSum(header))))
  return header + payload
}

/// An IPv6 packet made by hand; `next` is the first header of `payload`.
func ipv6(
  from source: String = "2001:db8::1", to destination: String = "2001:db8:1::2", next: Int = 6,
  payload: [UInt8]
) -> [UInt8] {
  [0x62, 0xe1, 0x23, 0x45] + big16(payload.count) + [UInt8(next), 61]
    + octets16(source) + octets16(destination) + payload
}

/// Sixteen octets of any IPv6 text, of mapped addresses too.
func octets16(_ text: String) -> [UInt8] {
  let octets = address(text).octets
  return octets.count == 16 ? octets : Array(repeating: 0, count: 10) + [255, 255] + octets
}

/// A TCP segment made by hand, its checksum left 0.
func tcp(
  source: Int = 40000, destination: Int = 80, flags: Int = 0x10, options: [UInt8] = [],
  payload: [UInt8] = []
) -> [UInt8] {
  big16(source) + big16(destination) + big32(0x0102_0304) + big32(0xa0b0_c0d0)
    + big16(((20 + options.count) / 4) << 12 | flags) + big16(0xfedc) + [0, 0] + big16(0x0007)
    + options + payload
}

func udp(source: Int = 5353, destination: Int = 53, length: Int? = nil, payload: [UInt8]) -> [UInt8]
{
  big16(source) + big16(destination) + big16(length ?? 8 + payload.count) + [0, 0] + payload
}

/// Stores the right checksum at `field` of the transport part of a packet.
func withChecksum(_ packet: [UInt8], at field: Int) throws -> [UInt8] {
  let ip = try IPHeader(parsing: packet.span.bytes)
  let segment = Array(packet[ip.headerOctets..<ip.totalOctets])
  let pseudo =
    ip.transport == 1
    ? [] : pseudoHeader(ip.source, ip.destination, Int(ip.transport), segment.count)
  var packet = packet
  packet.replaceSubrange(
    ip.headerOctets + field..<ip.headerOctets + field + 2,
    with: big16(Int(~onesComplementSum(pseudo + segment))))
  return packet
}

/// What the code under test says of a whole packet's transport checksum.
func checksumIsValid(_ packet: [UInt8]) throws -> Bool {
  let ip = try IPHeader(parsing: packet.span.bytes)
  return transportChecksumIsValid(
    ip, segment: packet.span.bytes.extracting(ip.headerOctets..<ip.totalOctets))
}
