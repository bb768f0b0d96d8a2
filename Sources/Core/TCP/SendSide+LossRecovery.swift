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
    to report: DeliveryReport, advance: Int, pipeBefore: Int, foundLoss: Bool, isEchoed: Bool,
    at now: MonotonicInstant, memory: inout TCPMemory
  ) {
    let mss = Int(segmentOctets)
    let stateBefore = recovery.state
    if recovery.isActive, advance > 0, recovery.point.precedesOrEquals(unacknowledged) {
      if recovery.state == .fast { congestion.endRecovery() }
      recovery.leave()
      duplicateAcknowledgments = 0
    }
    if recovery.state == .fast {
      if advance > 0, !usesSACK { loseFirst(memory: &memory) }  // RFC 6582 §3.2
      let allowed = recovery.allowance(
        delivered: report.deliveredOctets, pipe: pipe,
        thresholdOctets: Int(congestion.threshold), segmentOctets: mss,
        isSafe: advance > 0 && usesSACK && !foundLoss)
      congestion.pace(windowOctets: pipe + allowed)
      return
    }
    if isEchoed {
      reduceForMark(flightOctets: outstanding + advance)
      return  // an echo lets nothing grow (RFC 3168 §6.1.2)
    }
    guard advance > 0, stateBefore != .fast else { return }
    if stateBefore == .none {
      congestion.heard(
        roundTrip: report.isAmbiguous ? nil : report.roundTrip, acknowledged: unacknowledged,
        next: next)
    }
    if isWindowLimited || pipeBefore + mss >= Int(congestion.window) {
      congestion.acknowledged(
        report.acknowledgedOctets, segmentOctets: mss, smoothedRTT: estimator.smoothed,
        afterTimeout: stateBefore == .timeout, at: now)
    } else {
      congestion.applicationLimited(at: now)
    }
  }

  /// Whether the client says that the network has marked our data.
  func isEchoed(_ header: TCPHeader, flightOctets: Int) -> Bool {
    notification.isOn && header.flags.contains(.ece) && flightOctets > 0
  }

  private mutating func reduceForMark(flightOctets: Int) {
    guard notification.isNews(acknowledged: unacknowledged), !recovery.isActive else { return }
    congestion.lost(flightOctets: flightOctets, segmentOctets: Int(segmentOctets))
    recovery.settleDoubt()  // a mark is no mistake
    notification.reduced(upTo: next)
  }

  /// Looks for what is lost.
  /// - Parameter delivered: by the acknowledgement at hand.
  /// - Returns: whether anything is newly lost.
  @discardableResult
  mutating func detectLoss(
    delivered: Int, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> Bool {
    reorderAt = .distantFuture
    guard !scoreboard.isEmpty else { return false }
    var found = false
    if scoreboard.hasArrived {
      let window = recovery.reorderingWindow(
        seenReordering: scoreboard.seenReordering, arrivedOctets: scoreboard.arrived,
        segmentOctets: Int(segmentOctets), estimator: estimator)
      let result = scoreboard.detectLoss(
        reorderingWindow: window, at: now, records: memory.sent)
      found = result.found
      reorderAt = result.lookAgainAt ?? .distantFuture
    } else if !usesSACK, !recovery.isActive, duplicatesShowLoss(memory: memory) {
      loseFirst(memory: &memory)
      found = true
    }
    if found, !recovery.isActive { enterFastRecovery(delivered: delivered) }
    return found
  }

  /// Whether a peer without SACK has said the same often enough: three times (RFC 5681 §3.2), or as
  /// often as it can when less than four segments are in flight and nothing more may be sent (RFC 5827
  /// §3.2). What the last recovery sent twice comes with duplicates too: those right at its end tell
  /// nothing (RFC 6582 §3.2, step 2).
  private func duplicatesShowLoss(memory: borrowing TCPMemory) -> Bool {
    guard duplicateAcknowledgments > 0, recovery.point != unacknowledged else { return false }
    var threshold = 3
    let mss = Int(segmentOctets)
    if outstanding < 4 * mss, unsent == 0 || windowRoom == 0 {
      let segments = scoreboard.segments(mss, most: 4, records: memory.sent)
      if segments > 1, segments < 4 { threshold = segments - 1 }
    }
    return Int(duplicateAcknowledgments) >= threshold
  }

  private mutating func enterFastRecovery(delivered: Int) {
    recovery.enter(
      .fast, upTo: next, flightOctets: outstanding - arrivedOctets + delivered,
      reduced: unacknowledged)
    congestion.lost(flightOctets: outstanding, segmentOctets: Int(segmentOctets))
    notification.reduced(upTo: next)
  }

  /// What the last reduction was for did not happen.
  mutating func takeBack(acknowledgedOctets: Int, memory: borrowing TCPMemory) {
    if recovery.reducedByTimeout {
      congestion.restoreAfterTimeout(
        flightOctets: outstanding, acknowledgedOctets: acknowledgedOctets,
        segmentOctets: Int(segmentOctets))
    } else {
      congestion.restore()
    }
    recovery.settleDoubt()
    if recovery.isActive {
      recovery.leave()
      scoreboard.loseNothing(records: memory.sent)
    }
    duplicateAcknowledgments = 0
  }

  /// The acknowledgement stops in front of what was told to have arrived: unless it was overtaken by
  /// its successor, the peer has thrown that away. The timer, which disbelieves everything, comes soon.
  mutating func expectReneging(at now: MonotonicInstant) {
    let soon = now + .microseconds(max(Int(estimator.smoothed) / 2, 10_000))
    retransmitAt = min(retransmitAt, soon)
  }

  // MARK: Duplicate acknowledgements without SACK

  /// One more that says the same (RFC 5681 §2): something has arrived, nobody knows what.
  mutating func noteDuplicate(report: inout DeliveryReport) {
    guard !usesSACK, recovery.state != .timeout else { return }
    let before = arrivedOctets
    duplicateAcknowledgments += duplicateAcknowledgments < .max ? 1 : 0
    report.deliveredOctets += arrivedOctets - before
  }

  /// Progress: what duplicates stood for is acknowledged now, and was counted before.
  mutating func forgetDuplicates(advance: Int, report: inout DeliveryReport) {
    guard duplicateAcknowledgments > 0 else { return }
    let mss = Int(segmentOctets)
    // the first segment was the missing one
    let segments = min(Int(duplicateAcknowledgments), max(0, (advance - 1) / mss))
    report.deliveredOctets = max(0, report.deliveredOctets - segments * mss)
    duplicateAcknowledgments =
      recovery.state == .fast ? duplicateAcknowledgments - UInt16(segments) : 0
  }

  // MARK: Round trips

  /// What a timestamp sent now says, before the connection's offset: milliseconds (RFC 7323 §5.4
  /// allows 1 ms to 1 s).
  static func stamp(at now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000)
  }

  /// Measures a round trip where the acknowledgement allows: by the record that arrived if that was sent
  /// once (Karn), else by the timestamp echoed, if SND.UNA moves (RFC 7323 §4). Only a measurement
  /// ends the timer's back-off (RFC 6298 §5).
  mutating func measure(
    _ report: DeliveryReport, advance: Int, flightOctets: Int, echo: UInt32?,
    at now: MonotonicInstant
  ) {
    // RFC 7323, appendix G, with the acknowledgement's own size where that is more than two segments
    let share = max(2 * Int(segmentOctets), report.deliveredOctets)
    let expected = (flightOctets + share - 1) / share
    if let roundTrip = report.roundTrip, !report.isAmbiguous {
      estimator.measured(roundTrip, expectedSamples: expected)
      backoff = 0
    } else if advance > 0 {
      measure(echo: echo, expectedSamples: expected, at: now)
    }
  }

  mutating func measure(echo: UInt32?, expectedSamples: Int, at now: MonotonicInstant) {
    guard let echo else { return }
    let milliseconds = Int(Int32(bitPattern: Self.stamp(at: now) &- echo))
    guard 0...RTTEstimator.maximum.milliseconds ~= milliseconds else { return }
    estimator.measured(
      .milliseconds(max(1, milliseconds)), expectedSamples: expectedSamples, isExact: false)
    backoff = 0
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
        recovery.settleDoubt()
        notification.reduced(upTo: next)
      }
    } else if advance == 0 {
      recovery.tailProbeEnded()  // the original and the probe both arrived
    }
  }

  // MARK: Deadlines

  /// The reordering window passed (RFC 8985 §6.3).
  mutating func reorderingDeadline(at now: MonotonicInstant, memory: inout TCPMemory) {
    guard reorderAt <= now else { return }
    let wasActive = recovery.isActive
    detectLoss(delivered: 0, at: now, memory: &memory)
    guard !wasActive, recovery.state == .fast else { return }
    // nothing was delivered now: one segment (RFC 9937 §5.2)
    let allowed = recovery.allowance(
      delivered: 0, pipe: pipe, thresholdOctets: Int(congestion.threshold),
      segmentOctets: Int(segmentOctets), isSafe: false)
    congestion.pace(windowOctets: pipe + allowed)
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
    duplicateAcknowledgments = 0
    reorderAt = .distantFuture
    if windowOctets > 0 {  // a closed window is not congestion
      // again in the same window: that was paid for (RFC 5681 §3.1)
      let isFirst =
        recovery.state != .timeout || recovery.point.precedesOrEquals(unacknowledged)
      if isFirst {
        congestion.timedOut(flightOctets: outstanding, segmentOctets: Int(segmentOctets))
        notification.reduced(upTo: next)
      }
      recovery.enter(
        .timeout, upTo: next, flightOctets: outstanding, reduced: isFirst ? unacknowledged : nil)
    }
    return true
  }
}
