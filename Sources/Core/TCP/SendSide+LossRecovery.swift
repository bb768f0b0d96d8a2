import Primitives
import Wire

// Loss found, mended and paid for: `LossRecovery` joined to the scoreboard, the congestion window and
// the timers.

extension SendSide {
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
    // An echo lets nothing grow (RFC 3168 §6.1.2). A time-out has paid for it, though, and the CWR that
    // ends the echoes comes behind all that is lost: that is mended in slow start.
    if isEchoed, recovery.state != .timeout {
      reduceForMark(flightOctets: outstanding + advance)
      return
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
    guard notification.isNews, !recovery.isActive else { return }
    congestion.lost(flightOctets: flightOctets, segmentOctets: Int(segmentOctets))
    recovery.settleDoubt()  // a mark is no mistake
    recovery.tailProbeEnded()  // what it may mend is paid for
    notification.reduced(upTo: next, forMark: true)
  }

  /// Looks for what is lost.
  /// - Parameters:
  ///   - delivered: by the acknowledgement at hand.
  ///   - flightOctets: outstanding before it.
  /// - Returns: whether anything is newly lost.
  @discardableResult
  mutating func detectLoss(
    delivered: Int, flightOctets: Int, at now: MonotonicInstant, memory: inout TCPMemory
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
    if found, !recovery.isActive {
      enterFastRecovery(delivered: delivered, flightOctets: flightOctets)
    }
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

  private mutating func enterFastRecovery(delivered: Int, flightOctets: Int) {
    let isPaid = notification.hasPaid(forLossAt: unacknowledged)
    recovery.enter(
      .fast, upTo: next, flightOctets: outstanding - arrivedOctets + delivered,
      reduced: isPaid ? nil : unacknowledged)
    guard !isPaid else { return }
    congestion.lost(flightOctets: flightOctets, segmentOctets: Int(segmentOctets))
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
    notification.tookBack()
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

  private mutating func loseFirst(memory: inout TCPMemory) {
    scoreboard.loseFirst(segmentOctets: Int(segmentOctets), records: &memory.sent)
  }

  // MARK: Tail probes

  /// Moves the probe of the tail behind what was just sent or acknowledged (RFC 8985 §7.2).
  mutating func armTailProbe(at now: MonotonicInstant) {
    recovery.tailProbeAt = .distantFuture
    guard usesSACK, outstanding > 0, !recovery.isActive, !recovery.tailProbeIsOut,
      !scoreboard.hasArrived, tailIsInWindow,
      let delay = LossRecovery.tailProbeDelay(
        estimator: estimator, isLoneSegment: outstanding <= Int(segmentOctets)),
      now + delay < retransmitAt
    else { return }
    recovery.tailProbeAt = now + delay
  }

  /// Whether the last segment, or its front, lies before an edge that the client may have taken back.
  private var tailIsInWindow: Bool {
    windowOctets > 0 && next.distance(from: windowEdge) < Int(segmentOctets)
  }

  /// The tail was silent for two round trips.
  mutating func tailProbeDeadline(at now: MonotonicInstant) {
    guard recovery.tailProbeAt <= now else { return }
    recovery.tailProbeAt = .distantFuture
    guard outstanding > 0, !recovery.isActive, tailIsInWindow else { return }
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
    let inside = windowEdge.distance(from: memory.sent[slot].start)
    if inside < memory.sent[slot].octets {
      guard inside > 0, !scoreboard.isFull,
        scoreboard.split(slot, after: inside, records: &memory.sent)
      else {
        recovery.cancelTailProbe()
        return nil
      }
    }
    let record = memory.sent[slot]
    scoreboard.resent(slot, at: now, records: memory.sent)
    recovery.tailProbeSent(upTo: next, isRetransmission: true)
    lastSentAt = now
    armRetransmission(at: now)
    let finish = finishSent && record.end == next
    return Burst(
      start: record.start, octets: record.octets - (finish ? 1 : 0), finish: finish,
      push: record.end == next && unsent == 0)
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
        congestion.lost(
          flightOctets: recovery.tailProbeFlightOctets, segmentOctets: Int(segmentOctets))
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
    detectLoss(delivered: 0, flightOctets: outstanding, at: now, memory: &memory)
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
    if windowOctets > 0 { segmentSizeTimedOut(at: now, memory: memory) }
    duplicateAcknowledgments = 0
    reorderAt = .distantFuture
    if windowOctets > 0 {  // a closed window is not congestion
      // again in the same window: that was paid for (RFC 5681 §3.1)
      let isFirst =
        recovery.state != .timeout || recovery.point.precedesOrEquals(unacknowledged)
      if isFirst {
        congestion.timedOut(flightOctets: outstanding, segmentOctets: Int(segmentOctets))
        notification.reduced(upTo: next)
      } else {
        congestion.timedOutAgain(segmentOctets: Int(segmentOctets))
      }
      recovery.enter(
        .timeout, upTo: next, flightOctets: outstanding, reduced: isFirst ? unacknowledged : nil)
    }
    return true
  }
}
