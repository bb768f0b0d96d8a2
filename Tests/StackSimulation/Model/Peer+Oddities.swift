import Primitives

// A client's bad habits in action: see `Oddities`. Everything here happens between the packets of an
// otherwise sane client, which goes on with what is true.

extension Peer {
  /// The octets of the next segment, or super-packet, that may be sent.
  func cutOctets() -> Int {
    guard plan.oddities.recutsSegments else { return superOctets }
    return habits.within(max(1, segmentMax / 8)...max(1, superOctets))
  }

  /// A segment as it leaves: with what urgency, timestamp and blocks it is said to have.
  func oddly(_ segment: Segment) -> Segment {
    let odd = plan.oddities
    var segment = segment
    if habits.chance(odd.urgent) {
      segment.flags |= Flag.urg
      segment.urgentPointer = UInt16(habits.below(65_536))
    }
    guard !segment.has(Flag.syn) else { return segment }
    if habits.chance(odd.skipsStamps) { segment.timestamp = nil }
    if habits.chance(odd.spoilsEchoes) { segment.timestamp?.echo = habits.word() }
    if habits.chance(odd.agesStamps) {
      segment.timestamp?.value &-= UInt32(habits.within(1...5_000))
    }
    if stackTakesSACK, plan.permitsSACK, habits.chance(odd.liesInBlocks) {
      let start = habits.within(-3_000...40_000)
      let octets = habits.within(-1_000...20_000)
      segment.blocks.insert(
        (
          stackInitial &+ UInt32(truncatingIfNeeded: received + start),
          stackInitial &+ UInt32(truncatingIfNeeded: received + start + octets)
        ), at: 0)
    }
    return segment
  }

  func remember(_ packet: [UInt8]) {
    if memorable.count < 48 {
      memorable.append(packet)
    } else {
      memorable[habits.below(48)] = packet
    }
  }

  /// Acknowledges what has come since the last time in steps, before the whole.
  func divideAcknowledgment(at now: MonotonicInstant) {
    let steps = plan.oddities.divisions
    let from = acknowledgedOut
    let octets = received - from - (finishReceived ? 1 : 0)
    guard steps > 1, octets > steps else { return }
    for step in 1..<steps {
      let at = from + octets * step / steps
      var segment = bare(Flag.ack, acknowledging: at, at: now)
      segment.window = UInt16(min(65_535, max(0, toldEdge - at) >> shift))
      emit(segment, offset: 0, octets: 0)
    }
  }

  func repeatAcknowledgment() {
    guard habits.chance(plan.oddities.repeatsAcknowledgments), let last = outbox.last else {
      return
    }
    for _ in 0..<habits.within(1...6) { outbox.append(last) }
  }

  /// Something that nobody asked for.
  func misbehave(at now: MonotonicInstant) {
    if habits.chance(plan.oddities.replays), !memorable.isEmpty {
      outbox.append((habits.pick(memorable), 0))
    }
    if habits.chance(plan.oddities.acknowledgesUnsent) {
      let far = received + habits.within(1 << 24...1 << 30)
      emit(bare(Flag.ack, acknowledging: far, at: now), offset: 0, octets: 0)
    }
    if habits.chance(plan.oddities.forges) { forge(at: now) }
  }

  /// A segment that sits where the sender is, with an empty window.
  private func bare(
    _ flags: UInt8, acknowledging offset: Int, at now: MonotonicInstant
  ) -> Segment {
    var segment = Segment()
    segment.sequence = sequence(min(highest, max(edge, acknowledged)))
    segment.acknowledgment = stackInitial &+ UInt32(truncatingIfNeeded: offset)
    segment.flags = flags
    if stampsOn { segment.timestamp = stamp(at: now) }
    return segment
  }

  /// What somebody sends who knows the ports, and not the rest; or an earlier connection's segment.
  private func forge(at now: MonotonicInstant) {
    var segment = bare(Flag.ack, acknowledging: received, at: now)
    let older = (ownStamps?.first ?? 0) &- UInt32(habits.within(1...1 << 20))
    // The stream with another key: wrong octets everywhere.
    var octets = 0
    switch habits.below(6) {
    case 0:  // of an earlier connection, within the window; only PAWS tells
      guard stampsOn else { return }
      segment.timestamp = (older, 0)
      segment.sequence = sequence(acknowledged + habits.within(0...3_000))
      octets = habits.within(1...segmentMax)
      if habits.percent(20) { segment.flags |= Flag.fin }
    case 1:  // data beyond every window
      segment.sequence = sequence(acknowledged + habits.within(1 << 24...1 << 30))
      octets = habits.within(1...segmentMax)
    case 2:  // a reset that does not hit RCV.NXT
      segment.flags = habits.percent(50) ? Flag.rst : Flag.rst | Flag.ack
      segment.sequence = sequence(plan.upload + 3 + habits.scaled(0...60_000))
    case 3:  // a SYN, older than the connection
      segment.flags = Flag.syn
      segment.acknowledgment = 0
      segment.sequence = sequence(-habits.scaled(1...1 << 20))
      if stampsOn {
        segment.timestamp = (older, 0)
        forgedStamp = older
      }
    case 4:  // no acknowledgement
      segment.flags = habits.pick([0, Flag.psh, Flag.urg, Flag.fin | Flag.psh | Flag.urg])
      segment.sequence = sequence(acknowledged + habits.within(0...3_000))
      octets = habits.below(100)
    default:  // flags that contradict one another
      segment.flags = habits.pick([
        Flag.syn | Flag.fin, Flag.syn | Flag.rst, Flag.syn | Flag.fin | Flag.ack,
      ])
    }
    let packet = Packets.build(
      addressing, segment, key: uploadKey + 7, offset: habits.below(60_000), octets: octets)
    outbox.append((packet, 0))
  }
}
