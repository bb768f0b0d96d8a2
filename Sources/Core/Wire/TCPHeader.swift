// The TCP header (RFC 9293 §3.1), read and checked once.
//
// A parsed header has a data offset within its segment, sound options, and flags that some TCP
// could have sent: SYN together with FIN or RST is refused here, for it means nothing in any state
// and serves only to slip past filters. Everything else is the endpoint's to judge, ports included:
// port zero never names a flow and so is refused here too. Sequence ranges, windows and
// acknowledgements need a state and are not looked at.

import Primitives

package struct TCPFlags: FlagSet, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt8
  @inlinable package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let fin = TCPFlags(rawValue: 0x01)
  package static let syn = TCPFlags(rawValue: 0x02)
  package static let rst = TCPFlags(rawValue: 0x04)
  package static let psh = TCPFlags(rawValue: 0x08)
  package static let ack = TCPFlags(rawValue: 0x10)
  package static let urg = TCPFlags(rawValue: 0x20)
  package static let ece = TCPFlags(rawValue: 0x40)
  package static let cwr = TCPFlags(rawValue: 0x80)

  // Made here, once: a literal of several flags may allocate where the type is another module's.
  package static let synAck: TCPFlags = [.syn, .ack]
  package static let rstAck: TCPFlags = [.rst, .ack]
}

package struct TCPHeader: Equatable, Sendable, BitwiseCopyable {
  /// Octets of a header without options.
  @inlinable package static var octetsMin: Int { 20 }

  package var sourcePort: UInt16
  package var destinationPort: UInt16
  package var sequence: SequenceNumber  // SEG.SEQ
  package var acknowledgment: SequenceNumber  // SEG.ACK
  package var flags: TCPFlags
  /// SEG.WND as it stands in the segment, before scaling.
  package var window: UInt16
  package var urgentPointer: UInt16
  /// Where the payload begins in a parsed segment; ignored when the header is written.
  package var headerOctets: Int
  package var options: TCPOptions

  package init(
    sourcePort: UInt16, destinationPort: UInt16, sequence: SequenceNumber,
    acknowledgment: SequenceNumber, flags: TCPFlags, window: UInt16, urgentPointer: UInt16 = 0,
    options: TCPOptions = TCPOptions()
  ) {
    self.sourcePort = sourcePort
    self.destinationPort = destinationPort
    self.sequence = sequence
    self.acknowledgment = acknowledgment
    self.flags = flags
    self.window = window
    self.urgentPointer = urgentPointer
    self.headerOctets = Self.octetsMin
    self.options = options
  }

  /// - Parameter segment: the header and all of its payload.
  ///
  /// Throws `truncatedHeader`, `badHeaderLength`, `zeroPort`, `badTCPFlags` or `badTCPOptions`.
  @inlinable @inline(__always) package init(parsing segment: RawSpan) throws(DropReason) {
    guard segment.byteCount >= Self.octetsMin else { throw .truncatedHeader }
    sourcePort = segment.big16(0)
    destinationPort = segment.big16(2)
    sequence = SequenceNumber(segment.big32(4))
    acknowledgment = SequenceNumber(segment.big32(8))
    headerOctets = Int(segment.octet(12) >> 4) * 4
    flags = TCPFlags(rawValue: segment.octet(13))
    window = segment.big16(14)
    urgentPointer = segment.big16(18)
    options = TCPOptions()
    guard headerOctets >= Self.octetsMin, headerOctets <= segment.byteCount
    else { throw .badHeaderLength }
    guard sourcePort != 0, destinationPort != 0 else { throw .zeroPort }
    guard !flags.contains(.syn) || flags.isDisjoint(with: [.fin, .rst]) else { throw .badTCPFlags }
    if headerOctets > Self.octetsMin {
      try options.read(segment, Self.octetsMin..<headerOctets)
    }
  }
}
