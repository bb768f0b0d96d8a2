import Wire

// An echo reply that is longer than the MTU, in IP fragments.
//
// Whoever asks with a packet that had to be fragmented must be answered with one: an echo reply has
// the request's data, all of it (RFC 1122 §3.2.2.6). Errors are never that long. The body is copied,
// since it may lie in memory that is gone when the frames are written.

extension ICMPResponder {
  /// Writes all fragments of a message or none.
  ///
  /// Throws `frameQueueFull`.
  /// - Parameters:
  ///   - mtu: octets of a fragment at most, its IP header included.
  ///   - rest: the second half of the ICMP header.
  static func writeFragments(
    into frames: inout FrameQueue, source: IPAddress, destination: IPAddress, mtu: Int,
    type: UInt8, rest: UInt32, body: RawSpan, identification: UInt32
  ) throws(DropReason) {
    let isIPv4 = source.isIPv4
    let total = 8 + body.byteCount
    let fragmentMax = (mtu - (isIPv4 ? 20 : 48)) & ~7
    precondition(fragmentMax > 8, "mtu")
    let count = (total + fragmentMax - 1) / fragmentMax
    let headerMax = PacketWriter.fragmentHeaderOctetsMax
    guard frames.fits(headerOctets: (headerMax + 16) * count + total, payloadSlices: count),
      frames.count + count <= FrameQueue.framesMax
    else { throw .frameQueueFull }

    var offset = 0
    while offset < total {
      let octets = min(fragmentMax, total - offset)
      let memory = frames.reserve(headerOctets: headerMax + octets)
      let used = PacketWriter.fragment(
        to: memory, source: source, destination: destination,
        transport: isIPv4 ? IPProtocol.icmp : IPProtocol.icmpV6, payloadOctets: octets,
        fragmentOffset: offset, moreFragments: offset + octets < total,
        identification: identification)
      var target = memory + used
      var piece = offset - 8..<offset - 8 + octets
      if offset == 0 {
        header(to: target, source: source, destination: destination, type: type, rest, body)
        target += 8
        piece = 0..<octets - 8
      }
      body.extracting(piece).withUnsafeBytes { octets in
        if let base = octets.baseAddress { target.copyMemory(from: base, byteCount: octets.count) }
      }
      frames.commit(headerOctets: used + octets)
      offset += octets
    }
  }

  /// Stores the eight octets of an ICMP header, code 0, with the checksum over all of the message.
  private static func header(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress, type: UInt8,
    _ rest: UInt32, _ body: RawSpan
  ) {
    memory.put(big: UInt16(type) << 8, at: 0)
    memory.put(big: 0 as UInt16, at: 2)
    memory.put(big: rest, at: 4)
    var checksum = Checksum()
    if !source.isIPv4 {
      checksum.addPseudoHeader(
        source: source, destination: destination, transport: IPProtocol.icmpV6,
        octets: 8 + body.byteCount)
    }
    checksum.add(memory, octets: 8)
    checksum.add(body)
    memory.put(big: checksum.value, at: 2)
  }
}
