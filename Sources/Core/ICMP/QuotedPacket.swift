// The part of a packet that an ICMP error must quote, kept for an error that comes later.
//
// When a target turns out to be unreachable, the client's packet is long gone; what a client needs
// to know its own packet again is the IP header and the first eight octets behind it (RFC 792; for
// TCP these are the ports and the sequence number). They are kept as they were, length fields
// included. RFC 4443 §3.1 would like as much of the packet as fits; that much is quoted only while
// the packet is at hand (`ICMPResponder.destinationUnreachable`). Behind very long IP headers the
// eight octets may be cut off: the bound here is what a held SYN costs.

import Wire

package struct QuotedPacket: Sendable, BitwiseCopyable {
  /// Octets kept at most: the longest IPv4 header and eight.
  package static let octetsMax = 68

  /// The octets kept, from the IP header on; `count` of them.
  private(set) var octets: [68 of UInt8]
  private(set) var count: UInt8
  /// Whether an error may be sent about the packet at all.
  let mayBeAnswered: Bool

  /// - Parameters:
  ///   - packet: the IP packet that `header` was read from.
  package init(packet: RawSpan, header: IPHeader) {
    octets = .init(repeating: 0)
    let kept = min(header.headerOctets + 8, header.totalOctets, packet.byteCount, Self.octetsMax)
    for offset in 0..<kept {
      octets[offset] = packet.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }
    count = UInt8(kept)
    mayBeAnswered = ICMPResponder.mayAnswer(packet, header)
  }

  var isIPv4: Bool { octets[0] >> 4 == 4 }

  /// Source and destination of the packet. At least twenty or forty octets are kept: `header` was
  /// read from them.
  var addresses: (source: IPAddress, destination: IPAddress) {
    let bytes = octets.span.bytes
    if isIPv4 {
      return (IPAddress(v4: bytes.big32(12)), IPAddress(v4: bytes.big32(16)))
    }
    return (
      IPAddress(high: bytes.big64(8), low: bytes.big64(16)),
      IPAddress(high: bytes.big64(24), low: bytes.big64(32))
    )
  }
}
