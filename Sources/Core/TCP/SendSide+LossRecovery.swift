import Primitives
import Wire

// Loss found, mended and paid for: `LossRecovery` joined to the scoreboard, the congestion window and
// the timers.

extension SendSide {
  /// The octets that a D-SACK block tells of (RFC 2883 §4): below the acknowledgement, or within the
  /// block behind it.
  func duplicateReport(_ header: TCPHeader) -> SACKBlock? {
    let blocks = header.options.sackBlocks
    guard blocks.count > 0 else { return nil }
    let first = blocks[0]
    if first.start.precedes(first.end), first.end.precedesOrEquals(header.acknowledgment) {
      return first
    }
    guard blocks.count > 1 else { return nil }
    let second = blocks[1]
    let isWithin =
      second.start.precedesOrEquals(first.start) && first.end.precedesOrEquals(second.end)
    return isWithin ? first : nil
  }

  /// Recovery's pace and end, and the congestion window's growth.
  mutating func react(
    to report: DeliveryReport, advance: Int, pipeBefore: Int, at now: MonotonicInstant,
    memory: inout TCPMemory
  ) {
    let mss = Int(segmentOctets)
    if recovery.isActive, advance > 0, recovery.point.precedesOrEquals(unacknowledged) {
      if recovery.state == .fast { congestion.endRecovery() }
      recovery.leave()
    }
    if recovery.state == .fast {
      if advance > 0, !usesSACK { loseFirst(memory: &memory) }  // RFC 6582 §3.2
      let allowed = recovery.allowance(
        delivered: report.deliveredOctets, pipe: pipe,
        thresholdOctets: Int(congestion.threshold), segmentOctets: mss, madeProgress: advance > 0)
      congestion.pace(windowOctets: pipe + allowed)
      return
    }
    guard advance > 0 else { return }
    if isWindowLimited || pipeBefore + mss >= Int(congestion.window) {
      congestion.acknowledged(
        report.acknowledgedOctets, segmentOctets: mss, smoothedRTT: estimator.smoothed, at: now)
    }
  }

  mutating func detectLoss(at now: MonotonicInstant, memory: inout TCPMemory) {
    reorderAt = .distantFuture
    guard !scoreboard.isEmpty else { return }
    var found = false
    if scoreboard.hasArrived {
      let window = recovery.reorderingWindow(
        seenReordering: scoreboard.seenReordering, arrivedOctets: scoreboard.arrived,
        segmentOctets: Int(segmentOctets), estimator: estimator)
      let result = scoreboard.detectLoss(
        reorderingWindow: window, at: now, records: memory.sent)
      found = result.found
      reorderAt = result.lookAgainAt ?? .distantFuture
    } else if duplicateAcknowledgments == 3, !recovery.isActive {
      loseFirst(memory: &memory)
      found = true
    }
    if found, !recovery.isActive { enterFastRecovery() }
  }

  private mutating func enterFastRecovery() {
    recovery.enter(.fast, upTo: next, flightOctets: outstanding)
    congestion.lost(flightOctets: outstanding, segmentOctets: Int(segmentOctets))
  }

  private mutating func loseFirst(memory: inout TCPMemory) {
    scoreboard.loseFirst(segmentOctets: Int(segmentOctets), records: &memory.sent)
  }

  // MARK: Tail probes

  /// Moves the probe of the tail behind what was just sent or acknowledged (RFC 8985 §7.2).
  mutating func armTailProbe(at now: MonotonicInstant) {
    recovery.tailProbeAt = .distantFuture
    guard usesSACK, outstanding > 0, !recovery.isActive, !recovery.tailProbeIsOut,
      !scoreboard.hasArrived, windowOctets > 0,
      let delay = LossRecovery.tailProbeDelay(
        estimator: estimator, isLoneSegment: outstanding <= Int(segmentOctets)),
      now + delay < retransmitAt
    else { return }
    recovery.tailProbeAt = now + delay
  }

  /// The tail was silent for two round trips.
  mutating func tailProbeDeadline(at now: MonotonicInstant) {
    guard recovery.tailProbeAt <= now else { return }
    recovery.tailProbeAt = .distantFuture
    guard outstanding > 0, !recovery.isActive, windowOctets > 0 else { return }
    recovery.askForTailProbe()
    retransmitAt = now + estimator.timeout
  }

  /// The last segment again, when there is no new data to probe with.
  mutating func nextTailProbe(at now: MonotonicInstant, memory: inout TCPMemory) -> Burst? {
    if unsent > 0, windowRoom >= min(unsent, Int(segmentOctets)) { return nil }  // new data goes
    var slot = scoreboard.last
    guard slot != noSlot else { return nil }
    let octets = memory.sent[slot].octets
    if octets > Int(segmentOctets) {
      guard !scoreboard.isFull,
        scoreboard.split(slot, after: octets - Int(segmentOctets), records: &memory.sent)
      else {
        recovery.cancelTailProbe()
        return nil
      }
      slot = scoreboard.last
    }
    let record = memory.sent[slot]
    scoreboard.resent(slot, at: now, records: memory.sent)
    recovery.tailProbeSent(upTo: next, isRetransmission: true)
    lastSentAt = now
    armRetransmission(at: now)
    let finish = finishSent && record.end == next
    return Burst(
      start: record.start, octets: record.octets - (finish ? 1 : 0), finish: finish,
      push: unsent == 0)
  }

  /// Whether the probe mended a loss (RFC 8985 §7.4.2): then that loss is paid for.
  mutating func tailProbeAnswered(
    _ acknowledgment: SequenceNumber, advance: Int, duplicate: SACKBlock?
  ) {
    guard recovery.tailProbeIsOut, recovery.tailProbeEnd.precedesOrEquals(acknowledgment) else {
      return
    }
    if !recovery.tailProbeIsRetransmission || duplicate != nil {
      recovery.tailProbeEnded()
    } else if recovery.tailProbeEnd.precedes(acknowledgment) {
      recovery.tailProbeEnded()
      if !recovery.isActive {
        congestion.lost(flightOctets: max(outstanding, 1), segmentOctets: Int(segmentOctets))
      }
    } else if advance == 0 {
      recovery.tailProbeEnded()  // the original and the probe both arrived
    }
  }

  // MARK: Deadlines

  /// The reordering window passed (RFC 8985 §6.3).
  mutating func reorderingDeadline(at now: MonotonicInstant, memory: inout TCPMemory) {
    guard reorderAt <= now else { return }
    detectLoss(at: now, memory: &memory)
  }

  /// The retransmission or persist timer expired.
  /// - Returns: false when the peer has been silent for too long: give up.
  mutating func retransmissionDeadline(at now: MonotonicInstant, memory: inout TCPMemory) -> Bool {
    guard retransmitAt <= now else { return true }
    retransmitAt = .distantFuture
    recovery.cancelTailProbe()
    guard outstanding > 0 || unsent > 0 else { return true }
    unanswered += 1
    guard unanswered <= Self.unansweredMax else { return false }
    backoff = min(backoff + 1, 30)
    guard outstanding > 0 else {
      probeDue = true
      return true
    }
    scoreboard.loseAll(records: memory.sent)
    if windowOctets > 0 { segmentSizeTimedOut(at: now, memory: memory) }
    duplicateAcknowledgments = 0
    reorderAt = .distantFuture
    if windowOctets > 0 {  // a closed window is not congestion
      if recovery.state != .timeout || recovery.point.precedesOrEquals(unacknowledged) {
        congestion.timedOut(flightOctets: outstanding, segmentOctets: Int(segmentOctets))
      }
      recovery.enter(.timeout, upTo: next, flightOctets: outstanding)
    }
    return true
  }
}
