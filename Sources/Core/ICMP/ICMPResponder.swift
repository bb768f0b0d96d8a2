// What the stack says by ICMP: echo replies, and errors that quote the packet they are about.
//
// Every function writes one whole frame into a `FrameQueue` or throws the reason why not, which the
// caller counts. The reply comes from the virtual address that the client addressed: the client
// must see what a host there would say (RFC 1122 §3.2.2).
//
// What never gets an error (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4(e)): an ICMP error, a
// fragment other than the first, a packet to or from an address that is no single host's. Which
// addresses are covered, and how many errors a second are too many, is decided elsewhere
// (`TokenBucket`). Broadcast addresses of single networks are unknown here: no packet to or from one
// comes so far.

import Wire

package enum ICMPResponder {
  /// An ICMP error's IP packet is at most this long (RFC 1812 §4.3.2.3).
  package static let errorOctetsMaxIPv4 = 576
  /// RFC 4443 §2.4(c): the minimum IPv6 MTU.
  package static let errorOctetsMaxIPv6 = 1280

  /// Answers an echo request with its own data.
  ///
  /// Throws `fragment`, `truncatedHeader`, `icmpBadChecksum`, `icmpIgnored` when the packet is
  /// anything but an echo request to and from single hosts, or `frameQueueFull`.
  /// - Parameters:
  ///   - checksumIsKnown: the device vouches for the checksum.
  ///   - mtu: octets of the largest IP packet; a longer reply goes out in fragments.
  ///   - identification: of IPv6 fragments, different each time.
  package static func echoReply(
    to packet: RawSpan, header: IPHeader, checksumIsKnown: Bool = false,
    mtu: Int = PacketWriter.packetOctetsMax, identification: UInt32 = 0,
    into frames: inout FrameQueue
  ) throws(DropReason) {
    guard !header.isFragment else { throw .fragment }
    guard header.payloadOctets >= 8 else { throw .truncatedHeader }
    let request = packet.extracting(header.headerOctets..<header.totalOctets)
    let isIPv4 = header.isIPv4
    guard header.transport == (isIPv4 ? IPProtocol.icmp : IPProtocol.icmpV6),
      request.octet(0) == (isIPv4 ? ICMPv4Type.echoRequest : ICMPv6Type.echoRequest),
      request.octet(1) == 0, isSingleHost(header.source), isSingleHost(header.destination)
    else { throw .icmpIgnored }
    guard checksumIsKnown || transportChecksumIsValid(header, segment: request)
    else { throw .icmpBadChecksum }

    let body = request.extracting(8..<request.byteCount)
    let type = isIPv4 ? ICMPv4Type.echoReply : ICMPv6Type.echoReply
    // IPv4: the request's identification serves the reply too, and is unique as long as the sender's
    // is.
    guard (isIPv4 ? 20 : 40) + request.byteCount <= mtu else {
      return try writeFragments(
        into: &frames, source: header.destination, destination: header.source, mtu: mtu, type: type,
        rest: request.big32(4), body: body,
        identification: isIPv4 ? header.identification : identification)
    }
    try write(
      into: &frames, source: header.destination, destination: header.source,
      type: type, code: 0, rest: request.big32(4),
      body: body, identification: UInt16(truncatingIfNeeded: header.identification))
  }

  /// Tells the sender of `packet` that it did not arrive, and why.
  ///
  /// Throws `icmpIgnored` when the packet must not be answered, or `frameQueueFull`.
  package static func destinationUnreachable(
    _ kind: ICMPUnreachable, quoting packet: RawSpan, header: IPHeader,
    into frames: inout FrameQueue
  ) throws(DropReason) {
    let (type, code) = kind.number(isIPv4: header.isIPv4)
    try error(
      type: type, code: code, rest: try rest(for: kind, header), quoting: packet, header: header,
      into: &frames)
  }

  /// The same for a packet of which only the beginning was kept.
  package static func destinationUnreachable(
    _ kind: ICMPUnreachable, quoting packet: QuotedPacket, into frames: inout FrameQueue
  ) throws(DropReason) {
    // "Transport" needs a pointer into the packet, and is known at once or never.
    guard packet.mayBeAnswered, kind != .transport else { throw .icmpIgnored }
    let (type, code) = kind.number(isIPv4: packet.isIPv4)
    let (source, destination) = packet.addresses
    try write(
      into: &frames, source: destination, destination: source, type: type, code: code, rest: 0,
      body: packet.octets.span.bytes.extracting(first: Int(packet.count)), identification: 0)
  }

  /// "Fragmentation needed" or "packet too big" (RFC 1191 §4, RFC 4443 §3.2).
  ///
  /// Throws `icmpIgnored` when the packet must not be answered, or `frameQueueFull`.
  /// - Parameter mtu: octets of the largest IP packet that would have passed.
  package static func packetTooBig(
    mtu: Int, quoting packet: RawSpan, header: IPHeader, into frames: inout FrameQueue
  ) throws(DropReason) {
    try error(
      type: header.isIPv4 ? ICMPv4Type.unreachable : ICMPv6Type.packetTooBig,
      code: header.isIPv4 ? 4 : 0, rest: UInt32(clamping: min(mtu, 65_535)), quoting: packet,
      header: header, into: &frames)
  }

  /// The same for a packet of which only the beginning was kept.
  package static func packetTooBig(
    mtu: Int, quoting packet: QuotedPacket, into frames: inout FrameQueue
  ) throws(DropReason) {
    guard packet.mayBeAnswered else { throw .icmpIgnored }
    let (source, destination) = packet.addresses
    try write(
      into: &frames, source: destination, destination: source,
      type: packet.isIPv4 ? ICMPv4Type.unreachable : ICMPv6Type.packetTooBig,
      code: packet.isIPv4 ? 4 : 0, rest: UInt32(clamping: min(mtu, 65_535)),
      body: packet.octets.span.bytes.extracting(first: Int(packet.count)), identification: 0)
  }

  /// "Fragment reassembly time exceeded" (RFC 792, RFC 4443 §3.3).
  ///
  /// Throws `icmpIgnored` when the packet must not be answered, or `frameQueueFull`.
  /// - Parameter packet: the first fragment.
  package static func reassemblyTimeExceeded(
    quoting packet: RawSpan, header: IPHeader, into frames: inout FrameQueue
  ) throws(DropReason) {
    try error(
      type: header.isIPv4 ? ICMPv4Type.timeExceeded : ICMPv6Type.timeExceeded, code: 1, rest: 0,
      quoting: packet, header: header, into: &frames)
  }

  /// Whether an ICMP error about the packet is allowed.
  package static func mayAnswer(_ packet: RawSpan, _ header: IPHeader) -> Bool {
    guard header.fragmentOffset == 0, isSingleHost(header.source), isSingleHost(header.destination)
    else { return false }
    guard header.transport == (header.isIPv4 ? IPProtocol.icmp : IPProtocol.icmpV6)
    else { return true }
    guard header.payloadOctets > 0, header.totalOctets <= packet.byteCount else { return false }
    let type = packet.octet(header.headerOctets)
    if header.isIPv4 {
      switch type {
      case ICMPv4Type.unreachable, ICMPv4Type.sourceQuench, ICMPv4Type.redirect,
        ICMPv4Type.timeExceeded, ICMPv4Type.parameterProblem:
        return false
      default: return true
      }
    }
    return type >= 128 && type != ICMPv6Type.redirect
  }
}

extension ICMPResponder {
  private static func isSingleHost(_ address: IPAddress) -> Bool {
    !address.isMulticast && !address.isReserved && !address.isUnspecified
      && !address.isLoopback && !address.isThisNetwork
  }

  /// The second half of an unreachable's header: zero, but for ICMPv6's "unrecognised next header",
  /// which points at the field (RFC 4443 §3.4). Behind extension headers that field is not looked
  /// for.
  private static func rest(
    for kind: ICMPUnreachable, _ header: IPHeader
  ) throws(DropReason) -> UInt32 {
    guard kind == .transport, !header.isIPv4 else { return 0 }
    guard header.headerOctets == 40 else { throw .icmpIgnored }
    return 6
  }

  private static func error(
    type: UInt8, code: UInt8, rest: UInt32, quoting packet: RawSpan, header: IPHeader,
    into frames: inout FrameQueue
  ) throws(DropReason) {
    guard mayAnswer(packet, header) else { throw .icmpIgnored }
    let room = header.isIPv4 ? errorOctetsMaxIPv4 - 28 : errorOctetsMaxIPv6 - 48
    let quote = packet.extracting(first: min(header.totalOctets, packet.byteCount, room))
    try write(
      into: &frames, source: header.destination, destination: header.source, type: type, code: code,
      rest: rest, body: quote, identification: 0)
  }

  private static func write(
    into frames: inout FrameQueue, source: IPAddress, destination: IPAddress, type: UInt8,
    code: UInt8, rest: UInt32, body: RawSpan, identification: UInt16
  ) throws(DropReason) {
    let octets = PacketWriter.icmpFrameOctets(
      bodyOctets: body.byteCount, isIPv4: source.isIPv4)
    // An answer carries shorter headers than its question at most; still, lengths are 16 bits wide.
    guard octets - VirtioNetHeader.octets <= PacketWriter.packetOctetsMax,
      frames.fits(headerOctets: octets, payloadSlices: 0)
    else { throw .frameQueueFull }
    let memory = frames.reserve(headerOctets: octets)
    let written = PacketWriter.icmp(
      to: memory, source: source, destination: destination, type: type, code: code, rest: rest,
      body: body, identification: identification)
    frames.commit(headerOctets: written)
  }
}
