// What the tests of this target share: a seeded generator, the checksum by its definition, packets
// made octet by octet without the code under test, and frames taken out of a queue.

import Wire

/// SplitMix64: every failure is repeated by its seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
  mutating func octets(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

/// RFC 1071 §1 by the letter: big-endian words, odd octet padded with zero, end-around carry.
func onesComplementSum(_ octets: [UInt8]) -> UInt16 {
  var sum: UInt32 = 0
  for index in stride(from: 0, to: octets.count, by: 2) {
    let low = index + 1 < octets.count ? octets[index + 1] : 0
    sum += UInt32(octets[index]) << 8 | UInt32(low)
    if sum > 0xffff { sum = sum & 0xffff + 1 }
  }
  return UInt16(sum)
}

func big16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
func big32(_ value: Int) -> [UInt8] { big16(value >> 16) + big16(value & 0xffff) }

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

/// The octets of a frame, gathered.
func frameOctets(_ frames: borrowing FrameQueue, _ index: Int = 0) -> [UInt8] {
  frames.slices(of: index).flatMap { slice in
    Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
  }
}

/// Memory that payload slices can point at for the length of a test.
final class Payload {
  let memory: UnsafeMutableRawPointer
  let octets: [UInt8]
  init(_ octets: [UInt8]) {
    self.octets = octets
    memory = .allocate(byteCount: max(octets.count, 1), alignment: 1)
    memory.copyMemory(from: octets, byteCount: octets.count)
  }
  deinit { memory.deallocate() }

  /// The payload in slices that end at `cuts`.
  func slices(cuts: [Int] = []) -> [Slice] {
    let ends = cuts.filter { $0 < octets.count }.sorted() + [octets.count]
    return zip([0] + ends, ends).map { start, end in Slice(memory + start, end - start) }
  }
}
