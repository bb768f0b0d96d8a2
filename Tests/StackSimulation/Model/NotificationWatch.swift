import Primitives

// One end of a conversation as RFC 3168 has it, seen from outside: what it may say of congestion, and
// what it must.
//
// Offsets count from the initial sequence numbers, as in `Conversation`. What became of a segment that
// reached the end is known only where nothing can make the end refuse it (`isSure`); everything else may
// have been heard, or not.

struct NotificationWatch {
  /// The SYN-ACK took the offer.
  var isAgreed = false

  // The end as a receiver.
  /// The highest octet that has reached it.
  private var arrivedEnd = 1
  private var latestStamp: UInt32?
  private var mustEcho = false
  private var mayEcho = false

  // The end as a sender.
  private var sent = 1
  private var acknowledged = 1
  /// What had been sent when something was sent again: until then losses may reduce the window, too.
  private var resentUntil = 0
  private var probedSince = false
  /// Where CWR was said last; nil: never, or nobody knows what was in flight then.
  private var reducedAt: Int?
  private var reducedLatest = 0
  private var owesReduced = false
  /// What had been sent when something was late: until then a recovery may be on, which has reduced the
  /// window, and hears of marks when it is over.
  private var lateUntil = 0
  /// Segments that left as ECT, and of them those that said CWR.
  private(set) var capable = 0
  private(set) var reductions = 0

  /// A sound packet reaches the end.
  /// - Parameters:
  ///   - offset: of its first octet in the stream towards the end.
  ///   - acknowledgment: in the end's own stream.
  ///   - isOdd: what sends it may have spoilt it.
  mutating func arrives(_ segment: Segment, offset: Int, acknowledgment: Int, isOdd: Bool) {
    guard !segment.has(Flag.syn), !segment.has(Flag.rst), segment.has(Flag.ack) else { return }
    let octets = segment.payload.count
    let isLatest = segment.timestamp.map { stamp in
      latestStamp.map { Int32(bitPattern: stamp.value &- $0) >= 0 } ?? true
    }
    let isSure =
      !isOdd && isLatest != false && offset >= arrivedEnd && acknowledgment >= acknowledged
      && acknowledgment <= sent
    if isLatest == true { latestStamp = segment.timestamp?.value }
    if octets > 0 {
      dataArrives(segment, isSure: isSure && octets > 1)
      arrivedEnd = max(arrivedEnd, offset + octets)
    }
    guard acknowledgment <= sent else { return }
    if !segment.blocks.isEmpty || (octets == 0 && acknowledgment == acknowledged) {
      lateUntil = sent
    }
    if isAgreed, isSure, segment.has(Flag.ece), acknowledged < sent,
      acknowledgment > max(lateUntil, resentUntil, reducedLatest)
    {
      owesReduced = true
    }
    acknowledged = max(acknowledged, acknowledgment)
  }

  private mutating func dataArrives(_ segment: Segment, isSure: Bool) {
    guard isAgreed else { return }
    let isMarked = segment.codepoint == Codepoint.marked
    if segment.has(Flag.cwr) {
      mustEcho = false
      if isSure { mayEcho = false }
    }
    if isMarked {
      mayEcho = true
      if isSure { mustEcho = true }
    }
  }

  /// The end sends something.
  /// - Parameter offset: of its first octet in the end's own stream.
  /// - Throws: what it may not say, or leaves unsaid.
  mutating func leaves(_ segment: Segment, offset: Int) throws(Violation) {
    let octets = segment.payload.count
    if segment.has(Flag.rst) || segment.has(Flag.syn) {
      if segment.codepoint != 0 { throw Violation("sends a SYN or a reset as ECT") }
      if segment.has(Flag.syn) {
        if segment.has(Flag.cwr) { throw Violation("says CWR in its SYN-ACK") }
        isAgreed = segment.has(Flag.ece)
      }
      return
    }
    let isNew = octets > 0 && offset >= sent
    let isCapable = segment.codepoint == Codepoint.capable
    let isResent = !isNew && (octets > 0 || segment.has(Flag.fin)) && offset < sent
    sent = max(sent, offset + octets + (segment.has(Flag.fin) ? 1 : 0))
    if isResent { resentUntil = sent }
    guard isCapable || segment.codepoint == 0 else {
      throw Violation("sends codepoint \(segment.codepoint)")
    }
    guard isAgreed else {
      if isCapable || segment.has(Flag.ece) || segment.has(Flag.cwr) {
        throw Violation("speaks of congestion, which was not agreed on")
      }
      return
    }
    if isCapable, !isNew { throw Violation("sends as ECT what is no new data") }
    if mustEcho, !segment.has(Flag.ece) { throw Violation("does not echo a mark") }
    if !mayEcho, segment.has(Flag.ece) { throw Violation("echoes a mark that there was not") }
    if isNew, !isCapable { probedSince = true }
    if isCapable { try saysReduced(segment.has(Flag.cwr), at: offset) }
    if segment.has(Flag.cwr), !isCapable { throw Violation("says CWR on what may get lost unseen") }
  }

  /// New data leaves, and says CWR or not.
  private mutating func saysReduced(_ says: Bool, at offset: Int) throws(Violation) {
    capable += 1
    guard says else {
      if owesReduced { throw Violation("does not heed an echo") }
      return
    }
    reductions += 1
    owesReduced = false
    if let reducedAt, acknowledged <= reducedAt, acknowledged > resentUntil {
      throw Violation("says CWR at \(reducedAt) and \(offset), acknowledged is \(acknowledged)")
    }
    // A probe in between was in flight when the window was reduced.
    reducedAt = probedSince ? nil : offset
    reducedLatest = offset
    probedSince = false
  }
}
