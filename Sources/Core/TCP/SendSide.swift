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
  var recovery: LossRecovery
  var notification = CongestionNotification()
  var segmentSize: SegmentSize
  let peerScale: UInt8
  let usesSACK: Bool
  let bufferMax: UInt32
  let bufferMaxFar: UInt32
  var duplicateAcknowledgments: UInt16 = 0
  /// See `BulkCensus.saw`.
  var seen: UInt8 = 0
  var backoff: UInt8 = 0
  var unanswered: UInt8 = 0
  var finishQueued = false
  var finishSent = false
  var isWindowLimited = false
  /// The persist timer asks for one octet beyond the window (RFC 9293 §3.8.6.1).
  var probeDue = false
  /// Something was sent into a closed window: a probe, or a FIN. It is the first in flight.
  var sentIntoClosedWindow = false

  init(
    initial: SequenceNumber, segmentSize: SegmentSize, peerScale: UInt8, usesSACK: Bool,
    settings: TCPSettings
  ) {
    self.usesSACK = usesSACK
    unacknowledged = initial
    next = initial
    self.segmentSize = segmentSize
    self.peerScale = peerScale
    bufferMax = settings.sendBufferOctets
    bufferMaxFar = settings.sendBufferOctetsMax
    recovery = LossRecovery(initial: initial)
    congestion = CongestionControl(
      algorithm: settings.algorithm, segmentOctets: Int(segmentSize.octets))
  }

  /// Octets of payload of a segment, as far as the path is known to take them.
  package var segmentOctets: UInt16 { segmentSize.octets }
  var outstanding: Int { next.distance(from: unacknowledged) }
  /// Payload of `outstanding`: all but the FIN.
  private var outstandingPayload: Int { outstanding - (finishSent ? 1 : 0) }
  /// Payload that was never sent.
  var unsent: Int { Int(buffer.octets) - outstandingPayload }
  /// In the network, as far as is known.
  var pipe: Int {
    let inFlight = scoreboard.pipe(outstanding: outstanding)
    guard !usesSACK, duplicateAcknowledgments > 0 else { return inFlight }
    // The first two let new data out (limited transmit, RFC 3042), more in recovery only.
    let duplicates = Int(duplicateAcknowledgments)
    return max(0, inFlight - departed(recovery.state == .fast ? duplicates : min(duplicates, 2)))
  }
  /// Of `outstanding`, known to have arrived.
  var arrivedOctets: Int {
    usesSACK ? scoreboard.arrived : departed(Int(duplicateAcknowledgments))
  }
  /// Without SACK each duplicate acknowledgement stands for a segment that has arrived (RFC 5681 §3.2;
  /// RFC 9937 §5.2), but never the one that is missing. In recovery there are no more of them than
  /// segments were in flight when it began: a peer that invents duplicates gains nothing (RFC 5681
  /// §3.2, step 4).
  private func departed(_ duplicates: Int) -> Int {
    let mss = Int(segmentOctets)
    let flight =
      recovery.state == .fast ? recovery.point.distance(from: unacknowledged) : outstanding
    return min(duplicates * mss, max(0, flight - max(mss, scoreboard.lost)))
  }
  /// Octets that the peer's window leaves for new data.
  var windowRoom: Int {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.exceedsWindowByOne) {
        return max(0, (unacknowledged + Int(windowOctets) + 1).distance(from: next))
      }
    #endif
    return max(0, windowEdge.distance(from: next))
  }
  /// The right edge of the peer's window, SND.UNA + SND.WND.
  var windowEdge: SequenceNumber { unacknowledged + Int(windowOctets) }

  /// SEG.SEQ of a segment without payload: SND.NXT, but not beyond the peer's window, where a probe
  /// or a FIN may have led; the peer would not accept it (RFC 9293 §3.10.7.4).
  var acknowledgingSequence: SequenceNumber {
    windowEdge.precedes(next) ? windowEdge : next
  }

  /// Octets the buffer may still grow by: bounded by what the peer can be expected to take, and by
  /// what is free for all others, so that a few slow clients never hold the whole pool.
  /// - Parameter closeOctets: kept for a close client: one of the three below.
  func bufferRoom(closeOctets: Int, pool: borrowing ChunkPool) -> Int {
    let wanted = min(
      bufferBound(closeOctets: closeOctets), max(2 * Int(congestion.window), 256 * 1024))
    let share = max(1, pool.available) * ChunkPool.chunkOctets
    return max(0, min(wanted, share) - Int(buffer.octets))
  }

  /// The buffer's bound: in proportion to the least round trip where that is close or far, the same
  /// between. What is kept for a close client beyond what it takes on the way is only pushed out of the
  /// core's cache before it is acknowledged and its memory written again. The smoothed round trip, which
  /// grows with what is kept, says no more than that a path is another one by now.
  private func bufferBound(closeOctets: Int) -> Int {
    guard estimator.least != .max else { return Int(bufferMax) }
    let least = Int(estimator.least)
    if least > Self.farRoundTrip {
      return min(Int(bufferMaxFar), Int(bufferMax) * least / Self.farRoundTrip)
    }
    guard estimator.smoothed <= Self.farRoundTrip else { return Int(bufferMax) }
    return min(Int(bufferMax), closeOctets * max(least, Self.closeRoundTrip) / Self.closeRoundTrip)
  }

  /// From here on it is far, microseconds.
  static let farRoundTrip = 10_000
  /// Up to here it is close, microseconds.
  static let closeRoundTrip = 100
  /// Kept for a close client where other targets of the worker say much, too, octets: two parts of a turn
  /// (`TurnBudget`).
  static let closeOctets = 512 * 1024
  /// The same where no other says much.
  static let closeOctetsFirst = 2 << 20
  /// The same where nobody else is heard of: of four parts one is read, one is being written, and two are
  /// on their way.
  static let closeOctetsAlone = 4 << 20

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
  /// - Parameter echo: the timestamp that the acknowledgement echoes, which tells them apart.
  mutating func synchronized(echo: UInt32?, at now: MonotonicInstant) {
    if lastSentAt != .zero {
      estimator.measured(now - lastSentAt)
    } else {
      measure(echo: echo, expectedSamples: 1, at: now)
    }
    if unanswered > 0 {
      congestion.handshakeTimedOut(segmentOctets: Int(segmentOctets))
      estimator.handshakeTimedOut()
    }
    unacknowledged = next
    unanswered = 0
    retransmitAt = .distantFuture
    lastSentAt = .zero
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
    /// Sent for the first time, and no window probe: what ECN may mark (RFC 3168 §6.1.4–6.1.6).
    var isNew = false
    /// Tells the peer that the window was reduced (CWR).
    var tellsReduced = false
  }

  /// The next piece that may be sent now, at most `burstOctets` long (0: one segment); its record
  /// is kept. nil when nothing may.
  /// - Parameter cutsReduced: whether a super-packet may carry CWR.
  mutating func nextBurst(
    burstOctets: Int, cutsReduced: Bool, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> Burst? {
    if segmentOctets < segmentSize.octetsMax { raiseSegmentSizeIfDue(at: now) }
    let mss = Int(segmentOctets)
    var frameMax = frameOctets(burstOctets: burstOctets)
    if let burst = nextLost(
      frameMax: frameMax, burstOctets: burstOctets, at: now, memory: &memory)
    {
      return burst
    }
    if recovery.tailProbeDue, let burst = nextTailProbe(at: now, memory: &memory) { return burst }
    if outstanding > 0 { armRetransmission(at: now) }  // no record was to be had

    if notification.owesReduced, !cutsReduced { frameMax = mss }
    isWindowLimited = false
    if outstanding == 0 { congestion.applicationLimited(at: now) }
    if outstanding == 0, lastSentAt != .zero, now - lastSentAt > estimator.timeout {
      congestion.restarted(segmentOctets: mss)
    }
    let dataLeft = unsent
    let isProbe = probeDue
    var octets = 0
    if dataLeft > 0 {
      if probeDue {
        octets = min(dataLeft, max(1, min(windowRoom, mss)))
      } else {
        let extra = recovery.tailProbeOctets(segmentOctets: mss)
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
    if recovery.tailProbeDue { octets = min(octets, recovery.tailProbeOctets(segmentOctets: mss)) }
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
    // Refused only while something is in flight, and the timer runs: a first record is set aside.
    guard scoreboard.sent(start, end, at: now, records: &memory.sent) else { return nil }
    next = end
    if windowOctets == 0 { sentIntoClosedWindow = true }
    if recovery.tailProbeDue {
      let left = recovery.tailProbeOctets(segmentOctets: mss) - octets
      let mayGoOn = !last && windowRoom >= min(unsent, mss)
      recovery.tailProbeSent(
        upTo: end, isRetransmission: false, segmentsLeft: mayGoOn ? left / mss : 0)
    }
    if finish { finishSent = true }
    recovery.sentNew(octets, flightOctets: outstanding)
    lastSentAt = now
    armRetransmission(at: now)
    armTailProbe(at: now)
    let isNew = octets > 0 && !isProbe
    let tellsReduced = isNew && notification.owesReduced
    if tellsReduced { notification.saidReduced() }
    return Burst(
      start: start, octets: octets, finish: finish, push: last, isNew: isNew,
      tellsReduced: tellsReduced)
  }

  /// Octets of a frame, which is one segment or a super-packet. The network drops one whole, and the peer
  /// acknowledges one whole: once something was lost, a window goes out in several, so that what is lost
  /// is seen by what is not, and the loss of a lone acknowledgement stops nothing.
  package func frameOctets(burstOctets: Int) -> Int {
    let mss = Int(segmentOctets)
    var octets = burstOctets
    if congestion.threshold != .max {
      octets = min(octets, max(2 * mss, Int(congestion.window) / Self.framesOfWindow))
    }
    return max(mss, octets / mss * mss)
  }

  /// Super-packets that a window goes out in at least, on a path that loses.
  private static let framesOfWindow = 3

  /// The first lost piece, when the congestion window has room for it.
  private mutating func nextLost(
    frameMax: Int, burstOctets: Int, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> Burst? {
    let slot = scoreboard.firstLost(records: memory.sent)
    guard slot != noSlot else { return nil }
    let mss = Int(segmentOctets)
    var room = Int(congestion.window) - pipe
    let isFirst = slot == scoreboard.first
    if room < min(mss, memory.sent[slot].octets) {
      // The first loss is mended at once (RFC 6675 §5, step 4.3), and without SACK every one that a
      // partial acknowledgement shows (RFC 6582 §3.2).
      guard isFirst, pipe == 0 || recovery.mayForce || (!usesSACK && recovery.state == .fast)
      else { return nil }
      room = mss
    }
    // A window that was closed upon what is in flight is probed by an octet at each time-out, not flooded.
    // What lies beyond an edge that was taken back waits for it to return (RFC 9293 §3.8.6).
    let inside = windowEdge.distance(from: memory.sent[slot].start)
    if windowOctets == 0 {
      guard isFirst, pipe == 0 else { return nil }
      room = 1
    } else {
      guard inside > 0 else { return nil }
      room = min(room, inside)
    }
    var limit = min(frameMax, max(1, room))
    if limit >= mss { limit -= limit % mss }
    if memory.sent[slot].octets > limit,
      !scoreboard.cut(slot, after: limit, records: &memory.sent)
    {
      // No record to cut it with: whole, if a frame can carry it, rather than never.
      guard memory.sent[slot].octets <= min(inside, max(mss, burstOctets)) else { return nil }
    }
    scoreboard.join(slot, upTo: limit, records: &memory.sent)
    let record = memory.sent[slot]
    scoreboard.resent(slot, at: now, records: memory.sent)
    if windowOctets == 0 { sentIntoClosedWindow = true }
    recovery.sentAgain(record.octets, stamp: Self.stamp(at: now))
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
