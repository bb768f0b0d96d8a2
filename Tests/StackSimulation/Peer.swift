import Primitives

// The client: an active-opening TCP of its own, small and simple on purpose (RFC 9293).
//
// Positions are offsets into a stream and never wrap: 0 is the SYN, 1 the first octet, one behind the
// last the FIN; sequence numbers appear only at the edge. The sender goes back to the first
// unacknowledged octet when its timer fires and skips what was selectively acknowledged; its flight
// is bounded by a constant, not by congestion control. The receiver keeps segments in a dictionary by
// their start. Whatever the stack sends that a TCP must not send is a violation, thrown at once.

/// A rule was broken; what a run ends with.
struct Violation: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

final class Peer {
  enum Phase { case idle, opening, open, lingering, gone }
  enum Outcome { case none, finished, resetByStack, resetByUs, gaveUp, unreachable }

  let plan: ClientPlan
  let addressing: Addressing
  let uploadKey: Int
  let downloadKey: Int
  let initial: UInt32
  private let stampOffset: UInt32
  private(set) var phase = Phase.idle
  var outcome = Outcome.none
  /// Packets to send, and whether each is a super-packet (its segment size, else 0).
  var outbox: [(packet: [UInt8], segmentOctets: Int)] = []

  // The sender.
  private(set) var acknowledged = 0
  private(set) var next = 0
  private(set) var highest = 0
  /// The right edge that the stack has told.
  private(set) var edge = 1
  private var written = 0
  private var writeAt = MonotonicInstant.distantFuture
  private var retransmitAt = MonotonicInstant.distantFuture
  private var persistAt = MonotonicInstant.distantFuture
  private var backoff = 0
  private var duplicates = 0
  private var selectively: [(start: Int, end: Int)] = []
  private var stackScale = 0
  private var segmentMax = 536
  private var stackTakesSACK = false
  private var stampsOn = false
  private var resetAt = MonotonicInstant.distantFuture
  /// An idle connection is asked for a sign of life (RFC 1122 §4.2.3.6): a lost reset is found out.
  private var keepaliveAt = MonotonicInstant.distantFuture
  private(set) var timeouts = 0

  // The receiver.
  private var stackInitial: UInt32 = 0
  /// Everything before it is here (RCV.NXT as an offset; 1 once the SYN is in).
  private(set) var received = 0
  private var ahead: [Int: Int] = [:]
  private var finishAt: Int?
  private(set) var finishReceived = false
  private(set) var readOctets = 0
  private var readAt = MonotonicInstant.distantFuture
  private var hasStalled = false
  /// The right edge that we have told.
  private(set) var toldEdge = 0
  private var unacknowledgedSegments = 0
  private var acknowledgeAt = MonotonicInstant.distantFuture
  private var acknowledgeNow = false
  private var latestAhead = 0
  private var recentStamp: UInt32 = 0
  private var highestStackStamp: UInt32?
  private var lingerUntil = MonotonicInstant.distantFuture
  private var ownStamps: (first: UInt32, last: UInt32)?

  init(
    _ plan: ClientPlan, _ addressing: Addressing, uploadKey: Int, downloadKey: Int,
    dice: inout Dice
  ) {
    self.plan = plan
    self.addressing = addressing
    self.uploadKey = uploadKey
    self.downloadKey = downloadKey
    initial = dice.percent(40) ? UInt32.max &- UInt32(dice.below(40_000)) : dice.word()
    stampOffset = dice.percent(30) ? UInt32.max &- UInt32(dice.below(5_000)) : dice.word()
  }

  var isOver: Bool { phase == .gone || phase == .lingering }
  var downloaded: Int { max(0, received - 1 - (finishReceived ? 1 : 0)) }

  var nextDeadline: MonotonicInstant {
    [
      writeAt, retransmitAt, persistAt, resetAt, readAt, acknowledgeAt, lingerUntil, keepaliveAt,
    ].min()
      ?? .distantFuture
  }

  static let keepaliveInterval = Interval.seconds(75)

  // MARK: Application

  func open(at now: MonotonicInstant) {
    phase = .opening
    toldEdge = 1
    if let after = plan.resetAfter { resetAt = now + after }
    sendSYN(at: now)
  }

  private func sendSYN(at now: MonotonicInstant) {
    var segment = Segment()
    segment.sequence = initial
    segment.flags = Flag.syn
    segment.window = UInt16(min(plan.bufferOctets, 65_535))
    segment.maximumSegment = plan.maximumSegment
    segment.scale = plan.scale
    segment.permitsSACK = plan.permitsSACK
    if plan.usesTimestamps { segment.timestamp = stamp(at: now) }
    highest = 1
    next = 1
    retransmitAt = now + .milliseconds(1_000 << min(backoff, 4))
    emit(segment, offset: 0, octets: 0)
  }

  private func stamp(at now: MonotonicInstant) -> (value: UInt32, echo: UInt32) {
    let value = UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000) &+ stampOffset
    ownStamps = (ownStamps?.first ?? value, value)
    return (value, recentStamp)
  }

  private func write(at now: MonotonicInstant) {
    written = min(plan.upload, written + plan.writeOctets)
    writeAt = written < plan.upload ? now + plan.writePause : .distantFuture
  }

  private var finishQueued: Bool {
    written == plan.upload && (plan.ending == .afterSending || finishReceived)
  }

  /// Resets the connection, as an application that closes with SO_LINGER 0.
  private func abort(at now: MonotonicInstant) {
    if phase == .open || phase == .opening, highest > 0 {
      var segment = Segment()
      segment.sequence = sequence(highest)
      segment.flags = Flag.rst | Flag.ack
      segment.acknowledgment = stackInitial &+ UInt32(received)
      if phase == .opening { segment.flags = Flag.rst }
      emit(segment, offset: 0, octets: 0)
    }
    end(.resetByUs)
  }

  private func end(_ outcome: Outcome) {
    if self.outcome == .none { self.outcome = outcome }
    phase = .gone
    for clear in [
      \Peer.writeAt, \Peer.retransmitAt, \Peer.persistAt, \Peer.resetAt, \Peer.readAt,
      \Peer.acknowledgeAt, \Peer.lingerUntil, \Peer.keepaliveAt,
    ] as [ReferenceWritableKeyPath<Peer, MonotonicInstant>] { self[keyPath: clear] = .distantFuture }
  }

  func unreachable() {
    guard phase == .opening else { return }
    end(.unreachable)
  }

  // MARK: Time

  func timer(at now: MonotonicInstant) {
    guard phase != .gone else { return }
    if resetAt <= now {
      resetAt = .distantFuture
      if phase == .open || phase == .opening {
        abort(at: now)
        return
      }
    }
    if lingerUntil <= now {
      end(.finished)
      return
    }
    if phase == .opening {
      guard retransmitAt <= now else { return }
      backoff += 1
      if backoff > 7 { end(.gaveUp) } else { sendSYN(at: now) }
      return
    }
    if keepaliveAt <= now {
      keepaliveAt = now + Self.keepaliveInterval
      if acknowledged == highest { emit(dressed(acknowledged - 1, 0, at: now), offset: 0, octets: 0) }
    }
    if writeAt <= now { write(at: now) }
    if readAt <= now { read(at: now) }
    if acknowledgeAt <= now { acknowledgeNow = true }
    if retransmitAt <= now {
      retransmitAt = .distantFuture
      if acknowledged < highest {
        backoff += 1
        timeouts += 1
        duplicates = 0
        if plan.forgetsSACK { selectively = [] }
        next = acknowledged
      }
    }
    if persistAt <= now {
      persistAt = .distantFuture
      probe(at: now)
    }
    pump(at: now)
  }

  private func timeout() -> Interval {
    let base = plan.timeout.nanoseconds << Int64(min(backoff, 6))
    return Interval(nanoseconds: min(base, 10_000_000_000))
  }

  // MARK: Sending

  private func sequence(_ offset: Int) -> UInt32 { initial &+ UInt32(truncatingIfNeeded: offset) }

  private func emit(_ segment: Segment, offset: Int, octets: Int) {
    let packet = Packets.build(
      addressing, segment, key: uploadKey, offset: offset - 1, octets: octets)
    outbox.append((packet, octets > segmentMax ? segmentMax : 0))
  }

  /// A segment with everything that an acknowledgement carries.
  private func dressed(_ offset: Int, _ flags: UInt8, at now: MonotonicInstant) -> Segment {
    var segment = Segment()
    segment.sequence = sequence(offset)
    segment.acknowledgment = stackInitial &+ UInt32(truncatingIfNeeded: received)
    segment.flags = flags | Flag.ack
    if stampsOn { segment.timestamp = stamp(at: now) }
    if stackTakesSACK, plan.permitsSACK { segment.blocks = blocks() }
    let unread = max(0, downloaded - readOctets)
    let shift = plan.scale == nil || !stackScales ? 0 : plan.scale ?? 0
    let open = received + max(0, plan.bufferOctets - unread)
    let wanted = max(0, max(open, toldEdge) - received)
    var field = min(wanted >> shift, 65_535)
    while received + field << shift < toldEdge, field < 65_535 { field += 1 }
    toldEdge = max(toldEdge, received + field << shift)
    segment.window = UInt16(field)
    acknowledgeNow = false
    acknowledgeAt = .distantFuture
    unacknowledgedSegments = 0
    return segment
  }

  private var stackScales = false

  private func blocks() -> [(start: UInt32, end: UInt32)] {
    var runs: [(start: Int, end: Int)] = []
    for (start, end) in ahead.sorted(by: { $0.key < $1.key }) {
      if let last = runs.last, start <= last.end {
        runs[runs.count - 1].end = max(last.end, end)
      } else {
        runs.append((start, end))
      }
    }
    if let first = runs.firstIndex(where: { $0.start <= latestAhead && latestAhead < $0.end }) {
      runs.insert(runs.remove(at: first), at: 0)
    }
    return runs.prefix(3).map {
      (stackInitial &+ UInt32($0.start), stackInitial &+ UInt32($0.end))
    }
  }

  /// What one frame may carry: a super-packet is a whole number of segments.
  private var superOctets: Int {
    max(1, min(plan.superSegments, 60_000 / segmentMax)) * segmentMax
  }

  /// Sends what may be sent, and an acknowledgement if one is due and nothing else carried it.
  func pump(at now: MonotonicInstant) {
    guard phase == .open || phase == .lingering else { return }
    let dataEnd = 1 + written
    while phase == .open {
      if let run = selectively.first(where: { $0.start <= next && next < $0.end }) {
        next = run.end
        continue
      }
      let limit = min(edge, acknowledged + plan.flightSegments * segmentMax)
      var octets = min(dataEnd - next, limit - next, superOctets)
      if let run = selectively.first(where: { $0.start > next }) {
        octets = min(octets, run.start - next)
      }
      let isLast = next + max(0, octets) == dataEnd
      let finish =
        finishQueued && isLast && next <= dataEnd && next + max(0, octets) + 1 <= edge
      guard octets > 0 || finish else { break }
      octets = max(0, octets)
      var flags: UInt8 = isLast ? Flag.psh : 0
      if finish { flags |= Flag.fin }
      let segment = dressed(next, flags, at: now)
      emit(segment, offset: next, octets: octets)
      next += octets + (finish ? 1 : 0)
      highest = max(highest, next)
      if retransmitAt == .distantFuture { retransmitAt = now + timeout() }
    }
    let wants = next < dataEnd || (finishQueued && next == dataEnd)
    if acknowledged == highest, wants, persistAt == .distantFuture {
      persistAt = now + timeout()
    } else if acknowledged < highest || !wants {
      persistAt = .distantFuture
    }
    if acknowledgeNow {
      let segment = dressed(min(highest, max(edge, acknowledged)), 0, at: now)
      emit(segment, offset: 0, octets: 0)
    }
  }

  /// Asks whether the window has opened (RFC 9293 §3.8.6.1; without data as kernels do it).
  private func probe(at now: MonotonicInstant) {
    guard acknowledged == highest else { return }
    backoff += 1
    if plan.probesWithData, acknowledged < 1 + written {
      emit(dressed(acknowledged, 0, at: now), offset: acknowledged, octets: 1)
      probed = acknowledged + 1
    } else {
      emit(dressed(acknowledged - 1, 0, at: now), offset: 0, octets: 0)
    }
  }
  private var probed = 0

  // MARK: Receiving

  /// Takes a packet whose checksums are right.
  func receive(_ packet: [UInt8], said: Int, saidAll: Bool, at now: MonotonicInstant) throws {
    guard let segment = Packets.parse(packet) else {
      throw Violation("the client cannot read a packet: \(packet.prefix(60))")
    }
    switch phase {
    case .idle, .gone:
      answerWithReset(segment)
      return
    case .opening:
      try receiveWhileOpening(segment, at: now)
    case .open, .lingering:
      try receiveWhileOpen(segment, packet, said: said, saidAll: saidAll, at: now)
    }
    pump(at: now)
  }

  private func answerWithReset(_ segment: Segment) {
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

  private func receiveWhileOpening(_ segment: Segment, at now: MonotonicInstant) throws {
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
    toldEdge = 1 + min(plan.bufferOctets, 65_535)
    acknowledged = 1
    stackScale = segment.scale ?? 0
    stackScales = segment.scale != nil
    stampsOn = segment.timestamp != nil
    stackTakesSACK = segment.permitsSACK
    let offered = segment.maximumSegment ?? (addressing.isIPv4 ? 536 : 1220)
    segmentMax = min(offered, plan.maximumSegment ?? 65_535) - (stampsOn ? 12 : 0)
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

  private func receiveWhileOpen(
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

  private var sequenceReceived: UInt32 { stackInitial &+ UInt32(truncatingIfNeeded: received) }

  private func checkStamp(_ segment: Segment) throws {
    guard stampsOn else {
      if segment.timestamp != nil { throw Violation("timestamp without negotiation") }
      return
    }
    guard let stamp = segment.timestamp else { throw Violation("a segment without timestamp") }
    if let own = ownStamps,
      Int32(bitPattern: stamp.echo &- own.first) < 0 || Int32(bitPattern: own.last &- stamp.echo) < 0
    { throw Violation("echoes a timestamp that was never sent: \(stamp.echo)") }
    if Int32(bitPattern: stamp.value &- recentStamp) >= 0,
      Int32(bitPattern: segment.sequence &- sequenceReceived) <= 0
    { recentStamp = stamp.value }
  }

  private func acknowledgmentArrives(
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
            emit(dressed(acknowledged, 0, at: now), offset: acknowledged, octets: end - acknowledged)
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

  private func note(_ start: Int, _ end: Int) {
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

  private func payloadArrives(
    _ segment: Segment, _ packet: [UInt8], _ offset: Int, said: Int, saidAll: Bool,
    at now: MonotonicInstant
  ) throws {
    let octets = packet.count - segment.payload.lowerBound
    let finish = segment.has(Flag.fin)
    guard octets > 0 || finish else { return }
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
    if end > received, offset < end {
      ahead[offset] = max(end, ahead[offset] ?? 0)
      latestAhead = max(offset, received)
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
  private func read(at now: MonotonicInstant) {
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
    { acknowledgeNow = true }
  }
}
