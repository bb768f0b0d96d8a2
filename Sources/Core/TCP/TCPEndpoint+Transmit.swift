import Primitives
import Wire

// What goes out: SYN-ACK, data, acknowledgements, resets.

extension TCPEndpoint {
  /// Puts what may be sent now into `frames`.
  /// - Returns: false when the queue is full and more is to be sent: drain it and call again.
  package mutating func transmit(
    at now: MonotonicInstant, path: TCPPath, memory: inout TCPMemory, frames: inout FrameQueue
  ) -> Bool {
    switch state {
    case .listen, .closed: return true
    case .synReceived:
      guard answerDue else { break }
      guard frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0) else {
        return false
      }
      sendAnswer(at: now, path: path, frames: &frames)
      return true
    case .established, .closeWait, .finWait1, .closing, .lastAck:
      let slicesMax = max(path.burstOctets, Int(send.segmentOctets)) / ChunkPool.chunkOctets + 2
      while true {
        guard
          frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: slicesMax)
        else { return false }
        guard
          let burst = send.nextBurst(
            burstOctets: path.burstOctets, cutsReduced: path.cutsReduced, at: now,
            memory: &memory)
        else { break }
        emit(burst, at: now, path: path, memory: memory, frames: &frames)
      }
    case .finWait2, .timeWait: break
    }
    guard receive.acknowledgeNow || challengeDue || keepaliveDue else { return true }
    guard frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0) else {
      return false
    }
    sendAcknowledgment(at: now, path: path, memory: memory, frames: &frames)
    return true
  }

  /// SYN-ACK with the options that the client offered (RFC 9293 §3.10.7.2, RFC 7323 §2.2).
  mutating func sendAnswer(
    at now: MonotonicInstant, path: TCPPath, frames: inout FrameQueue
  ) {
    answerDue = false
    var options = TCPOptions()
    options.maximumSegmentSize = offeredSegmentOctets
    options.sackPermitted = permitsSACK
    if peerScales { options.windowScale = receive.scale }
    if usesTimestamps { options.timestamp = timestamp(at: now) }
    let acknowledgment = receive.taken
    let window = receive.windowField(
      acknowledgment: acknowledgment, unscaled: true,
      segmentOctets: Int(send.segmentSize.octetsMax))
    write(
      sequence: send.unacknowledged, acknowledgment: acknowledgment,
      flags: send.notification.isOn ? .synAck.union(.ece) : .synAck,
      window: window, options: options, path: path, frames: &frames)
    receive.acknowledged(acknowledgment)
    send.answered(at: now)
  }

  private mutating func emit(
    _ burst: SendSide.Burst, at now: MonotonicInstant, path: TCPPath, memory: borrowing TCPMemory,
    frames: inout FrameQueue
  ) {
    let header = frames.reserve(headerOctets: PacketWriter.tcpHeaderOctetsMax)
    if burst.octets > 0 {
      if burst.isNew { receive.answered() }
      send.buffer.append(
        offset: burst.start.distance(from: send.unacknowledged), count: burst.octets,
        pool: memory.chunks, to: &frames)
    }
    var flags = acknowledgmentFlags
    if burst.tellsReduced { flags.insert(.cwr) }
    if burst.push, burst.octets > 0 { flags.insert(.psh) }
    if burst.finish {
      flags.insert(.fin)
      if !finishTaken { finishCrosses = true }
    }
    // SACK blocks would make a full segment longer than the MTU: they follow by themselves.
    let fields = acknowledgmentFields(withBlocks: false, at: now, memory: memory)
    #if PLANTED_FAULTS
      let isNew = burst.isNew || PlantedFault.isPlanted(.sendsAgainAsCapable)
    #else
      let isNew = burst.isNew
    #endif
    let used = PacketWriter.tcp(
      to: header, source: path.tuple.virtual, destination: path.tuple.client,
      header: TCPHeader(
        sourcePort: path.tuple.virtualPort, destinationPort: path.tuple.clientPort,
        sequence: burst.start, acknowledgment: fields.acknowledgment, flags: flags,
        window: fields.window, options: fields.options),
      payload: frames.openPayload, payloadOctets: burst.octets,
      segmentOctets: Int(send.segmentOctets),
      trafficClass: isNew && send.notification.isOn ? CongestionNotification.capable : 0,
      checksum: path.checksum)
    frames.commit(headerOctets: used)
  }

  private mutating func sendAcknowledgment(
    at now: MonotonicInstant, path: TCPPath, memory: borrowing TCPMemory, frames: inout FrameQueue
  ) {
    let sequence = keepaliveDue ? keepaliveSequence : send.acknowledgingSequence
    challengeDue = false
    keepaliveDue = false
    let mss = Int(send.segmentSize.octetsMax)
    if permitsSACK, let halfway = receive.halfwayAcknowledgment(segmentOctets: mss),
      frames.fits(frames: 2, headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0)
    {
      var options = TCPOptions()
      if usesTimestamps { options.timestamp = timestamp(at: now) }
      write(
        sequence: sequence, acknowledgment: halfway, flags: acknowledgmentFlags,
        window: receive.windowField(
          acknowledgment: halfway, unscaled: !peerScales, segmentOctets: mss,
          cap: memory.windowCap.octets),
        options: options, path: path, frames: &frames)
    }
    let fields = acknowledgmentFields(withBlocks: true, at: now, memory: memory)
    write(
      sequence: sequence, acknowledgment: fields.acknowledgment, flags: acknowledgmentFlags,
      window: fields.window, options: fields.options, path: path, frames: &frames)
  }

  /// Acknowledgement, window and options of any segment sent now; notes that they were sent. Without
  /// blocks an acknowledgement that has some to tell is still owed.
  private mutating func acknowledgmentFields(
    withBlocks: Bool, at now: MonotonicInstant, memory: borrowing TCPMemory
  ) -> (acknowledgment: SequenceNumber, window: UInt16, options: TCPOptions) {
    var options = TCPOptions()
    if usesTimestamps { options.timestamp = timestamp(at: now) }
    let blocks = permitsSACK ? receive.selectiveAcknowledgment(memory: memory) : SACKBlocks()
    if withBlocks { options.sackBlocks = blocks }
    let stillOwed = !withBlocks && !blocks.isEmpty && receive.acknowledgeNow
    let acknowledgment = receive.acknowledgment(finishTaken: finishTaken)
    let window = receive.windowField(
      acknowledgment: acknowledgment, unscaled: !peerScales,
      segmentOctets: Int(send.segmentSize.octetsMax), cap: memory.windowCap.octets)
    receive.acknowledged(acknowledgment, stillOwed: stillOwed)
    return (acknowledgment, window, options)
  }

  /// ACK, and ECE as long as a mark is to be told (RFC 3168 §6.1.3).
  private var acknowledgmentFlags: TCPFlags { send.notification.echoes ? .ack.union(.ece) : .ack }

  func timestamp(at now: MonotonicInstant) -> TCPTimestamp {
    TCPTimestamp(value: SendSide.stamp(at: now) &+ timestampOffset, echo: recentTimestamp)
  }

  private func write(
    sequence: SequenceNumber, acknowledgment: SequenceNumber, flags: TCPFlags, window: UInt16,
    options: TCPOptions, path: TCPPath, frames: inout FrameQueue
  ) {
    let memory = frames.reserve(headerOctets: PacketWriter.tcpHeaderOctetsMax)
    let used = PacketWriter.tcp(
      to: memory, source: path.tuple.virtual, destination: path.tuple.client,
      header: TCPHeader(
        sourcePort: path.tuple.virtualPort, destinationPort: path.tuple.clientPort,
        sequence: sequence, acknowledgment: acknowledgment, flags: flags, window: window,
        options: options),
      payload: UnsafeBufferPointer(start: nil, count: 0), payloadOctets: 0, segmentOctets: 0,
      checksum: path.checksum)
    frames.commit(headerOctets: used)
  }

  /// Puts a reset into `frames`: the conversation is over, or the held SYN is refused
  /// (RFC 9293 §3.10.7.1: sequence 0, acknowledging the SYN). The caller releases the endpoint.
  /// - Returns: false when the queue is full: drain it and call again.
  package func reset(path: TCPPath, frames: inout FrameQueue) -> Bool {
    // Until the target took everything, the client still waits for acknowledgements in TIME-WAIT.
    guard state != .closed, state != .timeWait || !finishTaken else { return true }
    guard frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0) else {
      return false
    }
    let sequence = state == .listen ? SequenceNumber(0) : send.acknowledgingSequence
    write(
      sequence: sequence, acknowledgment: receive.acknowledgment(finishTaken: finishTaken),
      flags: .rstAck, window: 0, options: TCPOptions(), path: path, frames: &frames)
    return true
  }

  /// Answers a segment that belongs to no conversation (RFC 9293 §3.10.7.1).
  /// - Returns: false when there was no room for the frame.
  package static func refuse(
    _ segment: TCPSegment, path: TCPPath, frames: inout FrameQueue
  ) -> Bool {
    let header = segment.header
    guard !header.flags.contains(.rst) else { return true }
    guard frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0) else {
      return false
    }
    var length = segment.payload.octets
    if header.flags.contains(.syn) { length += 1 }
    if header.flags.contains(.fin) { length += 1 }
    let acknowledges = header.flags.contains(.ack)
    let memory = frames.reserve(headerOctets: PacketWriter.tcpHeaderOctetsMax)
    let used = PacketWriter.tcp(
      to: memory, source: path.tuple.virtual, destination: path.tuple.client,
      header: TCPHeader(
        sourcePort: path.tuple.virtualPort, destinationPort: path.tuple.clientPort,
        sequence: acknowledges ? header.acknowledgment : SequenceNumber(0),
        acknowledgment: acknowledges ? SequenceNumber(0) : header.sequence + length,
        flags: acknowledges ? .rst : .rstAck, window: 0),
      payload: UnsafeBufferPointer(start: nil, count: 0), payloadOctets: 0, segmentOctets: 0,
      checksum: path.checksum)
    frames.commit(headerOctets: used)
    return true
  }
}
