// The Internet checksum (RFC 1071): the ones-complement sum of 16-bit words.
//
// The sum does not care in which byte order words are added, as long as the result is read in the
// same order, nor how wide the accumulator is (RFC 1071 §2). So the loop adds little-endian 32-bit
// halves into 64-bit lanes without carries between them, which the compiler turns into vector code,
// and folds at the end. Pieces may begin and end at any octet: a piece that begins at an odd
// position of the whole counts with its octets exchanged.
// Most packets need none of this: see `VirtioNetHeader`.

package struct Checksum: Sendable, BitwiseCopyable {
  /// A sum of little-endian words; each piece adds less than 2¹⁶, each pseudo-header less than 2³⁵.
  @usableFromInline var sum: UInt64 = 0
  /// Whether an odd number of octets has been added.
  @usableFromInline var isOdd = false

  @inlinable package init() {}

  /// Adds octets that follow those added before.
  @inlinable package mutating func add(_ memory: UnsafeRawPointer, octets: Int) {
    let piece = Self.fold(Self.wideSum(memory, octets))
    sum &+= UInt64(isOdd ? piece.byteSwapped : piece)
    isOdd = isOdd != (octets & 1 == 1)
  }

  @inlinable package mutating func add(_ bytes: RawSpan) {
    bytes.withUnsafeBytes { buffer in
      if let base = buffer.baseAddress { add(base, octets: buffer.count) }
    }
  }

  /// Adds the octets of payload slices.
  @inlinable package mutating func add(_ slices: UnsafeBufferPointer<Slice>) {
    for slice in slices {
      if let base = slice.base { add(UnsafeRawPointer(base), octets: slice.octets) }
    }
  }

  /// Adds the pseudo-header of a transport (RFC 9293 §3.1, RFC 8200 §8.1). To be done at an even
  /// position.
  ///
  /// - Parameter octets: of transport header and payload.
  @inlinable package mutating func addPseudoHeader(
    source: IPAddress, destination: IPAddress, transport: UInt8, octets: Int
  ) {
    if source.isIPv4 {
      sum &+= UInt64(source.v4.byteSwapped) &+ UInt64(destination.v4.byteSwapped)
    } else {
      addHalves(source.high.byteSwapped)
      addHalves(source.low.byteSwapped)
      addHalves(destination.high.byteSwapped)
      addHalves(destination.low.byteSwapped)
    }
    sum &+= UInt64(UInt32(truncatingIfNeeded: octets).byteSwapped)
    sum &+= UInt64(UInt16(transport).byteSwapped)
  }

  @inlinable mutating func addHalves(_ word: UInt64) {
    sum &+= (word & 0xffff_ffff) &+ (word >> 32)
  }

  /// The sum, not complemented, as a number in host order.
  @inlinable package var folded: UInt16 { Self.fold(sum).byteSwapped }

  /// What goes into the checksum field, as a number in host order.
  @inlinable package var value: UInt16 { ~folded }

  /// Adds carries back until sixteen bits are left.
  @inlinable static func fold(_ sum: UInt64) -> UInt16 {
    var sum = (sum & 0xffff_ffff) &+ (sum >> 32)  // below 2³³
    sum = (sum & 0xffff) &+ (sum >> 16)  // below 2¹⁸
    sum = (sum & 0xffff) &+ (sum >> 16)
    sum = (sum & 0xffff) &+ (sum >> 16)
    return UInt16(truncatingIfNeeded: sum)
  }

  /// The sum of the octets' little-endian words, a last odd octet being the low half of its word.
  @usableFromInline static func wideSum(_ memory: UnsafeRawPointer, _ octets: Int) -> UInt64 {
    // 2³² additions would fit into a lane; no packet comes near.
    var low: UInt64 = 0
    var high: UInt64 = 0
    let whole = octets & ~7
    var offset = 0
    while offset < whole {
      let word = UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      low &+= word & 0xffff_ffff
      high &+= word >> 32
      offset &+= 8
    }
    var tail: UInt64 = 0
    var shift: UInt64 = 0
    while offset < octets {
      tail |= UInt64(memory.load(fromByteOffset: offset, as: UInt8.self)) << shift
      shift &+= 8
      offset &+= 1
    }
    return low &+ high &+ (tail & 0xffff_ffff) &+ (tail >> 32)
  }
}

/// Whether the checksum of a TCP, UDP, ICMP or ICMPv6 packet is right, every other transport
/// passes.
///
/// UDP without a checksum (0) is right over IPv4 and wrong over IPv6 (RFC 8200 §8.1); a UDP length
/// field that does not fit is wrong.
/// - Parameter segment: transport header and payload, up to the packet's end.
package func transportChecksumIsValid(_ ip: IPHeader, segment: RawSpan) -> Bool {
  var checksum = Checksum()
  var octets = segment.byteCount
  switch ip.transport {
  case IPProtocol.icmp: break
  case IPProtocol.udp:
    guard octets >= UDPHeader.octets else { return false }
    if segment.big16(6) == 0 { return ip.isIPv4 }
    guard UDPHeader.octets...octets ~= Int(segment.big16(4)) else { return false }
    octets = Int(segment.big16(4))
    fallthrough
  case IPProtocol.tcp, IPProtocol.icmpV6:
    checksum.addPseudoHeader(
      source: ip.source, destination: ip.destination, transport: ip.transport, octets: octets)
  default: return true
  }
  checksum.add(segment.extracting(first: octets))
  return checksum.folded == 0xffff
}
