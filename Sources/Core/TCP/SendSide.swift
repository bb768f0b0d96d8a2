import Primitives
import Wire

// The sending half: what the target has said, what of it is in flight, what is lost.
//
// SND.UNA ≤ SND.NXT ≤ SND.UNA + buffered octets (+ 1 for the FIN). SND.NXT never goes back: what is
// sent again is sent from the scoreboard's records. New data waits for the peer's window and for
// the congestion window; lost data goes first. The target's stream is passed on as it comes: no
// Nagle delay here (the target's own stack has made that choice), but the sender's half of silly
// window avoidance (RFC 1122 §4.2.3.4).

package struct SendSide: BitwiseCopyable {
  /// Time-outs in a row without any answer before the connection is given up (R2 of RFC 1122
  /// §4.2.3.5, above 100 s).
  static let unansweredMax: UInt8 = 15

  /// Send sequence variables (RFC 9293 §3.3.1).
  package internal(set) var unacknowledged: SequenceNumber  // SND.UNA
  package internal(set) var next: SequenceNumber  // SND.NXT
  package internal(set) var windowOctets: UInt32 = 0  // SND.WND, after scaling
  var windowSequence = SequenceNumber(0)  // SND.WL1
  var windowAcknowledgment = SequenceNumber(0)  // SND.WL2
  var windowMax: UInt32 = 0  // MAX.SND.WND

  package internal(set) var buffer = SendBuffer()
  var scoreboard = SACKScoreboard()
  var estimator = RTTEstimator()
  var congestion: CongestionControl
  var retransmitAt = MonotonicInstant.distantFuture
  var reorderAt = MonotonicInstant.distantFuture
  var lastSentAt = MonotonicInstant.zero
  var recovery = LossRecovery()
  let segmentOctets: UInt16
  let peerScale: UInt8
  let usesSACK: Bool
  let bufferMax: UInt32
  var duplicateAcknowledgments: UInt8 = 0
  var backoff: UInt8 = 0
  var unanswered: UInt8 = 0
  private(set) var finishQueued = false
  private(set) var finishSent = false
  var isWindowLimited = false
  /// The persist timer asks for one octet beyond the window (RFC 9293 §3.8.6.1).
  var probeDue = false

  init(
    initial: SequenceNumber, segmentOctets: UInt16, peerScale: UInt8, usesSACK: Bool,
    settings: TCPSettings
  ) {
    self.usesSACK = usesSACK
    unacknowledged = initial
    next = initial
    self.segmentOctets = segmentOctets
    self.peerScale = peerScale
    bufferMax = settings.sendBufferOctets
    congestion = CongestionControl(
      algorithm: settings.algorithm, segmentOctets: Int(segmentOctets))
  }

  var outstanding: Int { next.distance(from: unacknowledged) }
  /// Payload of `outstanding`: all but the FIN.
  private var outstandingPayload: Int { outstanding - (finishSent ? 1 : 0) }
  /// Payload that was never sent.
  var unsent: Int { Int(buffer.octets) - outstandingPayload }
  var pipe: Int { scoreboard.pipe(outstanding: outstanding) }
  /// Octets that the peer's window leaves for new data.
  var windowRoom: Int {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.exceedsWindowByOne) {
        return max(0, (unacknowledged + Int(windowOctets) + 1).distance(from: next))
      }
    #endif
    return max(0, (unacknowledged + Int(windowOctets)).distance(from: next))
  }

  /// SEG.SEQ of a segment without payload: SND.NXT, but not beyond the peer's window, where a probe
  /// or a FIN may have led; the peer would not accept it (RFC 9293 §3.10.7.4).
  var acknowledgingSequence: SequenceNumber {
    let edge = unacknowledged + Int(windowOctets)
    return edge.precedes(next) ? edge : next
  }

  /// Octets the buffer may still grow by: bounded by what the peer can be expected to take, and by
  /// what is free for all others, so that a few slow clients never hold the whole pool.
  func bufferRoom(pool: borrowing ChunkPool) -> Int {
    let wanted = min(Int(bufferMax), max(2 * Int(congestion.window), 256 * 1024))
    let share = max(1, pool.available) * ChunkPool.chunkOctets
    return max(0, min(wanted, share) - Int(buffer.octets))
  }

  mutating func queueFinish() { finishQueued = true }

  // MARK: Handshake

  /// The window of the peer's SYN, which is never scaled (RFC 7323 §2.2).
  mutating func openWindow(_ syn: TCPHeader) {
    windowOctets = UInt32(syn.window)
    windowMax = windowOctets
    windowSequence = syn.sequence
    windowAcknowledgment = syn.acknowledgment
  }

  /// SYN-ACK went out: for the first time, by the timer, or because the SYN came again, which does
  /// not move the timer.
  mutating func answered(at now: MonotonicInstant) {
    lastSentAt = outstanding == 0 ? now : .zero
    next = unacknowledged + 1
    if retransmitAt == .distantFuture {
      retransmitAt = now + estimator.timeout(backedOff: Int(unanswered))
    }
  }

  /// Our SYN is acknowledged. Its round trip counts if it was sent once (Karn); if the timer had to
  /// send it again, the window starts small (RFC 5681 §3.1).
  mutating func synchronized(at now: MonotonicInstant) {
    if lastSentAt != .zero { estimator.measured(now - lastSentAt) }
    if unanswered > 0 { congestion.handshakeTimedOut(segmentOctets: Int(segmentOctets)) }
    unacknowledged = next
    unanswered = 0
    retransmitAt = .distantFuture
    lastSentAt = .zero
  }

  // MARK: Acknowledgements

  /// The peer's window (RFC 9293 §3.10.7.4: only from segments that are not older). One that
  /// acknowledges new octets is not old, whatever its sequence number; and SND.WND, which counts
  /// from SND.UNA, must not move on with it unseen. One that acknowledges less than SND.UNA is old:
  /// its window was counted from there.
  /// - Returns: whether it grew.
  mutating func updateWindow(
    _ header: TCPHeader, scaled: Bool, memory: borrowing TCPMemory
  ) -> Bool {
    guard unacknowledged.precedesOrEquals(header.acknowledgment),
      unacknowledged.precedes(header.acknowledgment) || windowSequence.precedes(header.sequence)
        || (windowSequence == header.sequence
          && windowAcknowledgment.precedesOrEquals(header.acknowledgment))
    else { return false }
    let octets = UInt32(header.window) << (scaled ? UInt32(peerScale) : 0)
    let grew = octets > windowOctets
    let wasClosed = windowOctets == 0
    windowOctets = octets
    windowMax = max(windowMax, octets)
    windowSequence = header.sequence
    windowAcknowledgment = header.acknowledgment
    if grew, wasClosed || outstanding == 0 {  // no longer probing
      backoff = 0
      retransmitAt = .distantFuture
      recovery.tailProbeAt = .distantFuture
      // a closed window let nothing in: probes are sent again at once
      scoreboard.loseAll(records: memory.sent)
    }
    return grew
  }

  /// Takes an acceptable acknowledgement.
  /// - Returns: octets of payload freed, and whether our FIN is now acknowledged.
  mutating func acknowledge(
    _ header: TCPHeader, carriesData: Bool, windowChanged: Bool, at now: MonotonicInstant,
    memory: inout TCPMemory
  ) -> (freed: Int, finished: Bool) {
    let acknowledgment = header.acknowledgment
    var report = DeliveryReport()
    report.leastRoundTrip = estimator.least == .max ? 0 : Int(estimator.least)
    let advance = acknowledgment.distance(from: unacknowledged)
    let pipeBefore = pipe
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
      duplicateAcknowledgments = 0
      backoff = 0
      recovery.disarmTailProbe()
    } else if advance == 0, outstanding > 0, !carriesData, !windowChanged {
      duplicateAcknowledgments &+= duplicateAcknowledgments < 255 ? 1 : 0
    }
    let blocks = header.options.sackBlocks
    for i in 0..<blocks.count {
      let block = blocks[i]
      guard unacknowledged.precedes(block.start), block.start.precedes(block.end),
        block.end.precedesOrEquals(next)
      else { continue }
      scoreboard.acknowledge(
        selectively: block, segmentOctets: Int(segmentOctets), at: now, records: &memory.sent,
        report: &report)
    }
    if let roundTrip = report.roundTrip, !report.isAmbiguous { estimator.measured(roundTrip) }

    recovery.heard(duplicate: duplicate, acknowledged: unacknowledged, outstanding: outstanding)
    tailProbeAnswered(acknowledgment, advance: advance, duplicate: duplicate)
    detectLoss(at: now, memory: &memory)
    react(to: report, advance: advance, pipeBefore: pipeBefore, at: now, memory: &memory)
    if advance > 0 {
      retransmitAt = outstanding == 0 ? .distantFuture : now + estimator.timeout
      armTailProbe(at: now)
    }
    return (freed, finished)
  }

  // MARK: What to send

  mutating func armRetransmission(at now: MonotonicInstant) {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.forgetsRetransmissionTimer), outstanding > 0 { return }
      if PlantedFault.isPlanted(.forgetsPersistTimer), outstanding == 0 { return }
    #endif
    if retransmitAt == .distantFuture {
      retransmitAt = now + estimator.timeout(backedOff: Int(backoff))
    }
  }

  /// One piece to emit: [start, start + octets), and the FIN behind it.
  struct Burst {
    var start: SequenceNumber
    var octets: Int
    var finish: Bool
    var push: Bool
  }

  /// The next piece that may be sent now, at most `burstOctets` long (0: one segment); its record
  /// is kept. nil when nothing may.
  mutating func nextBurst(
    burstOctets: Int, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> Burst? {
    let mss = Int(segmentOctets)
    let frameMax = max(mss, burstOctets / mss * mss)
    if let burst = nextLost(frameMax: frameMax, at: now, memory: &memory) { return burst }
    if recovery.tailProbeDue, let burst = nextTailProbe(at: now, memory: &memory) { return burst }
    if outstanding > 0 { armRetransmission(at: now) }  // no record was to be had

    isWindowLimited = false
    if outstanding == 0, lastSentAt != .zero, now - lastSentAt > estimator.timeout {
      congestion.restarted(segmentOctets: mss)
    }
    let dataLeft = unsent
    var octets = 0
    if dataLeft > 0 {
      if probeDue {
        octets = min(dataLeft, max(1, min(windowRoom, mss)))
      } else {
        // A tail probe of new data may exceed the congestion window by a segment (RFC 8985 §7.3).
        let extra = recovery.tailProbeDue ? mss : 0
        let congestionRoom = max(extra, Int(congestion.window) - pipe)
        let room = min(windowRoom, congestionRoom)
        octets = min(dataLeft, room, frameMax)
        if octets < dataLeft {
          isWindowLimited = congestionRoom <= windowRoom
          if octets >= mss {
            octets -= octets % mss
          } else if outstanding > 0 || octets < min(mss, Int(windowMax) / 2) {
            if room < mss { octets = 0 }  // wait for a window worth a segment
          }
        }
      }
    }
    if recovery.tailProbeDue { octets = min(octets, mss) }
    let last = octets == dataLeft
    // The FIN counts against the window (RFC 9293 §3.10.4); alone it probes a closed one.
    let finish =
      finishQueued && !finishSent && last && !probeDue
      && (octets < windowRoom || (octets == 0 && outstanding == 0))
    probeDue = false
    guard octets > 0 || finish else {
      if dataLeft > 0, outstanding == 0 { armRetransmission(at: now) }  // persist
      return nil
    }
    let start = next
    let end = start + octets + (finish ? 1 : 0)
    guard scoreboard.sent(start, end, at: now, records: &memory.sent) else {
      if outstanding == 0 { armRetransmission(at: now) }
      return nil
    }
    next = end
    if recovery.tailProbeDue { recovery.tailProbeSent(upTo: end, isRetransmission: false) }
    if finish { finishSent = true }
    recovery.sent(octets)
    lastSentAt = now
    armRetransmission(at: now)
    armTailProbe(at: now)
    return Burst(start: start, octets: octets, finish: finish, push: last)
  }

  /// The first lost piece, when the congestion window has room for it.
  private mutating func nextLost(
    frameMax: Int, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> Burst? {
    let slot = scoreboard.firstLost(records: memory.sent)
    guard slot != noSlot else { return nil }
    let mss = Int(segmentOctets)
    var room = Int(congestion.window) - pipe
    let isFirst = slot == scoreboard.first
    if room < mss {
      // The first loss is mended at once (RFC 6675 §5, step 4.3), and without SACK every one that a
      // partial acknowledgement shows (RFC 6582 §3.2).
      guard isFirst, pipe == 0 || recovery.mayForce || (!usesSACK && recovery.state == .fast)
      else { return nil }
      room = mss
    }
    // a window that was closed upon what is in flight is probed by an octet at each time-out, not flooded
    if windowOctets == 0 {
      guard isFirst, pipe == 0 else { return nil }
      room = 1
    }
    var limit = min(frameMax, max(1, room))
    if limit >= mss { limit -= limit % mss }
    if memory.sent[slot].octets > limit,
      scoreboard.isFull || !scoreboard.split(slot, after: limit, records: &memory.sent)
    {
      // No record to cut it with: whole, if a frame can carry it, rather than never.
      guard memory.sent[slot].octets <= frameMax, windowOctets > 0 else { return nil }
    }
    let record = memory.sent[slot]
    scoreboard.resent(slot, at: now, records: memory.sent)
    recovery.sent(record.octets)
    lastSentAt = now
    armRetransmission(at: now)
    let finish = finishSent && record.end == next
    #if PLANTED_FAULTS
      if finish, PlantedFault.isPlanted(.losesFinishWhenSentAgain) {
        return Burst(start: record.start, octets: record.octets - 1, finish: false, push: true)
      }
    #endif
    return Burst(
      start: record.start, octets: record.octets - (finish ? 1 : 0), finish: finish,
      push: record.end == next && unsent == 0)
  }

  mutating func discard(memory: inout TCPMemory) {
    buffer.discard(pool: &memory.chunks)
    scoreboard.discard(records: &memory.sent)
    retransmitAt = .distantFuture
    reorderAt = .distantFuture
    recovery.tailProbeAt = .distantFuture
  }
}
