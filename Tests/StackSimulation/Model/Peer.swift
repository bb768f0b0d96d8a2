import Primitives

// The client: an active-opening TCP of its own, small and simple on purpose (RFC 9293).
//
// Positions are offsets into a stream and never wrap: 0 is the SYN, 1 the first octet, one behind the
// last the FIN; sequence numbers appear only at the edge. The sender goes back to the first
// unacknowledged octet when its timer fires and skips what was selectively acknowledged; its flight
// is bounded by a constant, not by congestion control. The receiver keeps segments in a dictionary by
// their start. Whatever the stack sends that a TCP must not send is a violation, thrown at once. Bad
// habits (`Oddities`) are in Peer+Oddities.

final class Peer: Client {
  let plan: ClientPlan
  let addressing: Addressing
  let uploadKey: Int
  let downloadKey: Int
  let initial: UInt32
  let stampOffset: UInt32
  var phase = ClientPhase.idle
  var outcome = ClientOutcome.none
  var outbox: [(packet: [UInt8], segmentOctets: Int)] = []

  // The sender.
  var acknowledged = 0
  var next = 0
  var highest = 0
  /// The right edge that the stack has told.
  var edge = 1
  var written = 0
  var writeAt = MonotonicInstant.distantFuture
  var retransmitAt = MonotonicInstant.distantFuture
  var persistAt = MonotonicInstant.distantFuture
  var backoff = 0
  var duplicates = 0
  var selectively: [(start: Int, end: Int)] = []
  var stackScale = 0
  var segmentMax = 536
  var stackTakesSACK = false
  var stackScales = false
  /// One behind the octet of the latest probe.
  var probed = 0
  var stampsOn = false
  var resetAt = MonotonicInstant.distantFuture
  /// An idle connection is asked for a sign of life (RFC 1122 §4.2.3.6): a lost reset is found out.
  var keepaliveAt = MonotonicInstant.distantFuture
  var timeouts = 0
  /// Single octets that blocks have told of.
  var octetsCut = 0

  var notification = ClientNotification()

  // The receiver.
  var stackInitial: UInt32 = 0
  /// Everything before it is here (RCV.NXT as an offset; 1 once the SYN is in).
  var received = 0
  var ahead: [Int: Int] = [:]
  var finishAt: Int?
  var finishReceived = false
  var readOctets = 0
  var readAt = MonotonicInstant.distantFuture
  var hasStalled = false
  /// The right edge that we have told.
  var toldEdge = 0
  var unacknowledgedSegments = 0
  var acknowledgeAt = MonotonicInstant.distantFuture
  var acknowledgeNow = false
  var latestAhead = 0
  var recentStamp: UInt32 = 0
  var highestStackStamp: UInt32?
  var lingerUntil = MonotonicInstant.distantFuture
  var ownStamps: (first: UInt32, last: UInt32)?
  /// That of a forged SYN, which may begin a connection once this one is reset: its echo is right.
  var forgedStamp: UInt32?

  // Bad habits.
  var habits: Dice
  /// The latest packets, to be sent once more.
  var memorable: [[UInt8]] = []
  var acknowledgedOut = 1
  var vanishAt = MonotonicInstant.distantFuture

  init(
    _ plan: ClientPlan, _ addressing: Addressing, uploadKey: Int, downloadKey: Int,
    dice: inout Dice
  ) {
    self.plan = plan
    self.addressing = addressing
    self.uploadKey = uploadKey
    self.downloadKey = downloadKey
    initial = dice.percent(40) ? UInt32.max &- UInt32(dice.below(40_000)) : dice.word()
    stampOffset = dice.percent(30) ? UInt32.max &- UInt32(dice.below(5_000)) : dice.word()
    habits = Dice(UInt64(initial) << 32 | UInt64(stampOffset))
  }

  var downloaded: Int { max(0, received - 1 - (finishReceived ? 1 : 0)) }

  var nextDeadline: MonotonicInstant {
    [
      writeAt, retransmitAt, persistAt, resetAt, readAt, acknowledgeAt, lingerUntil, keepaliveAt,
      vanishAt,
    ].min()
      ?? .distantFuture
  }

  var leftover: String? { nil }

  static let keepaliveInterval = Interval.seconds(75)

  // MARK: Application

  func open(at now: MonotonicInstant) {
    phase = .opening
    toldEdge = 1
    if let after = plan.resetAfter { resetAt = now + after }
    if let after = plan.oddities.vanishesAfter { vanishAt = now + after }
    sendSYN(at: now)
  }

  func sendSYN(at now: MonotonicInstant) {
    var segment = Segment()
    segment.sequence = initial
    segment.flags = Flag.syn | synNotification
    segment.codepoint = plan.oddities.oldCodepoint
    segment.window = UInt16(synWindow)
    segment.maximumSegment = plan.maximumSegment
    segment.scale = plan.scale
    segment.permitsSACK = plan.permitsSACK
    if plan.usesTimestamps { segment.timestamp = stamp(at: now) }
    highest = 1
    next = 1
    retransmitAt = now + .milliseconds(1_000 << min(backoff, 4))
    for _ in 0...plan.oddities.synCopies {
      emit(segment, offset: 1, octets: plan.oddities.synOctets)
    }
  }

  private var synNotification: UInt8 {
    if plan.oddities.halfOffer != 0 { return plan.oddities.halfOffer }
    let withdraws = plan.oddities.withdrawsOffer && backoff > 0
    return plan.offersECN && !withdraws ? Flag.ece | Flag.cwr : 0
  }

  var synWindow: Int { plan.oddities.synWindow ?? min(plan.bufferOctets, 65_535) }

  func stamp(at now: MonotonicInstant) -> (value: UInt32, echo: UInt32) {
    let value = UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000) &+ stampOffset
    ownStamps = (ownStamps?.first ?? value, value)
    return (value, recentStamp)
  }

  func write(at now: MonotonicInstant) {
    written = min(plan.upload, written + plan.writeOctets)
    writeAt = written < plan.upload ? now + plan.writePause : .distantFuture
  }

  var finishQueued: Bool {
    switch plan.ending {
    case .afterSending: written == plan.upload
    case .afterPeersEnd: written == plan.upload && finishReceived
    case .never: false
    }
  }

  /// Resets the connection, as an application that closes with SO_LINGER 0.
  func abort(at now: MonotonicInstant) {
    if phase == .open || phase == .opening, highest > 0 {
      var segment = Segment()
      segment.sequence = sequence(highest)
      segment.flags = Flag.rst | Flag.ack
      segment.acknowledgment = stackInitial &+ UInt32(received)
      if phase == .opening { segment.flags = Flag.rst }
      emit(segment, offset: 0, octets: 0)
    }
    end(.resetByUs)
  }

  func end(_ outcome: ClientOutcome) {
    if self.outcome == .none { self.outcome = outcome }
    phase = .gone
    for clear in [
      \Peer.writeAt, \Peer.retransmitAt, \Peer.persistAt, \Peer.resetAt, \Peer.readAt,
      \Peer.acknowledgeAt, \Peer.lingerUntil, \Peer.keepaliveAt, \Peer.vanishAt,
    ] as [ReferenceWritableKeyPath<Peer, MonotonicInstant>] {
      self[keyPath: clear] = .distantFuture
    }
  }

  func unreachable() {
    guard phase == .opening else { return }
    end(.unreachable)
  }

  // MARK: Time

  func timer(at now: MonotonicInstant) {
    guard phase != .gone else { return }
    if vanishAt <= now {
      outbox.removeAll()
      end(.vanished)
      return
    }
    if resetAt <= now {
      resetAt = .distantFuture
      if phase == .open || phase == .opening {
        abort(at: now)
        return
      }
    }
    if lingerUntil <= now {
      end(.finished)
      return
    }
    if phase == .opening {
      guard retransmitAt <= now else { return }
      backoff += 1
      if backoff > 7 { end(.gaveUp) } else { sendSYN(at: now) }
      return
    }
    if keepaliveAt <= now {
      keepaliveAt = now + Self.keepaliveInterval
      if acknowledged == highest {
        emit(dressed(acknowledged - 1, 0, at: now), offset: 0, octets: 0)
      }
    }
    if writeAt <= now { write(at: now) }
    if readAt <= now { read(at: now) }
    if acknowledgeAt <= now { acknowledgeNow = true }
    if retransmitAt <= now {
      retransmitAt = .distantFuture
      if acknowledged < highest {
        backoff += 1
        timeouts += 1
        duplicates = 0
        // What stands first is sent again whatever was said of it (RFC 2018 §8).
        selectively.removeAll { plan.forgetsSACK || $0.start <= acknowledged }
        next = acknowledged
      }
    }
    if persistAt <= now {
      persistAt = .distantFuture
      probe(at: now)
    }
    pump(at: now)
  }

  func timeout() -> Interval {
    let base = plan.timeout.nanoseconds << Int64(min(backoff, 6))
    return Interval(nanoseconds: min(base, 10_000_000_000))
  }
}
