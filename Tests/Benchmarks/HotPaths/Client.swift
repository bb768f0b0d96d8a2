import Primitives
import Wire

// A client's end of one conversation: it writes frames as the device would hand them over, into
// memory of its own, and reads what comes back as far as it needs to go on.

package struct Client: ~Copyable {
  static let ipv4 = (client: IPAddress(v4: 0xC000_0207), virtual: IPAddress(v4: 0x0A4D_000A))
  static let ipv6 = (
    client: IPAddress(high: 0x2001_0DB8_0000_0000, low: 7),
    virtual: IPAddress(high: 0xFD77_0000_0000_0000, low: 10)
  )
  /// Payload of one segment at an MTU of 1500, behind timestamps.
  static let segmentOctets = 1428

  let client: IPAddress
  let virtual: IPAddress
  let port: UInt16
  let virtualPort: UInt16
  private let memory: UnsafeMutableRawPointer
  private static let memoryOctets = 66_000

  /// SND.NXT.
  var sequence = SequenceNumber(0)
  /// RCV.NXT.
  var acknowledgment = SequenceNumber(0)
  /// Octets that came ahead of a gap: from `gapEnd` to `highest`.
  var gapEnd = SequenceNumber(0)
  var highest = SequenceNumber(0)
  /// TS.Recent.
  private var echo: UInt32 = 0
  /// Octets that came in order.
  private(set) var octetsHeard = 0
  private(set) var hasFinished = false
  private(set) var wasReset = false
  /// A frame with payload of its own arrived since the last acknowledgement.
  var owesAcknowledgment = false
  /// Each so many frames with payload one is lost; 0: none.
  var lossEvery = 0
  private var framesHeard = 0

  init(isIPv4: Bool = true, port: UInt16 = 40_000, virtualPort: UInt16 = 80) {
    (client, virtual) = isIPv4 ? Self.ipv4 : Self.ipv6
    self.port = port
    self.virtualPort = virtualPort
    memory = .allocate(byteCount: Self.memoryOctets, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0x5A, count: Self.memoryOctets)
  }

  deinit { memory.deallocate() }

  /// Begins another conversation of the same pair of ports.
  mutating func restart() {
    sequence = sequence + 100_000
    acknowledgment = SequenceNumber(0)
    hasFinished = false
    wasReset = false
    echo = 0
  }

  // MARK: Out

  /// A TCP segment, or a super-packet if it carries more than one segment's payload. Valid until the
  /// next one is written.
  /// - Parameter isVerified: the device vouches for the checksum; else it is computed, to be checked.
  mutating func segment(
    _ flags: TCPFlags, payloadOctets: Int = 0, isVerified: Bool = true, at now: MonotonicInstant
  ) -> UnsafeRawBufferPointer {
    write(
      flags, sequence: sequence, payloadOctets: payloadOctets, isVerified: isVerified, at: now,
      advance: true)
  }

  /// A segment elsewhere in the stream, which SND.NXT does not follow.
  mutating func stray(
    _ flags: TCPFlags, at sequence: SequenceNumber, payloadOctets: Int, at now: MonotonicInstant
  ) -> UnsafeRawBufferPointer {
    write(
      flags, sequence: sequence, payloadOctets: payloadOctets, isVerified: true, at: now,
      advance: false)
  }

  private mutating func write(
    _ flags: TCPFlags, sequence: SequenceNumber, payloadOctets: Int, isVerified: Bool,
    at now: MonotonicInstant, advance: Bool
  ) -> UnsafeRawBufferPointer {
    var options = TCPOptions()
    options.timestamp = TCPTimestamp(
      value: UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000), echo: echo)
    if flags.contains(.syn) {
      options.maximumSegmentSize = 1460
      options.sackPermitted = true
      options.windowScale = 8
    } else if highest != acknowledgment, acknowledgment.precedes(highest) {
      options.sackBlocks.append(SACKBlock(start: gapEnd, end: highest))
    }
    let header = TCPHeader(
      sourcePort: port, destinationPort: virtualPort, sequence: sequence,
      acknowledgment: flags.contains(.ack) ? acknowledgment : SequenceNumber(0), flags: flags,
      window: 0xFFFF, options: options)
    // Where the payload will lie has to be known for its checksum: behind 12 octets of options.
    let prefix = PacketWriter.prefixOctets(isIPv4: virtual.isIPv4) + TCPHeader.octetsMin + 12
    let payload = Slice(memory + prefix, payloadOctets)
    let used = withUnsafePointer(to: payload) { slice in
      PacketWriter.tcp(
        to: memory, source: client, destination: virtual, header: header,
        payload: UnsafeBufferPointer(start: slice, count: 1), payloadOctets: payloadOctets,
        segmentOctets: Self.segmentOctets, checksum: isVerified ? .offloaded : .computed)
    }
    owesAcknowledgment = false
    if advance {
      self.sequence = sequence + payloadOctets
      if flags.contains(.syn) || flags.contains(.fin) { self.sequence = self.sequence + 1 }
    }
    return UnsafeRawBufferPointer(start: memory, count: used + payloadOctets)
  }

  /// A datagram, or a super-packet of them.
  mutating func datagram(
    payloadOctets: Int, segmentOctets: Int = 0
  ) -> UnsafeRawBufferPointer {
    let used = PacketWriter.udp(
      to: memory, source: client, destination: virtual, sourcePort: port,
      destinationPort: virtualPort, payload: UnsafeBufferPointer(start: nil, count: 0),
      payloadOctets: payloadOctets, segmentOctets: segmentOctets, checksum: .offloaded)
    return UnsafeRawBufferPointer(start: memory, count: used + payloadOctets)
  }

  /// An echo request of 64 octets.
  mutating func echoRequest() -> UnsafeRawBufferPointer {
    let body = UnsafeRawBufferPointer(start: memory + 1024, count: 64)
    let used = PacketWriter.icmp(
      to: memory, source: client, destination: virtual, type: virtual.isIPv4 ? 8 : 128, code: 0,
      rest: 0x0102_0003, body: body.bytes)
    return UnsafeRawBufferPointer(start: memory, count: used)
  }

  // MARK: In

  /// A frame that the stack sent: headers in its first slice, payload in the others.
  mutating func hear(_ frame: UnsafeBufferPointer<Slice>) {
    let skipped = PacketWriter.prefixOctets(isIPv4: virtual.isIPv4)
    guard let base = frame[0].base, frame[0].octets >= skipped + TCPHeader.octetsMin else { return }
    var octets = 0
    for index in 1..<max(1, frame.count) { octets += frame[index].octets }
    let header: TCPHeader
    do {
      let bytes = UnsafeRawBufferPointer(start: base + skipped, count: frame[0].octets - skipped)
      header = try TCPHeader(parsing: bytes.bytes)
    } catch {
      return
    }
    if let timestamp = header.options.timestamp { echo = timestamp.value }
    if header.flags.contains(.rst) { wasReset = true }
    if header.flags.contains(.syn) {
      acknowledgment = header.sequence + 1
      highest = acknowledgment
      gapEnd = acknowledgment
    }
    if octets > 0 { payloadArrives(header.sequence, octets) }
    if header.flags.contains(.fin), header.sequence + octets == acknowledgment {
      acknowledgment = acknowledgment + 1
      highest = acknowledgment
      hasFinished = true
      owesAcknowledgment = true
    }
  }

  private mutating func payloadArrives(_ start: SequenceNumber, _ octets: Int) {
    owesAcknowledgment = true
    framesHeard += 1
    let end = start + octets
    if lossEvery > 0, framesHeard % lossEvery == 0, highest.precedesOrEquals(start) { return }
    if start == acknowledgment {
      octetsHeard += octets
      acknowledgment = end
      if acknowledgment == gapEnd, gapEnd.precedes(highest) {
        octetsHeard += highest.distance(from: gapEnd)
        acknowledgment = highest
      }
      if highest.precedes(acknowledgment) {
        highest = acknowledgment
        gapEnd = acknowledgment
      }
    } else if highest == acknowledgment, acknowledgment.precedes(start) {
      gapEnd = start
      highest = end
    } else if start == highest {
      highest = end
    }
  }
}

extension TCPFlags {
  // Made once: a literal of two flags may allocate where the type is another module's.
  static let pushed: TCPFlags = [.ack, .psh]
  static let finished: TCPFlags = [.ack, .fin]
}
