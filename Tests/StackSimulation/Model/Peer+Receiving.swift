import Primitives

// What the client makes of the stack's packets: acknowledgements for its sender, payload for its
// receiver, and the violations that a packet alone shows.

extension Peer {
  /// Takes a packet whose checksums are right.
  func receive(_ packet: [UInt8], said: Int, saidAll: Bool, at now: MonotonicInstant) throws {
    guard let segment = Packets.parse(packet) else {
      throw Violation("the client cannot read a packet: \(packet.prefix(60))")
    }
    switch phase {
    case .idle, .gone:
      if outcome != .vanished { answerWithReset(segment) }
      return
    case .opening:
      try receiveWhileOpening(segment, at: now)
    case .open, .lingering:
      try receiveWhileOpen(segment, packet, said: said, saidAll: saidAll, at: now)
    }
    pump(at: now)
  }

  func answerWithReset(_ segment: Segment) {
    guard !segment.has(Flag.rst) else { return }
    var answer = Segment()
    if segment.has(Flag.ack) {
      answer.sequence = segment.acknowledgment
      answer.flags = Flag.rst
    } else {
      answer.flags = Flag.rst | Flag.ack
      answer.acknowledgment = segment.sequence &+ UInt32(segment.payload.count)
    }
    emit(answer, offset: 0, octets: 0)
  }

  func receiveWhileOpening(_ segment: Segment, at now: MonotonicInstant) throws {
    guard segment.has(Flag.ack) else { throw Violation("no ACK in answer to a SYN") }
    guard segment.acknowledgment == initial &+ 1 else {
      if !segment.has(Flag.rst) { answerWithReset(segment) }
      return
    }
    if segment.has(Flag.rst) {
      end(.resetByStack)
      return
    }
    guard segment.has(Flag.syn) else { return }
    if segment.scale != nil, plan.scale == nil { throw Violation("unasked window scale") }
    if segment.timestamp != nil, !plan.usesTimestamps { throw Violation("unasked timestamps") }
    if segment.permitsSACK, !plan.permitsSACK { throw Violation("unasked SACK-permitted") }
    stackInitial = segment.sequence
    received = 1
    toldEdge = 1 + synWindow
    acknowledged = 1
    stackScale = segment.scale ?? 0
    stackScales = segment.scale != nil
    stampsOn = segment.timestamp != nil
    stackTakesSACK = segment.permitsSACK
    notification.isOn =
      plan.offersECN && plan.oddities.halfOffer == 0
      && !(plan.oddities.withdrawsOffer && backoff > 0)
      && segment.flags & (Flag.ece | Flag.cwr) == Flag.ece
    let offered = segment.maximumSegment ?? (addressing.isIPv4 ? 536 : 1220)
    segmentMax = min(offered, max(88, plan.maximumSegment ?? 65_535)) - (stampsOn ? 12 : 0)
    edge = 1 + Int(segment.window)
    if let stamp = segment.timestamp {
      recentStamp = stamp.value
      highestStackStamp = stamp.value
    }
    phase = .open
    keepaliveAt = now + Self.keepaliveInterval
    backoff = 0
    retransmitAt = .distantFuture
    acknowledgeNow = true
    write(at: now)
  }

  func receiveWhileOpen(
    _ segment: Segment, _ packet: [UInt8], said: Int, saidAll: Bool, at now: MonotonicInstant
  ) throws {
    let offset = received + Int(Int32(bitPattern: segment.sequence &- sequenceReceived))
    if segment.has(Flag.rst) {
      if offset == received || (offset > received && offset <= toldEdge) { end(.resetByStack) }
      return
    }
    if segment.has(Flag.syn) {
      acknowledgeNow = true
      return
    }
    try checkStamp(segment)
    notification.arrives(
      segment, carries: packet.count > segment.payload.lowerBound, acknowledged: acknowledged,
      highest: highest)
    try acknowledgmentArrives(segment, carries: packet.count > segment.payload.lowerBound, at: now)
    try payloadArrives(
      segment, packet, offset, said: said, saidAll: saidAll, at: now)
    if phase == .open, finishReceived, acknowledged == highest, finishQueued,
      acknowledged == 2 + plan.upload
    {
      phase = .lingering
      outcome = .finished
      readOctets = downloaded
      readAt = .distantFuture
      retransmitAt = .distantFuture
      persistAt = .distantFuture
      keepaliveAt = .distantFuture
      lingerUntil = now + .seconds(20)
    }
  }

  var sequenceReceived: UInt32 { stackInitial &+ UInt32(truncatingIfNeeded: received) }

  func checkStamp(_ segment: Segment) throws {
    guard stampsOn else {
      if segment.timestamp != nil { throw Violation("timestamp without negotiation") }
      return
    }
    guard let stamp = segment.timestamp else { throw Violation("a segment without timestamp") }
    if let own = ownStamps, stamp.echo != forgedStamp,
      Int32(bitPattern: stamp.echo &- own.first) < 0
        || Int32(bitPattern: own.last &- stamp.echo) < 0
    {
      throw Violation("echoes a timestamp that was never sent: \(stamp.echo)")
    }
    if Int32(bitPattern: stamp.value &- recentStamp) >= 0,
      Int32(bitPattern: segment.sequence &- sequenceReceived) <= 0
    {
      recentStamp = stamp.value
    }
  }

  func acknowledgmentArrives(
    _ segment: Segment, carries: Bool, at now: MonotonicInstant
  ) throws {
    let offset =
      acknowledged + Int(Int32(bitPattern: segment.acknowledgment &- sequence(acknowledged)))
    guard offset <= max(highest, probed) else {
      throw Violation("acknowledges \(offset), of which only \(highest) was ever sent")
    }
    for block in segment.blocks {
      let start = acknowledged + Int(Int32(bitPattern: block.start &- sequence(acknowledged)))
      let end = acknowledged + Int(Int32(bitPattern: block.end &- sequence(acknowledged)))
      guard start < end, end <= max(highest, probed) else {
        throw Violation("SACK block \(start)..<\(end) of \(highest) sent")
      }
      if end > acknowledged { note(max(start, offset), end) }
    }
    let window = Int(segment.window) << stackScale
    if offset >= acknowledged {
      if offset == acknowledged, offset + window <= edge, acknowledged < highest, !carries {
        duplicates += 1
        if duplicates == 3 {
          let end = min(acknowledged + segmentMax, 1 + written, edge, highest)
          if end > acknowledged {
            emit(
              dressed(acknowledged, 0, at: now), offset: acknowledged, octets: end - acknowledged)
          }
        }
      }
      if offset + window > edge || offset > acknowledged { backoff = 0 }
      edge = max(edge, offset + window)
    }
    guard offset > acknowledged else { return }
    acknowledged = offset
    next = max(next, offset)
    highest = max(highest, offset)
    duplicates = 0
    selectively.removeAll { $0.end <= offset }
    retransmitAt = acknowledged < highest ? now + timeout() : .distantFuture
  }

  func note(_ start: Int, _ end: Int) {
    guard start < end else { return }
    var merged = (start: start, end: end)
    selectively.removeAll { run in
      guard run.start <= merged.end, merged.start <= run.end else { return false }
      merged = (min(run.start, merged.start), max(run.end, merged.end))
      return true
    }
    selectively.append(merged)
    selectively.sort { $0.start < $1.start }
  }

  func payloadArrives(
    _ segment: Segment, _ packet: [UInt8], _ offset: Int, said: Int, saidAll: Bool,
    at now: MonotonicInstant
  ) throws {
    let octets = packet.count - segment.payload.lowerBound
    let finish = segment.has(Flag.fin)
    guard octets > 0 || finish else {
      if plan.answersKeepalive, offset == received - 1 { acknowledgeNow = true }
      return
    }
    guard offset >= 1, offset - 1 + octets <= said else {
      throw Violation("payload \(offset)+\(octets), but the target said only \(said)")
    }
    let wrong = packet.withUnsafeBytes { bytes in
      bytes.baseAddress.flatMap {
        Pattern.mismatch(
          $0 + segment.payload.lowerBound, key: downloadKey, offset: offset - 1, count: octets)
      }
    }
    if let wrong { throw Violation("payload \(offset)+\(octets) is wrong at \(wrong)") }
    if finish {
      guard saidAll, offset - 1 + octets == said else {
        throw Violation("FIN at \(offset + octets), the target said \(said), all: \(saidAll)")
      }
      let at = offset + octets
      if at < toldEdge || (plan.takesFinishBeyondWindow && at <= toldEdge) { finishAt = at }
      acknowledgeNow = true
    }
    let before = received
    let end = min(offset + octets, toldEdge)
    if !ahead.isEmpty, habits.chance(plan.oddities.reneges) { ahead = [:] }
    if end > received, offset < end {
      ahead[offset] = max(end, ahead[offset] ?? 0)
      latestAhead = max(offset, received)
    }
    if habits.chance(plan.oddities.jumpsGaps), let first = ahead.keys.min(), first > received {
      received = first
    }
    while let (start, end) = ahead.first(where: { $0.key <= received }) {
      received = max(received, end)
      ahead[start] = nil
    }
    if let at = finishAt, !finishReceived, received == at {
      received += 1
      finishReceived = true
    }
    if received == before || !ahead.isEmpty || offset < before || end < offset + octets {
      acknowledgeNow = true
    } else {
      unacknowledgedSegments += 1
      if unacknowledgedSegments >= plan.acknowledgesEvery {
        acknowledgeNow = true
      } else if acknowledgeAt == .distantFuture {
        acknowledgeAt = now + plan.acknowledgmentDelay
      }
    }
    if received > before, readAt == .distantFuture { read(at: now) }
  }

  /// The application reads: slowly, and with a long stall, if its plan says so.
  func read(at now: MonotonicInstant) {
    readAt = .distantFuture
    if let stall = plan.stallAt, !hasStalled, downloaded > stall {
      hasStalled = true
      readAt = now + plan.stall
      return
    }
    let closed = toldEdge - received
    readOctets = min(downloaded, readOctets + plan.readOctets)
    if readOctets < downloaded { readAt = now + plan.readPause }
    let open = plan.bufferOctets - (downloaded - readOctets)
    if plan.tellsWindowUpdates, closed < segmentMax || closed < plan.bufferOctets / 2,
      open > closed + min(plan.bufferOctets / 2, 2 * segmentMax)
    {
      acknowledgeNow = true
    }
  }
}
