// ICMP and ICMPv6 messages that arrive: echo, and errors about packets of ours.
//
// An error quotes the packet it is about, so its quotation reads backwards: the source is the
// virtual address, the destination the client. Quotations are cut short by nature; addresses, ports
// and, of TCP, the sequence number are all that is read. Anybody can send an error: whoever acts on
// one must check the sequence number against the flow first (RFC 5927 §4.1). Of IPv6 extension
// headers only a first fragment's is read: the stack sends no others.

import Wire

/// The flow that an ICMP error is about.
package struct QuotedFlow: Hashable, Sendable, BitwiseCopyable {
  package var tuple: FiveTuple
  /// SEG.SEQ of the quoted segment; nil for UDP.
  package var sequence: SequenceNumber?
  /// The quoted packet's length as its header states it; of a super-packet that was to be cut later,
  /// all of it.
  package var packetOctets: Int

  package init(tuple: FiveTuple, sequence: SequenceNumber?, packetOctets: Int) {
    self.tuple = tuple
    self.sequence = sequence
    self.packetOctets = packetOctets
  }
}

package enum ICMPMessage: Equatable, Sendable, BitwiseCopyable {
  case echoRequest(identifier: UInt16, sequence: UInt16)
  case echoReply(identifier: UInt16, sequence: UInt16)
  case unreachable(ICMPUnreachable, QuotedFlow)
  /// The next hop's MTU, 0 when the router did not say.
  case packetTooBig(mtu: Int, QuotedFlow)
  case timeExceeded(QuotedFlow)
  case parameterProblem(QuotedFlow)
  /// Anything else.
  case other(type: UInt8, code: UInt8)

  /// Reads the ICMP message of a packet, ICMP over IPv4 or ICMPv6 over IPv6.
  ///
  /// Throws `fragment`, `unsupportedProtocol`, `truncatedHeader`, `icmpBadChecksum`, or
  /// `icmpIgnored` for an error whose quotation names no flow.
  /// - Parameter checksumIsKnown: the device vouches for the checksum.
  package init(
    parsing packet: RawSpan, header: IPHeader, checksumIsKnown: Bool = false
  ) throws(DropReason) {
    guard !header.isFragment else { throw .fragment }
    guard header.transport == (header.isIPv4 ? IPProtocol.icmp : IPProtocol.icmpV6)
    else { throw .unsupportedProtocol }
    guard header.payloadOctets >= 8 else { throw .truncatedHeader }
    let message = packet.extracting(header.headerOctets..<header.totalOctets)
    guard checksumIsKnown || transportChecksumIsValid(header, segment: message)
    else { throw .icmpBadChecksum }
    self =
      header.isIPv4 ? try Self.readIPv4(message) : try Self.readIPv6(message)
  }

  private static func readIPv4(_ message: RawSpan) throws(DropReason) -> ICMPMessage {
    let code = message.octet(1)
    switch message.octet(0) {
    case ICMPv4Type.echoRequest:
      return .echoRequest(identifier: message.big16(4), sequence: message.big16(6))
    case ICMPv4Type.echoReply:
      return .echoReply(identifier: message.big16(4), sequence: message.big16(6))
    case ICMPv4Type.unreachable where code == 4:
      return .packetTooBig(mtu: Int(message.big16(6)), try quotedIPv4(message))
    case ICMPv4Type.unreachable:
      guard let kind = ICMPUnreachable(codeIPv4: code) else { throw .icmpIgnored }
      return .unreachable(kind, try quotedIPv4(message))
    case ICMPv4Type.timeExceeded: return .timeExceeded(try quotedIPv4(message))
    case ICMPv4Type.parameterProblem: return .parameterProblem(try quotedIPv4(message))
    case let type: return .other(type: type, code: code)
    }
  }

  private static func readIPv6(_ message: RawSpan) throws(DropReason) -> ICMPMessage {
    let code = message.octet(1)
    switch message.octet(0) {
    case ICMPv6Type.echoRequest:
      return .echoRequest(identifier: message.big16(4), sequence: message.big16(6))
    case ICMPv6Type.echoReply:
      return .echoReply(identifier: message.big16(4), sequence: message.big16(6))
    case ICMPv6Type.packetTooBig:
      return .packetTooBig(mtu: Int(message.big32(4)), try quotedIPv6(message))
    case ICMPv6Type.unreachable:
      guard let kind = ICMPUnreachable(codeIPv6: code) else { throw .icmpIgnored }
      return .unreachable(kind, try quotedIPv6(message))
    case ICMPv6Type.timeExceeded: return .timeExceeded(try quotedIPv6(message))
    case ICMPv6Type.parameterProblem: return .parameterProblem(try quotedIPv6(message))
    case let type: return .other(type: type, code: code)
    }
  }

  private static func quotedIPv4(_ message: RawSpan) throws(DropReason) -> QuotedFlow {
    let quote = message.extracting(8..<message.byteCount)
    guard quote.byteCount >= 28 else { throw .truncatedHeader }
    let headerOctets = Int(quote.octet(0) & 15) * 4
    guard quote.octet(0) >> 4 == 4, headerOctets >= 20, quote.big16(6) & 0x1fff == 0
    else { throw .icmpIgnored }
    guard headerOctets + 8 <= quote.byteCount else { throw .truncatedHeader }
    return try flow(
      from: IPAddress(v4: quote.big32(12)), to: IPAddress(v4: quote.big32(16)),
      protocolNumber: quote.octet(9), packetOctets: Int(quote.big16(2)),
      transport: quote.extracting(headerOctets..<quote.byteCount))
  }

  private static func quotedIPv6(_ message: RawSpan) throws(DropReason) -> QuotedFlow {
    let quote = message.extracting(8..<message.byteCount)
    guard quote.byteCount >= 48 else { throw .truncatedHeader }
    let source = IPAddress(high: quote.big64(8), low: quote.big64(16))
    let destination = IPAddress(high: quote.big64(24), low: quote.big64(32))
    guard quote.octet(0) >> 4 == 6, !source.isIPv4, !destination.isIPv4
    else { throw .icmpIgnored }
    var headerOctets = 40
    var transport = quote.octet(6)
    if transport == IPProtocol.fragment {
      guard quote.byteCount >= 56 else { throw .truncatedHeader }
      guard quote.big16(42) & 0xfff8 == 0 else { throw .icmpIgnored }
      transport = quote.octet(40)
      headerOctets = 48
    }
    return try flow(
      from: source, to: destination, protocolNumber: transport,
      packetOctets: 40 + Int(quote.big16(4)),
      transport: quote.extracting(headerOctets..<quote.byteCount))
  }

  private static func flow(
    from virtual: IPAddress, to client: IPAddress, protocolNumber: UInt8, packetOctets: Int,
    transport: RawSpan
  ) throws(DropReason) -> QuotedFlow {
    guard let kind = TransportProtocol(rawValue: protocolNumber) else { throw .icmpIgnored }
    return QuotedFlow(
      tuple: FiveTuple(
        client: client, virtual: virtual, clientPort: transport.big16(2),
        virtualPort: transport.big16(0), transport: kind),
      sequence: kind == .tcp ? SequenceNumber(transport.big32(4)) : nil,
      packetOctets: packetOctets)
  }
}
