import Primitives

// What the client sends: data within the window and the flight's bound, acknowledgements, probes.

extension Peer {
  func sequence(_ offset: Int) -> UInt32 { initial &+ UInt32(truncatingIfNeeded: offset) }

  func emit(_ segment: Segment, offset: Int, octets: Int) {
    var segment = oddly(segment)
    if !segment.has(Flag.syn), !segment.has(Flag.rst) {
      notification.dress(
        &segment, isNew: octets > 0 && offset >= max(highest, probed),
        oddities: plan.oddities)
    }
    let packet = Packets.build(
      addressing, segment, key: uploadKey, offset: offset - 1, octets: octets)
    outbox.append((packet, octets > segmentMax ? segmentMax : 0))
    if plan.oddities.replays > 0, octets <= segmentMax, !segment.has(Flag.rst) { remember(packet) }
  }

  /// A segment with everything that an acknowledgement carries.
  func dressed(_ offset: Int, _ flags: UInt8, at now: MonotonicInstant) -> Segment {
    var segment = Segment()
    segment.sequence = sequence(offset)
    segment.acknowledgment = stackInitial &+ UInt32(truncatingIfNeeded: received)
    segment.flags = flags | Flag.ack
    if stampsOn { segment.timestamp = stamp(at: now) }
    if stackTakesSACK, plan.permitsSACK { segment.blocks = blocks() }
    let unread = max(0, downloaded - readOctets)
    let open = received + max(0, plan.bufferOctets - unread)
    let wanted = max(0, max(open, toldEdge) - received)
    var field = min(wanted >> shift, 65_535)
    if habits.chance(plan.oddities.shrinksWindow) {
      field = habits.percent(30) ? 0 : habits.below(field + 1)
      toldEdge = received + field << shift
    } else {
      while received + field << shift < toldEdge, field < 65_535 { field += 1 }
      toldEdge = max(toldEdge, received + field << shift)
    }
    segment.window = UInt16(field)
    acknowledgedOut = received
    acknowledgeNow = false
    acknowledgeAt = .distantFuture
    unacknowledgedSegments = 0
    return segment
  }

  /// What our windows are shifted by.
  var shift: Int { stackScales ? min(plan.scale ?? 0, 14) : 0 }

  func blocks() -> [(start: UInt32, end: UInt32)] {
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
    if plan.oddities.cutsBlocks, let run = runs.first {
      runs = (0..<3).map { _ in
        octetsCut += 1
        let start = run.start + octetsCut * 2 % max(1, run.end - run.start)
        return (start, start + 1)
      }
    }
    return runs.prefix(3).map {
      (stackInitial &+ UInt32($0.start), stackInitial &+ UInt32($0.end))
    }
  }

  /// What one frame may carry: a super-packet is a whole number of segments.
  var superOctets: Int {
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
      var octets = min(dataEnd - next, limit - next, cutOctets())
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
      divideAcknowledgment(at: now)
      let cuts = plan.oddities.cutsBlocks && !ahead.isEmpty ? 48 : 1
      for _ in 0..<cuts {
        emit(dressed(min(highest, max(edge, acknowledged)), 0, at: now), offset: 0, octets: 0)
      }
      repeatAcknowledgment()
    }
    if phase == .open { misbehave(at: now) }
  }

  /// Asks whether the window has opened (RFC 9293 §3.8.6.1; without data as kernels do it).
  func probe(at now: MonotonicInstant) {
    guard acknowledged == highest else { return }
    backoff += 1
    if plan.probesWithData, acknowledged < 1 + written {
      probed = acknowledged + 1
      emit(dressed(acknowledged, 0, at: now), offset: acknowledged, octets: 1)
    } else {
      emit(dressed(acknowledged - 1, 0, at: now), offset: 0, octets: 0)
    }
  }
}
