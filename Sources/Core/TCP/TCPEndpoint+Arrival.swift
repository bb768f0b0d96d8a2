import Primitives
import Wire

// A segment arrives (RFC 9293 §3.10.7): what it means in each state, and what it may not do.
//
// SYN and RST are judged first, then timestamps and the sequence number, then what it acknowledges, last
// what it carries. Whatever may be forged, or comes from a peer that remembers another conversation, is
// answered with what is true, and that no more often than `challengesMax` a second (RFC 5961 §7).

extension TCPEndpoint {
  /// RFC 9293 §3.10.7.
  package mutating func segmentArrives(
    _ segment: TCPSegment, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    let header = segment.header
    switch state {
    case .closed:
      // a SYN comes again, and meets a free slot then
      guard header.flags.isOpening else { return .refuse }
      memory.drops.count(.duplicateSYN)
      return []
    case .listen: return heldSegment(header, memory: &memory)
    case .timeWait where finishTaken && header.flags.isOpening:
      if isLaterIncarnation(header) { return .reincarnated }
    case .synReceived, .established, .finWait1, .finWait2, .closing, .timeWait, .closeWait,
      .lastAck:
      break
    }
    // SYN and RST are judged before their sequence number (RFC 5961 §4.2) or by it alone (§3.2).
    if header.flags.contains(.syn) { return synInConversation(header, at: now, memory: &memory) }
    if header.flags.contains(.rst) { return resetArrives(header, at: now, memory: &memory) }
    // First, the sequence number; PAWS before it (RFC 7323 §5.3).
    if usesTimestamps {
      guard let timestamp = header.options.timestamp else {  // RFC 7323 §3.2
        memory.drops.count(.pawsRejected)
        return []
      }
      if Int32(bitPattern: timestamp.value &- recentTimestamp) < 0, !recentTimestampIsOld(at: now) {
        memory.drops.count(.pawsRejected)
        return challenge(at: now, memory: &memory)
      }
    }
    let length = segment.payload.octets + (header.flags.contains(.fin) ? 1 : 0)
    guard receive.accepts(header.sequence, segmentOctets: length) else {
      return unacceptable(header, length: length, at: now, memory: &memory)
    }
    noteTimestamp(header, at: now)
    // Fifth, ACK.
    guard header.flags.contains(.ack) else {
      memory.drops.count(.badTCPFlags)
      return []
    }
    var outcome: SegmentOutcome = .transmit
    if state == .synReceived {
      guard header.acknowledgment == send.next, send.outstanding > 0 else {
        memory.drops.count(.badAcknowledgment)
        return .refuse
      }
      handshakeCompleted(echo: echo(header), at: now)
      outcome.insert(.established)
    }
    guard acknowledgmentIsAcceptable(header) else {
      memory.drops.count(.badAcknowledgment)
      return challenge(at: now, memory: &memory)
    }
    heard(at: now)
    let windowBefore = send.windowOctets
    let grew = send.updateWindow(header, scaled: peerScales, memory: memory)
    let (freed, finished) = send.acknowledge(
      header, carriesData: length > 0, windowChanged: windowBefore != send.windowOctets,
      echo: echo(header), at: now, memory: &memory)
    if freed > 0 { outcome.insert(.progress) }
    if freed > 0 || grew { outcome.insert(.room) }
    if finished { outcome.formUnion(ourFinishAcknowledged(at: now, memory: &memory)) }
    if state == .closed { return outcome }
    // Seventh and eighth, payload and FIN.
    if length > 0 { outcome.formUnion(payloadArrives(segment, at: now, memory: &memory)) }
    return outcome
  }

  private mutating func payloadArrives(
    _ segment: TCPSegment, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if segment.payload.octets > 0 {
      send.notification.dataArrives(
        segment.header.flags, isMarked: segment.isCongestionMarked)
    }
    guard state.receives else {  // nothing may follow a FIN
      receive.acknowledgeNow = true
      return []
    }
    let outcome = receive.arrive(
      segment.header.sequence, payload: segment.payload,
      finish: segment.header.flags.contains(.fin),
      segmentOctets: Int(send.segmentSize.octetsMax), at: now, memory: &memory)
    guard outcome.contains(.finished) else { return outcome }
    switch state {
    case .synReceived, .established: state = send.finishQueued ? .closing : .closeWait
    case .finWait1: state = .closing
    case .finWait2: return outcome.union(enterTimeWait(at: now, memory: &memory))
    case .listen, .closing, .timeWait, .closeWait, .lastAck, .closed: break
    }
    return outcome
  }

  /// A held SYN's client speaks again: the same SYN (ignored while the target is being connected), a
  /// reset, which must be at RCV.NXT, or an acknowledgement of what was never sent, which is refused
  /// as in LISTEN.
  private mutating func heldSegment(
    _ header: TCPHeader, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if header.flags.contains(.rst) {
      guard header.sequence == receive.next else {
        memory.drops.count(.outOfWindow)
        return []
      }
      return peerReset(memory: &memory)
    }
    if header.flags.contains(.ack) {
      memory.drops.count(.badAcknowledgment)
      return .refuse
    }
    if header.flags.contains(.syn) { send.notification.hear(syn: header.flags, isFirst: false) }
    memory.drops.count(header.flags.contains(.syn) ? .duplicateSYN : .badTCPFlags)
    return []
  }

  /// SYN in a synchronized state: a challenge ACK (RFC 5961 §4.2); the handshake's own SYN again:
  /// the SYN-ACK again (RFC 9293 §3.10.7.4).
  private mutating func synInConversation(
    _ header: TCPHeader, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if state == .synReceived, header.sequence + 1 == receive.taken, !header.flags.contains(.ack) {
      memory.drops.count(.duplicateSYN)
      send.notification.hear(syn: header.flags, isFirst: false)
      answerDue = true
      return .transmit
    }
    memory.drops.count(.challenged)
    return challenge(at: now, memory: &memory)
  }

  /// RST in an answered conversation (RFC 5961 §3.2); what it carries does not count (RFC 9293
  /// SHLD-2). TIME-WAIT outlives it: it may be the answer to an old duplicate (RFC 1337 §3).
  private mutating func resetArrives(
    _ header: TCPHeader, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if state == .timeWait, finishTaken {
      memory.drops.count(.resetInTimeWait)
      return []
    }
    if receive.isExact(header.sequence) { return peerReset(memory: &memory) }
    guard receive.isInWindow(header.sequence) else {
      memory.drops.count(.outOfWindow)
      return []
    }
    memory.drops.count(.challenged)
    return challenge(at: now, memory: &memory)
  }

  /// Answers a suspicious segment with what is true (RFC 5961 §3.2), unless too many were answered
  /// lately (§7). The bound is each connection's own: one shared by all would let an attacker count
  /// on his connection what he provokes on another.
  private mutating func challenge(
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if challengedSeconds != Self.seconds(now) {
      challengedSeconds = Self.seconds(now)
      challenges = 0
    }
    guard challenges < Self.challengesMax else {
      memory.drops.count(.rateLimited)
      return []
    }
    challenges += 1
    challengeDue = true
    return .transmit
  }

  private mutating func unacceptable(
    _ header: TCPHeader, length: Int, at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    // A window probe or an old duplicate still acknowledges and updates: RFC 9293 §3.10.7.4 asks
    // for acceptable ACKs to be heard when the window is zero.
    let nearby = header.sequence.distance(from: receive.next)
    if state != .synReceived, header.flags.contains(.ack), nearby <= 0, nearby > -(1 << 20),
      acknowledgmentIsAcceptable(header)
    {
      heard(at: now)
      let grew = send.updateWindow(header, scaled: peerScales, memory: memory)
      let (freed, finished) = send.acknowledge(
        header, carriesData: true, windowChanged: false, echo: echo(header), at: now,
        memory: &memory)
      if length > 0 {
        receive.acknowledgeNow = true
      } else {  // two peers that disagree would answer each other's answers for ever
        _ = challenge(at: now, memory: &memory)
      }
      receive.duplicateArrived(header.sequence, octets: length)
      var outcome: SegmentOutcome = freed > 0 || grew ? [.transmit, .room] : .transmit
      if freed > 0 { outcome.insert(.progress) }
      if finished { outcome.formUnion(ourFinishAcknowledged(at: now, memory: &memory)) }
      if header.flags.contains(.fin) { restartTimeWait(at: now) }
      return outcome
    }
    memory.drops.count(.outOfWindow)
    return challenge(at: now, memory: &memory)
  }

  private func acknowledgmentIsAcceptable(_ header: TCPHeader) -> Bool {
    // RFC 5961 §5.2: (SND.UNA - MAX.SND.WND) ≤ SEG.ACK ≤ SND.NXT
    let behind = send.unacknowledged.distance(from: header.acknowledgment)
    return header.acknowledgment.precedesOrEquals(send.next) && behind <= Int(send.windowMax)
  }

  private mutating func noteTimestamp(_ header: TCPHeader, at now: MonotonicInstant) {
    guard usesTimestamps, let timestamp = header.options.timestamp,
      Int32(bitPattern: timestamp.value &- recentTimestamp) >= 0 || recentTimestampIsOld(at: now),
      header.sequence.precedesOrEquals(receive.lastAcknowledgment)
    else { return }
    recentTimestamp = timestamp.value
    recentTimestampSeconds = Self.seconds(now)
  }

  /// TS.Recent means nothing after 24 days of silence: the peer's clock may have wrapped
  /// (RFC 7323 §5.5).
  private func recentTimestampIsOld(at now: MonotonicInstant) -> Bool {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.takesOldTimestamps) { return true }
    #endif
    return Self.seconds(now) &- recentTimestampSeconds > Self.timestampLifetimeSeconds
  }

  /// Challenge ACKs of one connection in a second of the clock.
  static let challengesMax: UInt8 = 10

  static let timestampLifetimeSeconds: UInt32 = 24 * 86_400

  static func seconds(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
  }

  /// Whether a SYN in TIME-WAIT, or what follows it, is no old duplicate (RFC 6191 §2).
  package func isLaterIncarnation(_ header: TCPHeader) -> Bool {
    if let timestamp = header.options.timestamp {
      guard usesTimestamps else { return true }
      let difference = Int32(bitPattern: timestamp.value &- recentTimestamp)
      if difference != 0 { return difference > 0 }
    }
    return receive.next.precedes(header.sequence)
  }

  /// The timestamp that a segment echoes, without our offset.
  private func echo(_ header: TCPHeader) -> UInt32? {
    guard usesTimestamps, header.flags.contains(.ack), let timestamp = header.options.timestamp
    else { return nil }
    return timestamp.echo &- timestampOffset
  }

  private mutating func handshakeCompleted(echo: UInt32?, at now: MonotonicInstant) {
    send.synchronized(echo: echo, at: now)
    state = send.finishQueued ? .finWait1 : .established
  }

  private mutating func peerReset(memory: inout TCPMemory) -> SegmentOutcome {
    release(memory: &memory)
    return .reset
  }

  private mutating func ourFinishAcknowledged(
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    switch state {
    case .finWait1:
      state = .finWait2
      return []
    case .closing: return enterTimeWait(at: now, memory: &memory)
    case .lastAck:
      // Seen from the client, our FIN crosses its own unless it acknowledges that: the client is in
      // CLOSING, and may need our acknowledgement once more.
      guard !finishCrosses else { return enterTimeWait(at: now, memory: &memory) }
      release(memory: &memory)
      return .closed
    case .listen, .synReceived, .established, .finWait2, .timeWait, .closeWait, .closed: return []
    }
  }

  /// The state of the client's half is kept: octets before its FIN may not all be taken yet, and
  /// then the wait does not begin (`finishWasTaken`).
  private mutating func enterTimeWait(
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    state = .timeWait
    send.discard(memory: &memory)
    wakeAt = .distantFuture
    guard finishTaken else { return [] }
    restartTimeWait(at: now)
    return .timeWait
  }

  mutating func restartTimeWait(at now: MonotonicInstant) {
    guard state == .timeWait, finishTaken else { return }
    wakeAt = now + .milliseconds(Int(timeWaitMilliseconds))
  }
}
