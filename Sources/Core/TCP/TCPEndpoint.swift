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
  var challengedSeconds: UInt32 = 0
  /// TS.Recent (RFC 7323 §4.3).
  var recentTimestamp: UInt32 = 0
  /// When TS.Recent was set.
  var recentTimestampSeconds: UInt32
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
  var challenges: UInt8 = 0
  /// Probes since the client was heard.
  var keepaliveProbes: UInt8 = 0
  let offeredSegmentOctets: UInt16
  let timeWaitMilliseconds: UInt32
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
    timeWaitMilliseconds = Self.milliseconds(settings.timeWait)
    keepaliveMilliseconds = Self.milliseconds(settings.keepalive)
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
    let window = settings.window(scales: peerScales)
    receive = ReceiveSide(
      initial: syn.sequence, scale: peerScales ? Self.windowScale : 0,
      windowOctets: window.usual, windowOctetsMax: window.widest)
    send.openWindow(syn)
    send.notification.hear(syn: syn.flags, isFirst: true)
  }

  /// A connection that was answered, of its halves; all else as if nothing had happened yet.
  init(
    send: SendSide, receive: ReceiveSide, timeWaitMilliseconds: UInt32,
    keepaliveMilliseconds: UInt32
  ) {
    self.send = send
    self.receive = receive
    self.timeWaitMilliseconds = timeWaitMilliseconds
    self.keepaliveMilliseconds = keepaliveMilliseconds
    recentTimestampSeconds = 0
    offeredSegmentOctets = send.segmentSize.octetsMax  // was told with SYN-ACK, once and for all
  }

  static func milliseconds(_ interval: Interval) -> UInt32 {
    UInt32(clamping: interval.milliseconds)
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
    receive.finishWasTaken(isAnswered: state == .closeWait, at: now)
    guard state == .timeWait else { return [] }
    restartTimeWait(at: now)
    return .timeWait
  }

  /// Opens room for the target's octets; see `SendBuffer.room`.
  package mutating func room(
    limit: Int, at now: MonotonicInstant, memory: inout TCPMemory,
    slices: UnsafeMutableBufferPointer<Slice>
  ) -> Int {
    let spare = (memory.chunks.available - memory.pendingChunks - 1) * ChunkPool.chunkOctets
    let octets = min(limit, roomOctets(at: now, memory: memory), spare)
    guard octets > 0 else { return 0 }
    return send.buffer.room(limit: octets, pool: &memory.chunks, slices: slices)
  }

  /// Octets that the target may say now.
  package func roomOctets(at now: MonotonicInstant, memory: borrowing TCPMemory) -> Int {
    guard !send.finishQueued else { return 0 }
    let closeOctets =
      memory.downloads.flows(at: now) > 1
      ? SendSide.closeOctets
      : memory.company.isAlone(at: now) ? SendSide.closeOctetsAlone : SendSide.closeOctetsFirst
    return send.bufferRoom(closeOctets: closeOctets, pool: memory.chunks)
  }

  /// Takes `octets` of the room.
  package mutating func commit(_ octets: Int, memory: inout TCPMemory) {
    send.buffer.commit(octets, pool: &memory.chunks)
  }

  /// The target said so many octets in one go.
  package mutating func said(_ octets: Int, at now: MonotonicInstant, memory: inout TCPMemory) {
    memory.downloads.saw(octets, mark: &send.seen, at: now)
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
