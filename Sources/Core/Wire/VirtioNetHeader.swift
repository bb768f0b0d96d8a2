// The header in front of every packet on the device (virtio 1.2 §5.1.6, Linux `virtio_net_hdr`).
//
// It carries what a network card would know: whether the transport checksum is still to be
// completed, and whether the packet is a super-packet that is to be cut into segments. On a TUN
// opened without TUNSETVNETLE its fields are in the host's byte order. Ten octets; the variant with
// a buffer count (12 octets) is not used here.
//
// What the device may say of a packet that it gives us:
// - `needsChecksum`: a local sender left the transport checksum to hardware; the field holds the
//   pseudo-header's sum. The packet never left the host: nothing to verify.
// - `dataIsValid`: somebody verified it already.
// - neither: verify (`transportChecksumIsValid`).

import Primitives

package struct VirtioNetHeader: Equatable, Sendable, BitwiseCopyable {
  /// Octets that the header takes.
  @inlinable package static var octets: Int { 10 }

  package struct Flags: FlagSet, Sendable, BitwiseCopyable {
    package let rawValue: UInt8
    @inlinable package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let needsChecksum = Flags(rawValue: 1)
    package static let dataIsValid = Flags(rawValue: 2)
  }

  /// Kinds of super-packets.
  package enum Segmentation: UInt8, Sendable, BitwiseCopyable {
    case none = 0
    case tcpIPv4 = 1
    /// One datagram that leaves as IP fragments.
    case udpFragments = 3
    case tcpIPv6 = 4
    /// A datagram each `segmentOctets` of payload.
    case udp = 5
  }

  /// Beside a TCP kind: the first segment has CWR set.
  @inlinable package static var ecnBit: UInt8 { 0x80 }

  package var flags: Flags
  /// A `Segmentation`, possibly with `ecnBit`.
  package var gsoType: UInt8
  /// Octets of IP and transport header, a hint.
  package var headerOctets: UInt16
  /// Payload octets of each segment but the last (gso_size).
  package var segmentOctets: UInt16
  /// Where the checksum begins to count, from the start of the IP packet.
  package var checksumStart: UInt16
  /// Where it is stored, from `checksumStart`.
  package var checksumOffset: UInt16

  @inlinable package init(
    flags: Flags = [], gsoType: UInt8 = 0, headerOctets: UInt16 = 0, segmentOctets: UInt16 = 0,
    checksumStart: UInt16 = 0, checksumOffset: UInt16 = 0
  ) {
    self.flags = flags
    self.gsoType = gsoType
    self.headerOctets = headerOctets
    self.segmentOctets = segmentOctets
    self.checksumStart = checksumStart
    self.checksumOffset = checksumOffset
  }

  /// Reads the header in front of a packet.
  ///
  /// Throws `badOffloadHeader` when it is cut short, names an unknown kind, or names a kind without
  /// a segment size.
  @inlinable package init(parsing bytes: RawSpan) throws(DropReason) {
    guard bytes.byteCount >= Self.octets else { throw .badOffloadHeader }
    flags = Flags(rawValue: bytes.octet(0))
    gsoType = bytes.octet(1)
    headerOctets = bytes.unsafeLoadUnaligned(fromByteOffset: 2, as: UInt16.self)
    segmentOctets = bytes.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt16.self)
    checksumStart = bytes.unsafeLoadUnaligned(fromByteOffset: 6, as: UInt16.self)
    checksumOffset = bytes.unsafeLoadUnaligned(fromByteOffset: 8, as: UInt16.self)
    guard let kind = segmentation, kind == .none || segmentOctets > 0
    else { throw .badOffloadHeader }
  }

  /// The kind of super-packet, nil when the number is unknown.
  @inlinable package var segmentation: Segmentation? {
    Segmentation(rawValue: gsoType & ~Self.ecnBit)
  }

  /// Whether the device vouches for the transport checksum.
  package var vouchesForChecksum: Bool {
    !flags.isDisjoint(with: [.needsChecksum, .dataIsValid])
  }

  /// Whether what is said can be true of a packet.
  ///
  /// The kind of super-packet names the packet's transport, and family, and a checksum that is left
  /// unfinished is that of the transport header that was found: otherwise the payload would be cut or
  /// believed by the wrong header. `headerOctets` is a hint and may say anything. A segment size beyond the
  /// payload cuts nothing; one that makes more than `datagramsMax` datagrams is refused.
  @inline(__always)
  package func describes(_ packet: ParsedPacket) -> Bool {
    if gsoType == 0 && !flags.contains(.needsChecksum) { return true }
    let field: UInt16
    switch packet.transport {
    case .tcp:
      field = 16
      switch segmentation {
      case .some(.none): break
      case .tcpIPv4: guard packet.ip.isIPv4 else { return false }
      case .tcpIPv6: guard !packet.ip.isIPv4 else { return false }
      case .udp, .udpFragments, nil: return false
      }
    case .udp:
      field = 6
      switch segmentation {
      case .some(.none), .udpFragments: break
      case .udp:
        let payload = packet.ip.totalOctets - packet.ip.headerOctets - UDPHeader.octets
        guard payload <= Self.datagramsMax * Int(segmentOctets) else { return false }
      case .tcpIPv4, .tcpIPv6, nil: return false
      }
    case .icmp, .fragment, .unsupported: return gsoType == 0
    }
    return !flags.contains(.needsChecksum)
      || Int(checksumStart) == packet.ip.headerOctets && checksumOffset == field
  }

  /// Datagrams of a super-packet. The kernel makes them of 128 at most (UDP_MAX_SEGMENTS); others come from
  /// virtual machines, by way of a bridge.
  package static let datagramsMax = 1024

  /// Stores the header's ten octets.
  @inlinable package func write(to memory: UnsafeMutableRawPointer) {
    memory.storeBytes(of: flags.rawValue, as: UInt8.self)
    memory.storeBytes(of: gsoType, toByteOffset: 1, as: UInt8.self)
    memory.storeBytes(of: headerOctets, toByteOffset: 2, as: UInt16.self)
    memory.storeBytes(of: segmentOctets, toByteOffset: 4, as: UInt16.self)
    memory.storeBytes(of: checksumStart, toByteOffset: 6, as: UInt16.self)
    memory.storeBytes(of: checksumOffset, toByteOffset: 8, as: UInt16.self)
  }
}
