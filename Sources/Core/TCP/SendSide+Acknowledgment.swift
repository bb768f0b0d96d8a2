import Primitives
import Wire

// What an acknowledgement tells: what has arrived, how wide the window is, how long the round trip was.
// What follows from it for loss and the congestion window is in SendSide+LossRecovery.

extension SendSide {
  /// The peer's window (RFC 9293 §3.10.7.4: only from segments that are not older). One that
  /// acknowledges new octets is not old, whatever its sequence number; and SND.WND, which counts
  /// from SND.UNA, must not move on with it unseen.
  /// - Returns: whether it grew.
  mutating func updateWindow(
    _ header: TCPHeader, scaled: Bool, memory: borrowing TCPMemory
  ) -> Bool {
    guard unacknowledged.precedesOrEquals(header.acknowledgment),
      unacknowledged != header.acknowledgment || windowSequence.precedes(header.sequence)
        || (windowSequence == header.sequence
          && windowAcknowledgment.precedesOrEquals(header.acknowledgment))
    else { return false }
    let octets = UInt32(header.window) << (scaled ? UInt32(peerScale) : 0)
    let grew = octets > windowOctets
    windowOctets = octets
    windowMax = max(windowMax, octets)
    windowSequence = header.sequence
    windowAcknowledgment = header.acknowledgment
    if grew, sentIntoClosedWindow || outstanding == 0 {  // no longer probing
      backoff = 0
      retransmitAt = .distantFuture
      recovery.tailProbeAt = .distantFuture
      // A closed window let nothing in: what it was probed with is sent again at once. What was in flight
      // when it closed is lost when the timer, or what arrives, says so: a peer whose window shuts and
      // opens with each acknowledgement would otherwise have the whole flight sent again each time.
      if sentIntoClosedWindow { scoreboard.loseProbe(records: memory.sent) }
      sentIntoClosedWindow = false
    }
    return grew
  }

  /// Takes an acceptable acknowledgement.
  /// - Parameter echo: the timestamp that it echoes, as `stamp` makes them.
  /// - Returns: octets of payload freed, and whether our FIN is now acknowledged.
  mutating func acknowledge(
    _ header: TCPHeader, carriesData: Bool, windowChanged: Bool, echo: UInt32?,
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> (freed: Int, finished: Bool) {
    let acknowledgment = header.acknowledgment
    var report = DeliveryReport()
    report.leastRoundTrip = estimator.least == .max ? 0 : Int(estimator.least)
    let advance = acknowledgment.distance(from: unacknowledged)
    let pipeBefore = pipe
    let flightBefore = outstanding
    let duplicate = duplicateReport(header)
    var freed = 0
    var finished = false
    unanswered = 0
    if advance > 0 {
      finished = finishSent && acknowledgment == next
      freed = advance - (finished ? 1 : 0)
      report.acknowledgedOctets = advance
      scoreboard.acknowledge(
        upTo: acknowledgment, at: now, records: &memory.sent, report: &report)
      buffer.release(freed, pool: &memory.chunks)
      unacknowledged = acknowledgment
      notification.acknowledged(upTo: acknowledgment)
      forgetDuplicates(advance: advance, report: &report)
      recovery.disarmTailProbe()
    } else if advance == 0, outstanding > 0, !carriesData, !windowChanged {
      noteDuplicate(report: &report)
    }
    acknowledge(header.options.sackBlocks, at: now, memory: &memory, report: &report)
    segmentSize.acknowledged(
      report.largestOctets, again: report.largestAgainOctets, upTo: unacknowledged)
    measure(report, advance: advance, flightOctets: flightBefore, echo: echo, at: now)

    recovery.heard(duplicate: duplicate, acknowledged: unacknowledged, outstanding: outstanding)
    tailProbeAnswered(acknowledgment, advance: advance, duplicate: duplicate)
    if recovery.isDisproved(echo: echo, madeProgress: advance > 0, duplicate: duplicate) {
      takeBack(acknowledgedOctets: advance, memory: memory)
    }
    let wasPartial = recovery.state == .fast && !usesSACK
    let foundLoss = detectLoss(
      delivered: report.deliveredOctets, flightOctets: flightBefore, at: now, memory: &memory)
    react(
      to: report, advance: advance, pipeBefore: pipeBefore, foundLoss: foundLoss,
      isEchoed: isEchoed(header, flightOctets: flightBefore), at: now, memory: &memory)
    if advance > 0 {
      if outstanding == 0 {
        retransmitAt = .distantFuture
      } else if !wasPartial || recovery.state != .fast || recovery.partialArrives() {
        retransmitAt = now + estimator.timeout(backedOff: Int(backoff))
      }
      if scoreboard.wasReneged(records: memory.sent) { expectReneging(at: now) }
      armTailProbe(at: now)
    }
    return (freed, finished)
  }

  /// Takes selective acknowledgements, from the left to the right: what one acknowledgement tells has
  /// arrived in no order that it knows of (RFC 8985 §6.2, step 4), and the newest is named first
  /// (RFC 2018 §4).
  private mutating func acknowledge(
    _ blocks: SACKBlocks, at now: MonotonicInstant, memory: inout TCPMemory,
    report: inout DeliveryReport
  ) {
    var edge = unacknowledged
    for _ in 0..<blocks.count {
      var first = SACKBlock(start: next, end: next)  // of those to the right of `edge`
      for i in 0..<blocks.count {
        let block = blocks[i]
        guard edge.precedes(block.start), block.start.precedes(block.end),
          block.end.precedesOrEquals(next)
        else { continue }
        let isLonger = block.start == first.start && first.end.precedes(block.end)
        if block.start.precedes(first.start) || isLonger { first = block }
      }
      guard first.start != next else { return }
      scoreboard.acknowledge(
        selectively: first, segmentOctets: Int(segmentSize.octetsInFlight), at: now,
        records: &memory.sent, report: &report)
      edge = first.start
    }
  }

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
}
