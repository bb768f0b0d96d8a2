import Primitives
import Wire

// The receiving half: what has arrived, what the target took, what may still come.
//
// Three edges run through the sequence space and only ever move forward:
//   taken      what the target's kernel socket accepted: the acknowledgement we send
//   next       RCV.NXT: everything before it is here, taken or kept
//   advertised the right edge of the window that the peer was told
// with taken ≤ next ≤ advertised. In-order payload is not copied while a turn lasts: it waits as
// slices of the device's read buffers, behind what the store keeps from earlier turns. What the
// target did not take by the end of the turn is copied to the store; the advertised edge then stands
// still until the target takes data again.

package struct ReceiveSide: BitwiseCopyable {
  /// Delay of an acknowledgement that nothing else asks for (RFC 1122 §4.2.3.2: below 500 ms).
  static let acknowledgmentDelay = Interval.milliseconds(40)

  /// Chunks that payload in front of a gap leaves free, for what fills the gap: without them it could
  /// hold all of a pool that nothing could drain.
  package static let chunksLeftForOrder = (1 << 16) / ChunkPool.chunkOctets + 2

  /// RCV.NXT.
  package private(set) var next: SequenceNumber
  /// The edge that is acknowledged.
  package private(set) var taken: SequenceNumber
  /// The advertised right edge.
  package private(set) var advertised: SequenceNumber
  /// Last.ACK.sent (RFC 7323 §4.3).
  private(set) var lastAcknowledgment: SequenceNumber
  /// The peer's FIN, when it has arrived, in order or not.
  private var finish = SequenceNumber(0)
  package private(set) var window: ReceiveWindow
  private var store = noSlot
  private var pendingHead = noSlot
  private var pendingTail = noSlot
  private(set) var pendingOctets: UInt32 = 0
  private var unacknowledgedOctets: UInt32 = 0
  private(set) var acknowledgeAt = MonotonicInstant.distantFuture
  let scale: UInt8
  private var finishIsKnown = false
  /// A duplicate to tell the peer of with the next acknowledgement (D-SACK, RFC 2883).
  private var hasDuplicate = false
  private var duplicate = SACKBlock(start: SequenceNumber(0), end: SequenceNumber(0))
  /// The FIN is in order: `next` counts it.
  package private(set) var finishArrived = false
  /// An acknowledgement is due with the next transmission.
  var acknowledgeNow = false
  /// Whether the target answers soon, so that an acknowledgement is worth holding back for its data to
  /// carry. Once one was held back in vain, none is until the target answers again: what waits for it may
  /// be a sender whose last acknowledgement was lost (its tail probe is a lone segment), or one that
  /// gathers small pieces meanwhile (Nagle).
  private var answersFollow = true
  /// Acknowledgements that still go out in two, since the path has lost something.
  private var doubledAcknowledgments: UInt8 = 0
  /// Something since the last acknowledgement did not come in order, or had to wait.
  private var mendsGap = false
  /// Something was taken since data was last sent.
  private var awaitsAnswer = false

  /// - Parameters:
  ///   - windowOctets: what is offered at first.
  ///   - windowOctetsMax: what may come to be offered to a client far away.
  package init(
    initial: SequenceNumber, scale: UInt8, windowOctets: UInt32, windowOctetsMax: UInt32
  ) {
    next = initial + 1
    taken = initial + 1
    advertised = initial + 1
    lastAcknowledgment = initial + 1
    self.scale = scale
    window = ReceiveWindow(usual: windowOctets, widest: windowOctetsMax, start: initial + 1)
  }

  /// Where the edges stand when all that came was taken and acknowledged.
  struct Settled: BitwiseCopyable {
    fileprivate var window: ReceiveWindow.Settled
    fileprivate var next: SequenceNumber
    fileprivate var advertised: SequenceNumber
  }

  /// What the path and the target have taught about acknowledging.
  struct Habits: BitwiseCopyable {
    fileprivate var doubledAcknowledgments: UInt8
    fileprivate var answers: Answers
    fileprivate var seen: UInt8

    fileprivate struct Answers: OptionSet, BitwiseCopyable {
      let rawValue: UInt8
      static let follow = Answers(rawValue: 1)
      static let areAwaited = Answers(rawValue: 2)
    }
  }

  var habits: Habits {
    var answers: Habits.Answers = []
    if answersFollow { answers.insert(.follow) }
    if awaitsAnswer { answers.insert(.areAwaited) }
    return Habits(
      doubledAcknowledgments: doubledAcknowledgments, answers: answers, seen: window.seen)
  }

  /// nil while something is kept, owed, or waited for.
  /// - Parameters:
  ///   - finishTaken: the target was told of the client's FIN.
  ///   - usual, widest: as the window was made with.
  func settled(finishTaken: Bool, usual: UInt32, widest: UInt32) -> Settled? {
    guard store == noSlot, pendingHead == noSlot, isDrained, !hasDuplicate, !acknowledgeNow,
      !mendsGap,
      acknowledgeAt == .distantFuture, unacknowledgedOctets == 0, finishIsKnown == finishArrived,
      finishArrived == finishTaken, lastAcknowledgment == next,
      let window = window.settled(usual: usual, widest: widest)
    else { return nil }
    return Settled(window: window, next: next, advertised: advertised)
  }

  init(
    _ settled: Settled, _ habits: Habits, finishTaken: Bool, scale: UInt8, usual: UInt32,
    widest: UInt32
  ) {
    next = settled.next
    advertised = settled.advertised
    lastAcknowledgment = settled.next
    taken = finishTaken ? settled.next - 1 : settled.next
    doubledAcknowledgments = habits.doubledAcknowledgments
    answersFollow = habits.answers.contains(.follow)
    awaitsAnswer = habits.answers.contains(.areAwaited)
    finish = taken
    finishIsKnown = finishTaken
    finishArrived = finishTaken
    self.scale = scale
    window = ReceiveWindow(settled.window, usual: usual, widest: widest)
    window.seen = habits.seen
  }

  /// The end of in-order payload, the FIN aside.
  private var payloadEnd: SequenceNumber { finishArrived ? next - 1 : next }

  /// In-order octets that the target has not taken.
  package var untakenOctets: Int { payloadEnd.distance(from: taken) }

  /// Whether everything up to and with the FIN was taken, or there is nothing to take.
  var isDrained: Bool { untakenOctets == 0 }

  /// The window acceptability test of RFC 9293 §3.10.7.4. One more than it allows: a segment without octets
  /// at the right edge, which a peer names that has filled the window, for it has no other number to
  /// say anything with.
  package func accepts(_ sequence: SequenceNumber, segmentOctets: Int) -> Bool {
    if segmentOctets == 0 { return 0...openOctets ~= sequence.distance(from: next) }
    return isInWindow(sequence) || isInWindow(sequence + (segmentOctets - 1))
  }

  /// RCV.NXT ≤ sequence < RCV.NXT + RCV.WND: where a reset may be meant (RFC 5961 §3.2).
  func isInWindow(_ sequence: SequenceNumber) -> Bool {
    let offset = sequence.distance(from: next)
    return offset >= 0 && offset < openOctets
  }

  /// RCV.WND. A FIN may lie behind the edge.
  private var openOctets: Int { max(0, advertised.distance(from: next)) }

  /// Whether a reset's sequence number is beyond doubt (RFC 5961 §3.2). RCV.NXT, as the peer knows
  /// it, is what we acknowledged last: a peer that has forgotten the connection answers with that.
  /// Behind its FIN it may also name that once more, as macOS does for a program that dies.
  func isExact(_ sequence: SequenceNumber) -> Bool {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.believesBlindResets) { return accepts(sequence, segmentOctets: 0) }
    #endif
    return sequence == next || sequence == lastAcknowledgment
      || (finishArrived && sequence + 1 == next)
  }

  /// Octets of the pool that hold what has arrived.
  func keptOctets(memory: borrowing TCPMemory) -> Int {
    store == noSlot ? 0 : memory.stores[store].chunkCount * ChunkPool.chunkOctets
  }

  // MARK: Arrival

  /// Takes a segment's payload and FIN, which `accepts` let through.
  package mutating func arrive(
    _ sequence: SequenceNumber, payload: Slice, finish hasFinish: Bool, segmentOctets: Int,
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    var start = sequence
    var octets = payload.octets
    var base = payload.base
    let end = sequence + octets
    if hasFinish, !finishIsKnown, next.precedesOrEquals(end), end.precedesOrEquals(advertised) {
      finish = end
      finishIsKnown = true
    }
    let stale = next.distance(from: start)
    if stale > 0 {
      let cut = min(stale, octets)
      if octets > 0 {
        acknowledgeNow = true
        doubledAcknowledgments = .max
        duplicateArrived(start, octets: cut)
      }
      base = base.map { $0 + cut }
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.cutsOldOctetsShort) { base = base.map { $0 - 1 } }
      #endif
      octets -= cut
      start = start + cut
    }
    let edge = finishIsKnown ? finish : advertised
    octets = min(octets, max(0, edge.distance(from: start)))

    var outcome: SegmentOutcome = []
    if octets > 0, let base {
      if start == next, store == noSlot || memory.stores[store].runCount == 0 {
        if append(Slice(base, octets), memory: &memory) {
          next = next + octets
          outcome.insert(.payload)
        }
      } else {
        acknowledgeNow = true
        doubledAcknowledgments = .max
        mendsGap = true
        if keep(start, base, octets, memory: &memory) { outcome.insert(.payload) }
      }
    }
    if outcome.contains(.payload) { window.octetsArrived(at: now) }
    if finishIsKnown, !finishArrived, finish.precedes(next) {
      finishIsKnown = false  // octets that were here already lie behind it: one of both is a lie
    }
    if finishIsKnown, !finishArrived, next == finish {
      next = next + 1
      finishArrived = true
      if !hasFinish { acknowledgeNow = true }  // it came before what was missing
      outcome.insert(.finished)
    } else if hasFinish, !finishArrived {
      acknowledgeNow = true  // out of order
    }
    return outcome
  }

  /// In-order payload, to be read where it lies until the turn ends. The chunks to keep it in are
  /// made sure of first, so that what was accepted is never dropped.
  private mutating func append(_ slice: Slice, memory: inout TCPMemory) -> Bool {
    let reserve = memory.pendingChunks + slice.octets / ChunkPool.chunkOctets + 3
    guard memory.chunks.available >= reserve, memory.stores.available > memory.pending.count,
      let slot = memory.pending.take(PendingSlice(slice))
    else {
      memory.drops.count(.memoryFull)
      return false
    }
    memory.pendingChunks = reserve
    if pendingTail == noSlot { pendingHead = slot } else { memory.pending[pendingTail].next = slot }
    pendingTail = slot
    pendingOctets += UInt32(slice.octets)
    return true
  }

  /// Payload that needs the store: behind a gap, or filling one.
  /// - Returns: whether in-order payload grew.
  private mutating func keep(
    _ start: SequenceNumber, _ base: UnsafeMutableRawPointer, _ octets: Int,
    memory: inout TCPMemory
  ) -> Bool {
    if store != noSlot,
      let known = memory.stores.pointer(store).pointee.known(start, start + octets)
    {
      hasDuplicate = true
      duplicate = known
    }
    guard store != noSlot || memory.stores.available > memory.pending.count,
      settle(memory: &memory), openStore(memory: &memory)
    else {
      memory.drops.count(.memoryFull)
      return false
    }
    let index = store
    let leave = start == next ? 0 : Self.chunksLeftForOrder
    guard
      memory.chunks.available >= memory.pendingChunks + octets / ChunkPool.chunkOctets + 3 + leave
    else {
      memory.drops.count(.memoryFull)
      releaseStoreIfEmpty(memory: &memory)
      return false
    }
    let written = memory.stores.pointer(index).pointee.write(
      start, base, octets, pool: &memory.chunks)
    guard written > 0 else { return false }
    let end = start + written
    if start == next {
      let before = next
      next = memory.stores[index].advance(from: end)
      return next != before
    }
    if !memory.stores[index].note(start, end) { memory.drops.count(.reassemblyFull) }
    return false
  }

  private mutating func openStore(memory: inout TCPMemory) -> Bool {
    if store != noSlot { return true }
    guard let slot = memory.stores.take(ReceiveStore(base: taken)) else { return false }
    store = slot
    return true
  }

  // MARK: Towards the target

  /// Fills `slices` with what the target is to be given next.
  package func gather(
    memory: borrowing TCPMemory, into slices: UnsafeMutableBufferPointer<Slice>
  ) -> (slices: Int, octets: Int) {
    var count = 0
    var octets = 0
    if store != noSlot {
      let keptEnd = payloadEnd - Int(pendingOctets)
      (count, octets) = memory.stores.pointer(store).pointee.gather(
        taken, keptEnd, pool: memory.chunks, into: slices)
      if octets < keptEnd.distance(from: taken) { return (count, octets) }
    }
    var slot = pendingHead
    while slot != noSlot, count < slices.count {
      slices[count] = memory.pending[slot].slice
      octets += slices[count].octets
      count += 1
      slot = memory.pending[slot].next
    }
    return (count, octets)
  }

  /// The target's socket took the first `octets` of what was gathered.
  /// - Parameter roundTrip: see `ReceiveWindow.targetTook`.
  package mutating func took(
    _ octets: Int, segmentOctets: Int, roundTrip: UInt32, at now: MonotonicInstant,
    memory: inout TCPMemory
  ) {
    guard octets > 0 else { return }
    var fromPending = octets
    if store != noSlot {
      let kept = untakenOctets - Int(pendingOctets)
      fromPending = max(0, octets - kept)
      mendsGap = true
    }
    let wasNarrow = advertised.distance(from: lastAcknowledgment) < 2 * segmentOctets
    taken = taken + octets
    consumePending(fromPending, memory: &memory)
    if store != noSlot {
      memory.stores.pointer(store).pointee.release(before: taken, pool: &memory.chunks)
      releaseStoreIfEmpty(memory: &memory)
    }
    window.count(
      octets, roundTrip: roundTrip, isAlone: memory.company.isAlone(at: now),
      in: &memory.uploads, at: now)
    window.targetTook(
      upTo: taken, isDrained: isDrained, roundTrip: roundTrip,
      mayWiden: memory.chunks.available > Int(memory.chunks.capacity) / 2, at: now)
    unacknowledgedOctets += UInt32(octets)
    if Int(unacknowledgedOctets) > segmentOctets || wasNarrow || store != noSlot {
      acknowledgeNow = true
    } else if !answersFollow {
      acknowledgeNow = true
    } else if acknowledgeAt == .distantFuture {
      acknowledgeAt = now + Self.acknowledgmentDelay
    }
    awaitsAnswer = true
  }

  /// The target was told of the client's FIN.
  /// - Parameter isAnswered: the target's own end is still to come. It comes at once from most, and its FIN
  ///   then carries the acknowledgement of the client's.
  mutating func finishWasTaken(isAnswered: Bool, at now: MonotonicInstant) {
    guard isAnswered, answersFollow, !acknowledgeNow, !mendsGap else {
      acknowledgeNow = true
      return
    }
    if acknowledgeAt == .distantFuture { acknowledgeAt = now + Self.acknowledgmentDelay }
    awaitsAnswer = true
  }

  /// Copies what still lies in the device's buffers to the store: the turn ends, or order demands
  /// it. Always succeeds for what `append` accepted.
  package mutating func settle(memory: inout TCPMemory) -> Bool {
    guard pendingHead != noSlot else { return true }
    guard openStore(memory: &memory) else { return false }
    var position = payloadEnd - Int(pendingOctets)
    while pendingHead != noSlot {
      let slice = memory.pending[pendingHead].slice
      if let base = slice.base {
        let written = memory.stores.pointer(store).pointee.write(
          position, base, slice.octets, pool: &memory.chunks)
        precondition(written == slice.octets, "reserved by append")
      }
      position = position + slice.octets
      removeFirstPending(memory: &memory)
    }
    pendingOctets = 0
    return true
  }

  private mutating func consumePending(_ count: Int, memory: inout TCPMemory) {
    var left = count
    pendingOctets -= UInt32(count)
    while left > 0, pendingHead != noSlot {
      let slice = memory.pending[pendingHead].slice
      if slice.octets <= left {
        left -= slice.octets
        removeFirstPending(memory: &memory)
      } else if let base = slice.base {
        memory.pending[pendingHead].slice = Slice(base + left, slice.octets - left)
        left = 0
      }
    }
  }

  private mutating func removeFirstPending(memory: inout TCPMemory) {
    let slot = pendingHead
    pendingHead = memory.pending[slot].next
    if pendingHead == noSlot { pendingTail = noSlot }
    memory.pending.give(slot)
    if memory.pending.count == 0 { memory.pendingChunks = 0 }
  }

  private mutating func releaseStoreIfEmpty(memory: inout TCPMemory) {
    guard store != noSlot, memory.stores[store].runCount == 0,
      untakenOctets == Int(pendingOctets)
    else { return }
    memory.stores.pointer(store).pointee.discard(pool: &memory.chunks)
    memory.stores.give(store)
    store = noSlot
  }

  /// Gives everything back; what was not taken is lost, and was never acknowledged.
  package mutating func discard(memory: inout TCPMemory) {
    while pendingHead != noSlot { removeFirstPending(memory: &memory) }
    pendingOctets = 0
    acknowledgeNow = false
    acknowledgeAt = .distantFuture
    if store != noSlot {
      memory.stores.pointer(store).pointee.discard(pool: &memory.chunks)
      memory.stores.give(store)
      store = noSlot
    }
  }

  /// Offers more from now on, never less.
  mutating func widenWindow(to octets: UInt32, max: UInt32) {
    window.widen(to: octets, widest: max)
  }

  /// The target's socket did not take all that was gathered.
  mutating func targetFilled(at now: MonotonicInstant) {
    if !isDrained { window.targetFilled(at: now) }
  }

  /// Whether what is kept has to be taken by the target's socket now; asked once.
  mutating func reliefIsDue(at now: MonotonicInstant) -> Bool {
    window.reliefIsDue(at: now) && !isDrained
  }

  /// It is to be made to take it.
  mutating func holdBack() { window.holdBack() }

  /// It was made to take it, or as much as it could.
  mutating func relieved() { window.relieved(at: taken) }

  /// The target's socket has room: the window that was held back opens.
  mutating func targetHasRoom() { if window.targetHasRoom() { acknowledgeNow = true } }

  // MARK: Acknowledging

  /// The acknowledgement number to send: the FIN is acknowledged once the target was told.
  package func acknowledgment(finishTaken: Bool) -> SequenceNumber {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.acknowledgesUntaken) { return payloadEnd }
      if PlantedFault.isPlanted(.acknowledgesFinishEarly) {
        return finishArrived && isDrained ? taken + 1 : taken
      }
    #endif
    return finishTaken ? taken + 1 : taken
  }

  /// The window field to send with `acknowledgment`; moves the advertised edge, never back.
  /// - Parameter cap: octets that a near client is to be offered at most, beyond two segments.
  package mutating func windowField(
    acknowledgment: SequenceNumber, unscaled: Bool, segmentOctets: Int, cap: UInt32 = .max
  ) -> UInt16 {
    let shift = unscaled ? 0 : Int(scale)
    let unit = 1 << shift
    var edge = advertised
    if untakenOctets == Int(pendingOctets), !window.isHeldBack {  // the target keeps up
      let limit = window.offer(cap: cap, segmentOctets: segmentOctets)
      let open = taken + limit
      // receiver's silly window avoidance (RFC 1122 §4.2.3.3)
      if open.distance(from: advertised) >= min(limit / 2, segmentOctets) { edge = open }
    }
    let wanted = max(0, edge.distance(from: acknowledgment))
    let floor = max(0, advertised.distance(from: acknowledgment))
    var field = wanted >> shift
    if field << shift < floor { field = (floor + unit - 1) >> shift }
    field = min(field, 0xFFFF)
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.takesEdgeBack) { field -= field / 8 }
    #endif
    let told = acknowledgment + (field << shift)
    if advertised.precedes(told) { advertised = told }
    return UInt16(field)
  }

  /// Half of what is to be acknowledged, to be told in front of the whole on a path that has lost
  /// something not long ago. A turn acknowledges all that it took, often a client's whole window: were
  /// that lone segment lost, the client would have to wait for a timer. (RFC 1122 §4.2.3.2 asks for an
  /// acknowledgement of every second full segment.)
  mutating func halfwayAcknowledgment(segmentOctets: Int) -> SequenceNumber? {
    guard doubledAcknowledgments > 0 else { return nil }
    doubledAcknowledgments -= 1
    let octets = taken.distance(from: lastAcknowledgment)
    guard !mendsGap, store == noSlot, !hasDuplicate, octets >= 2 * segmentOctets else {
      return nil
    }
    return lastAcknowledgment + octets / 2 / segmentOctets * segmentOctets
  }

  /// SACK blocks to send: a duplicate that arrived since the last acknowledgement (RFC 2883 §4), then
  /// the runs in front of gaps.
  package func selectiveAcknowledgment(memory: borrowing TCPMemory) -> SACKBlocks {
    guard store != noSlot || hasDuplicate else { return SACKBlocks() }
    var blocks = SACKBlocks()
    // Of what filled a gap, and is not all taken, the duplicate may be in front of the acknowledgement and
    // in no run: it would be told as having arrived, not as having come twice.
    if hasDuplicate, duplicate.end.precedesOrEquals(taken) || next.precedes(duplicate.start) {
      blocks.append(duplicate)
    }
    if store != noSlot {
      let runs = memory.stores.pointer(store).pointee.selectiveAcknowledgment
      for i in 0..<runs.count { blocks.append(runs[i]) }
    }
    return blocks
  }

  /// Octets arrived that are here already, before RCV.NXT. Told only when they lie before the
  /// acknowledgement: what the target has not taken yet is not acknowledged, and so no duplicate in the
  /// peer's eyes.
  mutating func duplicateArrived(_ start: SequenceNumber, octets: Int) {
    let end = start + octets
    guard octets > 0, end.precedesOrEquals(taken) else { return }
    hasDuplicate = true
    duplicate = SACKBlock(start: start, end: end)
  }

  /// An acknowledgement went out.
  /// - Parameter stillOwed: one that tells of blocks is to follow.
  package mutating func acknowledged(_ acknowledgment: SequenceNumber, stillOwed: Bool = false) {
    lastAcknowledgment = acknowledgment
    acknowledgeNow = stillOwed
    acknowledgeAt = .distantFuture
    unacknowledgedOctets = 0
    mendsGap = false
    if !stillOwed { hasDuplicate = false }
  }

  mutating func acknowledgmentIsDue(at now: MonotonicInstant) {
    if acknowledgeAt <= now {
      acknowledgeNow = true
      acknowledgeAt = .distantFuture
      answersFollow = false
    }
  }

  /// The target's data goes out.
  mutating func answered() {
    guard awaitsAnswer else { return }
    awaitsAnswer = false
    answersFollow = true
  }
}
