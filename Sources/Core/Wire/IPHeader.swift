// IPv4 (RFC 791) and IPv6 (RFC 8200) headers, read into one plain value.
//
// The initialiser checks everything that later code relies on: both lengths lie within the packet,
// the IPv4 checksum is right, IPv6 extension headers are walked to the transport header within a
// bound. Afterwards `headerOctets..<totalOctets` is the transport's, and nobody checks again.
// Octets behind `totalOctets` are link padding and ignored.
//
// IPv4 options are checked and skipped: a host acts on none of those still in use. A hop limit of zero
// does not matter at the end of the way (RFC 1122 §3.2.1.7, RFC 8200 §3). IPv6 packets with a mapped
// IPv4 address are refused, which makes `IPAddress.isIPv4` the family (see IPAddress.swift). The
// initialisers are inlined into the few places that read packets: a call would copy the value, and
// copies of what was just stored octet by octet cost more than the checks. Reassembly is not done
// here; a fragment is described, not joined. Of a fragment `transport` is the number in its
// (fragment) header, and `headerOctets` where its share of the datagram begins.

package struct IPHeader: Sendable, BitwiseCopyable {
  package var source: IPAddress
  package var destination: IPAddress
  /// Where the transport header begins.
  package var headerOctets: Int
  /// Where the packet ends.
  package var totalOctets: Int
  /// Octets of the datagram in front of this fragment's.
  package var fragmentOffset: Int
  /// Tells fragments of different datagrams apart; 16 bits in IPv4, 0 in unfragmented IPv6.
  package var identification: UInt32
  /// The protocol behind all extension headers, an IANA number; 59 stands for none.
  package var transport: UInt8
  package var hopLimit: UInt8
  /// DSCP and ECN.
  package var trafficClass: UInt8
  package var moreFragments: Bool
  /// IPv4's DF; IPv6 packets have it always.
  package var dontFragment: Bool

  @inlinable package var isIPv4: Bool { source.isIPv4 }
  @inlinable package var isFragment: Bool { moreFragments || fragmentOffset != 0 }
  /// CE: a router on the way was congested (RFC 3168 §5).
  @inlinable package var isCongestionMarked: Bool { trafficClass & 3 == 3 }
  /// Octets behind the IP headers.
  @inlinable package var payloadOctets: Int { totalOctets - headerOctets }

  /// Reads and checks the headers of an IP packet.
  ///
  /// Throws `truncatedHeader`, `badVersion`, `badHeaderLength`, `badTotalLength`,
  /// `badHeaderChecksum`, `badIPOptions`, `badExtensionHeader`, `sourceRouted`, `badFragment`, and `martianSource` or
  /// `martianDestination` for mapped addresses in IPv6.
  @inlinable @inline(__always) package init(parsing bytes: RawSpan) throws(DropReason) {
    guard bytes.byteCount >= 20 else { throw .truncatedHeader }
    let first = bytes.octet(0)
    switch first >> 4 {
    case 4: try self.init(parsingIPv4: bytes, headerOctets: Int(first & 15) * 4)
    case 6: try self.init(parsingIPv6: bytes)
    default: throw .badVersion
    }
  }

  @inlinable @inline(__always) init(parsingIPv4 bytes: RawSpan, headerOctets: Int)
    throws(DropReason)
  {
    guard headerOctets >= 20 else { throw .badHeaderLength }
    guard headerOctets <= bytes.byteCount else { throw .truncatedHeader }
    let total = Int(bytes.big16(2))
    guard total >= headerOctets, total <= bytes.byteCount else { throw .badTotalLength }
    guard Self.headerSum(bytes, headerOctets) == 0xffff else { throw .badHeaderChecksum }

    if headerOctets > 20 { try Self.checkOptions(bytes, headerOctets: headerOctets) }
    let fragmentation = bytes.big16(6)
    source = IPAddress(v4: bytes.big32(12))
    destination = IPAddress(v4: bytes.big32(16))
    self.headerOctets = headerOctets
    totalOctets = total
    fragmentOffset = Int(fragmentation & 0x1fff) * 8
    identification = UInt32(bytes.big16(4))
    transport = bytes.octet(9)
    hopLimit = bytes.octet(8)
    trafficClass = bytes.octet(1)
    moreFragments = fragmentation & 0x2000 != 0
    dontFragment = fragmentation & 0x4000 != 0
    if isFragment { try checkFragment() }
  }

  @inlinable @inline(__always) init(parsingIPv6 bytes: RawSpan) throws(DropReason) {
    guard bytes.byteCount >= 40 else { throw .truncatedHeader }
    let total = 40 + Int(bytes.big16(4))
    guard total <= bytes.byteCount else { throw .badTotalLength }
    source = IPAddress(high: bytes.big64(8), low: bytes.big64(16))
    destination = IPAddress(high: bytes.big64(24), low: bytes.big64(32))
    guard !source.isIPv4 else { throw .martianSource }
    guard !destination.isIPv4 else { throw .martianDestination }
    headerOctets = 40
    totalOctets = total
    fragmentOffset = 0
    identification = 0
    transport = bytes.octet(6)
    hopLimit = bytes.octet(7)
    trafficClass = UInt8(truncatingIfNeeded: bytes.big16(0) >> 4)
    moreFragments = false
    dontFragment = true
    if Self.isExtension(transport) { try walkExtensions(bytes) }
  }

  /// The ones-complement sum of an IPv4 header, 0xffff when its checksum is right. The byte order
  /// of the words does not matter to that.
  @inlinable @inline(__always) static func headerSum(_ bytes: RawSpan, _ headerOctets: Int)
    -> UInt64
  {
    var sum: UInt64 = 0
    var offset = 0
    while offset < headerOctets {
      sum &+= UInt64(bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
      offset &+= 4
    }
    return UInt64(Checksum.fold(sum))
  }

  /// RFC 791 §3.2: all fragments but the last hold a multiple of eight octets; none reaches beyond
  /// the longest datagram.
  @usableFromInline func checkFragment() throws(DropReason) {
    guard !moreFragments || payloadOctets % 8 == 0 && payloadOctets > 0,
      fragmentOffset + payloadOctets <= 65_535
    else { throw .badFragment }
  }

  /// Why an IP host must not answer, or even receive, a packet with these addresses
  /// (RFC 1122 §3.2.1.3, RFC 6890 §2.2.2, RFC 4291 §2.5–2.7); nil when they are sound.
  package func martianReason() -> DropReason? {
    if destination.isMulticast || destination.isLimitedBroadcast { return .multicastDestination }
    if destination.isUnspecified || destination.isLoopback || destination.isThisNetwork {
      return .martianDestination
    }
    if source.isUnspecified || source.isLoopback || source.isThisNetwork || source.isMulticast
      || source.isReserved
    {
      return .martianSource
    }
    return source == destination ? .landAttack : nil
  }
}
