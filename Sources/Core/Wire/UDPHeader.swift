// The UDP header (RFC 768).
//
// The length field may be less than what IP delivers: the rest is ignored, as kernels do (UDP
// options live there, unread). A super-packet's length field spans all of its datagrams.
// Destination port zero is refused; source port zero is legal and means that no reply is wanted,
// but a flow needs somebody to answer, so it is refused as well.

package struct UDPHeader: Equatable, Sendable, BitwiseCopyable {
  /// Octets of a header.
  @inlinable package static var octets: Int { 8 }

  package var sourcePort: UInt16
  package var destinationPort: UInt16
  /// Octets of header and payload.
  package var length: Int
  /// As it stands in the packet; 0 means none.
  package var checksum: UInt16

  package init(sourcePort: UInt16, destinationPort: UInt16, length: Int, checksum: UInt16) {
    self.sourcePort = sourcePort
    self.destinationPort = destinationPort
    self.length = length
    self.checksum = checksum
  }

  /// - Parameter segment: the header and everything that IP delivered behind it.
  ///
  /// Throws `truncatedHeader`, `badTransportLength` or `zeroPort`.
  @inlinable @inline(__always) package init(parsing segment: RawSpan) throws(DropReason) {
    guard segment.byteCount >= Self.octets else { throw .truncatedHeader }
    sourcePort = segment.big16(0)
    destinationPort = segment.big16(2)
    length = Int(segment.big16(4))
    checksum = segment.big16(6)
    guard length >= Self.octets, length <= segment.byteCount else { throw .badTransportLength }
    guard sourcePort != 0, destinationPort != 0 else { throw .zeroPort }
  }

  /// Octets of payload.
  @inlinable package var payloadOctets: Int { length - Self.octets }
}
