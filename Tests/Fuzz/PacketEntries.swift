import ICMP
import Primitives
import Wire

// Parsers of what the device gives: IP and transport headers, ICMP messages, TCP options, the
// virtio-net header.
//
// A packet is read as it came and once more with its IPv4 header checksum mended, since chance does
// not find the right one. What was read must lie within the packet, and what our writer stores must
// be read back as it was.

@Sendable func packetEntry(_ bytes: UnsafeRawBufferPointer) {
  readPacket(bytes)
  withMendedHeader(bytes, readPacket)
}

/// Calls `body` with a copy whose IPv4 header has its right checksum.
private func withMendedHeader(
  _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
) {
  guard let first = bytes.first, first >> 4 == 4 else { return }
  let headerOctets = Int(first & 15) * 4
  guard headerOctets >= 20, headerOctets <= bytes.count else { return }
  UnsafeMutableRawBufferPointer.withCopy(of: bytes) { copy in
    copy[10] = 0
    copy[11] = 0
    var checksum = Checksum()
    checksum.add(UnsafeRawBufferPointer(rebasing: copy[..<headerOctets]).bytes)
    copy[10] = UInt8(checksum.value >> 8)
    copy[11] = UInt8(truncatingIfNeeded: checksum.value)
    body(UnsafeRawBufferPointer(copy))
  }
}

private func readPacket(_ bytes: UnsafeRawBufferPointer) {
  guard let packet = try? ParsedPacket(parsing: bytes.bytes) else { return }
  let ip = packet.ip
  require(ip.headerOctets >= 20 && ip.headerOctets <= ip.totalOctets, "header before the end")
  require(ip.totalOctets <= bytes.count, "the packet ends within its memory")
  require(
    packet.payloadOffset >= ip.headerOctets && packet.payloadOctets >= 0
      && packet.payloadOffset + packet.payloadOctets <= ip.totalOctets,
    "the payload lies within the packet")
  require(ip.source.isIPv4 == ip.destination.isIPv4 || ip.martianReason() != nil, "one family")
  let segment = bytes.bytes.extracting(ip.headerOctets..<ip.totalOctets)
  switch packet.transport {
  case .tcp(let header):
    _ = transportChecksumIsValid(ip, segment: segment)
    require(header.headerOctets >= 20 && header.headerOctets <= 60, "TCP header")
    require(header.sourcePort != 0 && header.destinationPort != 0, "ports")
    require((header.options.windowScale ?? 0) <= 14, "window scale")
  case .udp(let header):
    _ = transportChecksumIsValid(ip, segment: segment)
    require(header.payloadOctets == packet.payloadOctets, "UDP length")
  case .icmp: _ = transportChecksumIsValid(ip, segment: segment)
  case .fragment: require(ip.isFragment, "a fragment is one")
  case .unsupported: break
  }
}

@Sendable func icmpEntry(_ bytes: UnsafeRawBufferPointer) {
  readMessage(bytes)
  withMendedHeader(bytes, readMessage)
}

private func readMessage(_ bytes: UnsafeRawBufferPointer) {
  let span = bytes.bytes
  guard let header = try? IPHeader(parsing: span) else { return }
  var frames = FrameQueue()
  _ = try? ICMPMessage(parsing: span, header: header)
  let message = try? ICMPMessage(parsing: span, header: header, checksumIsKnown: true)
  if case .packetTooBig(let mtu, _)? = message { require(mtu >= 0, "an MTU is no debt") }
  if (try? ICMPResponder.echoReply(
    to: span, header: header, checksumIsKnown: true, into: &frames)) != nil
  {
    guard case .echoRequest? = message else { fatalError("broken: an answer to no question") }
  }
  for kind in ICMPUnreachable.allCases {
    try? ICMPResponder.destinationUnreachable(kind, quoting: span, header: header, into: &frames)
  }
  try? ICMPResponder.packetTooBig(mtu: 1280, quoting: span, header: header, into: &frames)
  let quoted = QuotedPacket(packet: span, header: header)
  try? ICMPResponder.destinationUnreachable(.port, quoting: quoted, into: &frames)
  for index in 0..<frames.count { checkAnswer(frames.slices(of: index), to: bytes) }
}

/// An answer is whole, has its checksums, and is no longer than what caused it, or than an error is.
private func checkAnswer(
  _ slices: UnsafeMutableBufferPointer<Slice>, to question: UnsafeRawBufferPointer
) {
  var frame: [UInt8] = []
  for slice in slices { frame += UnsafeRawBufferPointer(start: slice.base, count: slice.octets) }
  frame.removeFirst(VirtioNetHeader.octets)
  require(frame.count <= max(question.count, ICMPResponder.errorOctetsMaxIPv6), "no amplifier")
  frame.withUnsafeBytes { bytes in
    guard let packet = try? ParsedPacket(parsing: bytes.bytes), case .icmp = packet.transport else {
      fatalError("broken: an answer is an ICMP packet")
    }
    require(
      transportChecksumIsValid(
        packet.ip,
        segment: bytes.bytes.extracting(packet.ip.headerOctets..<packet.ip.totalOctets)),
      "an answer's checksum")
  }
}

/// The input is a header's options, padded with zeros.
@Sendable func tcpOptionsEntry(_ bytes: UnsafeRawBufferPointer) {
  let options = UnsafeRawBufferPointer(rebasing: bytes.prefix(TCPOptions.octetsMax))
  let headerOctets = 20 + (options.count + 3) / 4 * 4
  let segment = UnsafeMutableRawBufferPointer.allocate(byteCount: headerOctets, alignment: 16)
  defer { segment.deallocate() }
  segment.initializeMemory(as: UInt8.self, repeating: 0)
  segment[1] = 80
  segment[3] = 80
  segment[12] = UInt8(headerOctets / 4) << 4
  segment[13] = TCPFlags.ack.rawValue
  UnsafeMutableRawBufferPointer(rebasing: segment[20...]).copyBytes(from: options)
  guard let header = try? TCPHeader(parsing: UnsafeRawBufferPointer(segment).bytes) else { return }
  require(header.headerOctets == headerOctets, "header length")
  require(header.options.sackBlocks.count <= SACKBlocks.countMax, "SACK blocks")
  writeAndRead(header)
}

private func writeAndRead(_ header: TCPHeader) {
  let address = IPAddress(v4: 0x0a00_0001)
  withUnsafeTemporaryAllocation(byteCount: PacketWriter.tcpHeaderOctetsMax, alignment: 16) {
    memory in
    guard let base = memory.baseAddress else { return }
    let octets = PacketWriter.tcp(
      to: base, source: address, destination: address, header: header,
      payload: UnsafeBufferPointer(start: nil, count: 0), payloadOctets: 0, segmentOctets: 0,
      checksum: .computed)
    require(octets <= memory.count, "the header has room")
    let packet = UnsafeRawBufferPointer(rebasing: memory[VirtioNetHeader.octets..<octets])
    guard let parsed = try? ParsedPacket(parsing: packet.bytes),
      case .tcp(let again) = parsed.transport
    else { fatalError("broken: our own header is not read") }
    var written = header.options
    if written.timestamp != nil || again.options.sackBlocks.count < written.sackBlocks.count {
      // There is room for fewer blocks beside other options.
      written.sackBlocks = again.options.sackBlocks
    }
    require(again.options == written, "options come back as they were")
  }
}

@Sendable func virtioEntry(_ bytes: UnsafeRawBufferPointer) {
  guard let header = try? VirtioNetHeader(parsing: bytes.bytes) else { return }
  withUnsafeTemporaryAllocation(byteCount: VirtioNetHeader.octets, alignment: 8) { memory in
    guard let base = memory.baseAddress else { return }
    header.write(to: base)
    let again = try? VirtioNetHeader(parsing: UnsafeRawBufferPointer(memory).bytes)
    require(again == header, "the header comes back as it was")
  }
}
