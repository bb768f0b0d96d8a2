import Primitives
import Wire

// One end of a client's TCP connection (RFC 9293), without clock, socket or memory of its own.
//
// Made from a client's SYN, which it holds unanswered (`listen`) until the target is connected:
// `answer` sends SYN-ACK, `transmit` after `refuse` a reset. From then on
//   segmentArrives   takes what the client sends, and says what it means
//   gather, took     pass payload on to the target
//   room, commit     take what the target says
//   transmit         puts frames into a queue: data, lost data, FIN, acknowledgements
//   handleDeadline   when `nextDeadline` has come
// Everything an endpoint keeps lies in a `TCPMemory` that is handed in; `release` gives it back.
// Acknowledged is only what the target's socket took: see ReceiveSide.

package struct TCPEndpoint: BitwiseCopyable {
  package internal(set) var state: TCPState = .listen
  package internal(set) var send: SendSide
  package internal(set) var receive: ReceiveSide
  /// The second that `challenges` counts in.
  private var challengedSeconds: UInt32 = 0
  /// TS.Recent (RFC 7323 §4.3).
  var recentTimestamp: UInt32 = 0
  /// When TS.Recent was set.
  private var recentTimestampSeconds: UInt32
  var timestampOffset: UInt32 = 0
  /// In TIME-WAIT its end; before, when a silent client is asked whether it is there.
  var wakeAt = MonotonicInstant.distantFuture
  var peerScales = false
  var usesTimestamps = false
  var permitsSACK = false
  var answerDue = false
  var finishTaken = false
  /// Our FIN went out before the client's was acknowledged.
  var finishCrosses = false
  var challengeDue = false
  var keepaliveDue = false
  private var challenges: UInt8 = 0
  /// Probes since the client was heard.
  var keepaliveProbes: UInt8 = 0
  let offeredSegmentOctets: UInt16
  private let timeWaitMilliseconds: UInt32
  /// 0: off.
  let keepaliveMilliseconds: UInt32

  /// A passive open: LISTEN meets a SYN (RFC 9293 §3.10.7.2). Nothing is sent yet.
  /// - Parameters:
  ///   - initialSequence: ISS, unpredictable (RFC 6528).
  ///   - timestampOffset: what our timestamps are counted from, unpredictable (RFC 7323 §7.1).
  package init(
    holding syn: TCPHeader, isIPv4: Bool, initialSequence: SequenceNumber, timestampOffset: UInt32,
    settings: TCPSettings, at now: MonotonicInstant
  ) {
    recentTimestampSeconds = Self.seconds(now)
    let options = syn.options
    usesTimestamps = options.timestamp != nil
    permitsSACK = options.sackPermitted
    peerScales = options.windowScale != nil
    recentTimestamp = options.timestamp?.value ?? 0
    self.timestampOffset = timestampOffset
    offeredSegmentOctets = settings.segmentOctets
    timeWaitMilliseconds = UInt32(clamping: settings.timeWait.milliseconds)
    keepaliveMilliseconds = UInt32(clamping: settings.keepalive.milliseconds)
    // RFC 9293 §3.7.1: 536 and 1220 when the peer does not say.
    let peerSegment = options.maximumSegmentSize ?? (isIPv4 ? 536 : 1220)
    let timestampOctets: UInt16 = usesTimestamps ? 12 : 0
    let segment =
      max(Self.segmentOctetsMin, min(peerSegment, settings.segmentOctets)) - timestampOctets
    let least = Self.pathOctetsMin(isIPv4: isIPv4) - (isIPv4 ? 40 : 60) - timestampOctets
    send = SendSide(
      initial: initialSequence, segmentSize: SegmentSize(octets: segment, octetsMin: least),
      peerScale: options.windowScale ?? 0,
      usesSACK: options.sackPermitted, settings: settings)
    receive = ReceiveSide(
      initial: syn.sequence, scale: peerScales ? Self.windowScale : 0,
      windowOctets: peerScales ? settings.windowOctets : min(settings.windowOctets, 0xFFFF),
      windowOctetsMax: peerScales ? settings.windowOctetsMax : 0xFFFF)
    send.openWindow(syn)
    send.notification.hear(syn: syn.flags, isFirst: true)
  }

  /// A peer that asks for smaller segments gets these, so that it cannot make us emit headers only.
  static let segmentOctetsMin: UInt16 = 88
  /// The least MTU that a path is believed to have: see SegmentSize.
  package static func pathOctetsMin(isIPv4: Bool) -> UInt16 { isIPv4 ? 552 : 1280 }
  /// The shift of the windows that we advertise: 16 MiB in steps of 256 octets.
  static let windowScale: UInt8 = 8
  /// SYN-ACKs without an answer before the connection is given up.
  static let answersMax: UInt8 = 5

  // MARK: From the one who joins both sides

  /// The target is connected: answer the SYN.
  package mutating func answer() {
    precondition(state == .listen, "the SYN is held")
    state = .synReceived
    answerDue = true
  }

  /// What the target is to be given next.
  package func gather(
    memory: borrowing TCPMemory, into slices: UnsafeMutableBufferPointer<Slice>
  ) -> (slices: Int, octets: Int) {
    receive.gather(memory: memory, into: slices)
  }

  /// The target's socket took this many octets of what was gathered.
  package mutating func took(_ octets: Int, at now: MonotonicInstant, memory: inout TCPMemory) {
    receive.took(
      octets, segmentOctets: Int(send.segmentSize.octetsMax), roundTrip: send.estimator.least,
      at: now,
      memory: &memory)
  }

  /// The target's socket did not take all that was gathered: what it left will want relief.
  package mutating func targetFilled(at now: MonotonicInstant) { receive.targetFilled(at: now) }

  /// The target's socket is to take what is kept beyond its bound, if it can be made to: the window stays
  /// where it is until it has room.
  package mutating func beginRelief() { receive.holdBack() }

  /// It was made to.
  package mutating func targetRelieved() { receive.relieved() }

  /// The target's socket has room again.
  /// - Returns: whether the client is to be told.
  package mutating func targetHasRoom() -> Bool {
    receive.targetHasRoom()
    return receive.acknowledgeNow
  }

  /// The turn ends: keeps what the target did not take.
  package mutating func settle(memory: inout TCPMemory) { _ = receive.settle(memory: &memory) }

  /// Whether the client's FIN is in and everything before it was taken.
  package var isFinishReady: Bool { receive.finishArrived && receive.isDrained && !finishTaken }

  /// The target was told that the client has finished: its FIN may be acknowledged. Only now does
  /// TIME-WAIT begin, if that is the state: a client's FIN counts when it is acknowledged.
  /// - Returns: `.timeWait` if so.
  package mutating func finishWasTaken(at now: MonotonicInstant) -> SegmentOutcome {
    finishTaken = true
    receive.acknowledgeNow = true
    guard state == .timeWait else { return [] }
    restartTimeWait(at: now)
    return .timeWait
  }

  /// Opens room for the target's octets; see `SendBuffer.room`.
  package mutating func room(
    limit: Int, memory: inout TCPMemory, slices: UnsafeMutableBufferPointer<Slice>
  ) -> Int {
    let spare = (memory.chunks.available - memory.pendingChunks - 1) * ChunkPool.chunkOctets
    let octets = min(limit, send.bufferRoom(pool: memory.chunks), spare)
    guard octets > 0, !send.finishQueued else { return 0 }
    return send.buffer.room(limit: octets, pool: &memory.chunks, slices: slices)
  }

  /// Octets that the target may say now.
  package func roomOctets(memory: borrowing TCPMemory) -> Int {
    send.finishQueued ? 0 : send.bufferRoom(pool: memory.chunks)
  }

  /// Takes `octets` of the room.
  package mutating func commit(_ octets: Int, memory: inout TCPMemory) {
    send.buffer.commit(octets, pool: &memory.chunks)
  }

  /// The target has finished: FIN behind its last octet (RFC 9293 §3.10.4).
  package mutating func finish() {
    switch state {
    case .synReceived, .established:
      send.queueFinish()
      if state == .established { state = .finWait1 }
    case .closeWait:
      send.queueFinish()
      state = .lastAck
    case .listen, .finWait1, .finWait2, .closing, .timeWait, .lastAck, .closed:
      break
    }
  }

  /// Octets of the payload pool that the endpoint keeps.
  package func keptOctets(memory: borrowing TCPMemory) -> Int {
    Int(send.buffer.octets) + receive.keptOctets(memory: memory)
  }

  /// Nothing will be sent or taken any more; gives back all memory.
  package mutating func release(memory: inout TCPMemory) {
    state = .closed
    send.discard(memory: &memory)
    receive.discard(memory: &memory)
    wakeAt = .distantFuture
  }

  // MARK: Segments

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
    guard receive.accepts(header.sequence, segmentOctets: 0) else {
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

  private static func seconds(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
  }

  /// Whether a SYN in TIME-WAIT is no old duplicate (RFC 6191 §2).
  private func isLaterIncarnation(_ header: TCPHeader) -> Bool {
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

  private mutating func restartTimeWait(at now: MonotonicInstant) {
    guard state == .timeWait, finishTaken else { return }
    wakeAt = now + .milliseconds(Int(timeWaitMilliseconds))
  }

  // MARK: Deadlines

  /// When `handleDeadline` wants to be called; `.distantFuture`: never.
  package var nextDeadline: MonotonicInstant {
    min(
      min(send.retransmitAt, min(send.reorderAt, send.recovery.tailProbeAt)),
      min(receive.acknowledgeAt, min(receive.window.reliefAt, wakeAt)))
  }

  /// - Returns: `.transmit`, or `.closed` when TIME-WAIT is over or, with `.gone`, the peer is given
  ///   up.
  package mutating func handleDeadline(
    at now: MonotonicInstant, memory: inout TCPMemory
  ) -> SegmentOutcome {
    if wakeAt <= now {
      if state == .timeWait {
        release(memory: &memory)
        return .closed
      }
      guard keepaliveDeadline(at: now) else { return giveUp(memory: &memory) }
    }
    receive.acknowledgmentIsDue(at: now)
    let relief: SegmentOutcome = receive.reliefIsDue(at: now) ? .relieve : []
    switch state {
    case .synReceived:
      guard send.retransmitAt <= now else { break }
      send.retransmitAt = .distantFuture
      send.unanswered += 1
      guard send.unanswered <= Self.answersMax else { return giveUp(memory: &memory) }
      answerDue = true
    case .established, .finWait1, .closing, .closeWait, .lastAck:
      send.reorderingDeadline(at: now, memory: &memory)
      send.tailProbeDeadline(at: now)
      guard send.retransmissionDeadline(at: now, memory: &memory) else {
        return giveUp(memory: &memory)
      }
    case .listen, .finWait2, .timeWait, .closed: break
    }
    return relief.union(.transmit)
  }

  private mutating func giveUp(memory: inout TCPMemory) -> SegmentOutcome {
    release(memory: &memory)
    return [.closed, .gone]
  }
}
