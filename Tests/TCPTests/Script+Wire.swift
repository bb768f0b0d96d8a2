import Primitives
import TCP
import Testing
import Wire

// Segments in and out of a script: made and parsed with Wire, checked by position.

extension Script {
  // MARK: In

  /// The client sends a segment.
  func inject(
    _ segment: TraceSegment, timestamp: UInt32?, echo: UInt32? = nil, _ location: SourceLocation
  ) {
    note("> \(segment.description)")
    let shift = segment.flags.contains(.syn) ? 0 : clientScale
    var options = segment.options
    for block in segment.sackBlocks {
      options.sackBlocks.append(
        SACKBlock(
          start: Self.serverStart + block.lowerBound, end: Self.serverStart + block.upperBound))
    }
    if segment.flags.contains(.syn) {
      clientScale = Int(options.windowScale ?? 0)
      usesTimestamps = options.timestamp != nil
    } else if segment.isUnstamped {
      options.timestamp = nil
    } else if usesTimestamps {
      options.timestamp = TCPTimestamp(
        value: timestamp ?? clientTimestamp, echo: echo ?? lastServerTimestamp)
    }
    let acknowledgment = segment.acknowledgment ?? 0
    if !segment.flags.contains(.rst) {
      clientEdge = max(clientEdge, acknowledgment + segment.window)
    }
    let header = TCPHeader(
      sourcePort: path.tuple.clientPort, destinationPort: path.tuple.virtualPort,
      sequence: Self.clientStart + segment.range.lowerBound,
      acknowledgment: segment.flags.contains(.ack)
        ? Self.serverStart + acknowledgment : SequenceNumber(0),
      flags: segment.flags, window: UInt16(clamping: segment.window >> shift), options: options)

    let payload = UnsafeMutableRawBufferPointer.allocate(
      byteCount: max(1, segment.octets), alignment: 1)
    for offset in 0..<segment.octets {
      payload[offset] = patternOctet(segment.range.lowerBound + offset, fromClient: true)
    }
    arrive(
      TCPSegment(
        header: header, payload: Slice(payload.baseAddress, segment.octets),
        isCongestionMarked: segment.codepoint == 3), location)
    arrivals.append(payload)
    if !isGathering { endTurn(location) }
  }

  func endTurn(_ location: SourceLocation) {
    turn(location)
    for payload in arrivals {
      payload.initializeMemory(as: UInt8.self, repeating: 0xDB)  // the device reads into it again
      payload.deallocate()
    }
    arrivals.removeAll()
  }

  /// The client's clock: milliseconds.
  var clientTimestamp: UInt32 {
    Self.clientClock &+ UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000 - 3_000)
  }

  private func arrive(_ segment: TCPSegment, _ location: SourceLocation) {
    if let kernel {
      if kernel.isHolding { return inapplicable("a SYN is held, which kernels do not") }
      kernel.catchUp()
      return kernel.inject(segment)
    }
    guard endpoint != nil else {
      guard segment.header.flags.contains(.syn) else {
        return fail("a script begins with a SYN", location)
      }
      endpoint = TCPEndpoint(
        holding: segment.header, isIPv4: isIPv4, initialSequence: Self.serverStart,
        timestampOffset: 77, settings: settings, at: now)
      return
    }
    let outcome = endpoint?.segmentArrives(segment, at: now, memory: &memory) ?? []
    events.formUnion(outcome)
    if outcome.contains(.refuse) {
      _ = TCPEndpoint.refuse(segment, path: path, frames: &frames)
      drain(location)
    }
  }

  // MARK: Out

  /// Parses every frame back and puts it into the outbox.
  func drain(_ location: SourceLocation) {
    for index in 0..<frames.count {
      var octets: [UInt8] = []
      for slice in frames.slices(of: index) {
        octets += UnsafeRawBufferPointer(start: slice.base, count: slice.octets)
      }
      do {
        outbox.append(try read(octets, location))
      } catch {
        fail("a frame does not parse: \(error.word)", location)
      }
    }
    frames.removeAll()
  }

  func read(_ octets: [UInt8], _ location: SourceLocation) throws(DropReason)
    -> TraceSegment
  {
    let virtio = try VirtioNetHeader(parsing: octets.span.bytes)
    let bytes = octets.span.bytes.extracting(VirtioNetHeader.octets..<octets.count)
    let packet = try ParsedPacket(parsing: bytes)
    guard case .tcp(let header) = packet.transport else { throw .unsupportedProtocol }
    let transport = bytes.extracting(packet.ip.headerOctets..<packet.ip.totalOctets)
    if !virtio.flags.contains(.needsChecksum),
      !transportChecksumIsValid(packet.ip, segment: transport)
    {
      throw .badTransportChecksum
    }
    let start = header.sequence.distance(from: Self.serverStart)
    // a reset may carry sequence number 0, which is not relative to anything
    let isBare = header.sequence == SequenceNumber(0)
    let first = isBare && header.flags.contains(.rst) ? 0 : start
    var segment = TraceSegment(
      flags: header.flags, range: first...first + packet.payloadOctets, window: 0,
      options: header.options)
    if header.flags.contains(.syn) {
      if kernel != nil { serverEdge = nil }  // it may be another connection's
      serverScale = Int(header.options.windowScale ?? 0)
      if header.options.windowScale == nil { clientScale = 0 }
    }
    segment.window = Int(header.window) << (header.flags.contains(.syn) ? 0 : serverScale)
    if header.flags.contains(.ack) {
      segment.acknowledgment = header.acknowledgment.distance(from: Self.clientStart)
    }
    for index in 0..<header.options.sackBlocks.count {
      let block = header.options.sackBlocks[index]
      segment.sackBlocks.append(
        block.start.distance(from: Self.clientStart)...block.end.distance(from: Self.clientStart))
    }
    if let stamp = header.options.timestamp { lastServerTimestamp = stamp.value }
    segment.pieceOctets =
      virtio.segmentation == VirtioNetHeader.Segmentation.none
      ? 0 : Int(virtio.segmentOctets)
    segment.codepoint = packet.ip.trafficClass & 3
    segment.cutsReduced = virtio.gsoType & VirtioNetHeader.ecnBit != 0
    segment.packetOctets =
      packet.payloadOffset
      + (segment.pieceOctets > 0 ? segment.pieceOctets : packet.payloadOctets)
    check(segment, payload: octets.suffix(packet.payloadOctets), location)
    return segment
  }

  private func check(
    _ segment: TraceSegment, payload: ArraySlice<UInt8>, _ location: SourceLocation
  ) {
    if !isPattern(payload, from: segment.range.lowerBound) {
      outbox.append(segment)
      return fail("a wrong octet was sent in \(segment.description)", location)
    }
    guard !segment.flags.contains(.rst) else { return }
    let mtu = Int(settings.segmentOctets) + (isIPv4 ? 40 : 60)
    if segment.packetOctets > mtu { fail("\(segment.description): beyond the MTU", location) }
    // one octet more is a window probe
    if segment.octets > 1, segment.range.upperBound > clientEdge {
      outbox.append(segment)
      fail("\(segment.description): beyond the window, whose edge is \(clientEdge)", location)
    }
    if let acknowledgment = segment.acknowledgment {
      if kernel == nil, acknowledgment > takenByTarget + 1 + (finishTold ? 1 : 0) {
        outbox.append(segment)
        fail("\(acknowledgment) is acknowledged, \(takenByTarget) octets were taken", location)
      }
      let edge = acknowledgment + segment.window
      if let serverEdge, edge < serverEdge {
        outbox.append(segment)
        fail("the window's edge went back from \(serverEdge) to \(edge)", location)
      }
      serverEdge = edge
    }
  }
}
