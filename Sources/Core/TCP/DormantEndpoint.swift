import Primitives
import Wire

// An endpoint that has nothing to do, in a quarter of the size.
//
// Most of what an endpoint keeps is about octets on their way: what is in flight, what of that is lost and
// how it is mended, what waits for the target, what is owed to the client. When nothing is on its way
// that stands as it stood at the beginning, and need not be kept. `init?` tells whether it does; each
// part says for itself what of it lasts (`settled`). An endpoint that is woken goes on as if it had
// never slept, except that CUBIC's epoch and the rounds of HyStart++ begin anew. What is out of the ordinary
// (a path that takes less than was agreed, a widened reordering window, a target that stalls) keeps the
// endpoint awake.

package struct DormantEndpoint: BitwiseCopyable {
  private var wakeAt: MonotonicInstant
  private var lastSentAt: MonotonicInstant
  private var receive: ReceiveSide.Settled
  private var unacknowledged: SequenceNumber  // SND.UNA, and SND.NXT
  private var windowOctets: UInt32  // SND.WND
  private var windowSequence: SequenceNumber  // SND.WL1
  private var windowMax: UInt32  // MAX.SND.WND
  private var recentTimestamp: UInt32
  private var recentTimestampSeconds: UInt32
  private var timestampOffset: UInt32
  private var challengedSeconds: UInt32
  private var keepaliveMilliseconds: UInt32
  private var congestion: CongestionControl.Settled
  private var estimator: RTTEstimator.Settled
  private var segmentSize: SegmentSize.Settled
  private var marks: Marks
  private var notification: CongestionNotification.Settled
  package private(set) var state: TCPState
  private var habits: ReceiveSide.Habits
  private var challenges: UInt8
  /// The peer's scale, at most 14, in the low half; unanswered probes, at most 9, in the high one.
  private var scaleAndProbes: UInt8
  private var seen: UInt8
  private var backoff: UInt8

  private struct Marks: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let peerScales = Marks(rawValue: 1 << 0)
    static let usesTimestamps = Marks(rawValue: 1 << 1)
    static let permitsSACK = Marks(rawValue: 1 << 2)
    static let finishTaken = Marks(rawValue: 1 << 3)
    static let finishCrosses = Marks(rawValue: 1 << 4)
    /// Our FIN is sent and acknowledged.
    static let hasFinished = Marks(rawValue: 1 << 5)
    static let seenReordering = Marks(rawValue: 1 << 6)
    static let isCubic = Marks(rawValue: 1 << 7)
  }

  /// nil when something is on its way, or out of the ordinary, or the endpoint was made with other fixed
  /// choices than `settings`.
  package init?(_ endpoint: TCPEndpoint, settings: TCPSettings) {
    guard Self.maySleep(endpoint, settings: settings),
      let congestion = endpoint.send.congestion.settled,
      let segmentSize = endpoint.send.segmentSize.settled,
      let estimator = endpoint.send.estimator.settled,
      let notification = endpoint.send.notification.settled(at: endpoint.send.next),
      let receive = endpoint.receive.settled(
        finishTaken: endpoint.finishTaken,
        usual: settings.window(scales: endpoint.peerScales).usual,
        widest: settings.window(scales: endpoint.peerScales).widest)
    else { return nil }
    wakeAt = endpoint.wakeAt
    lastSentAt = endpoint.send.lastSentAt
    unacknowledged = endpoint.send.unacknowledged
    windowOctets = endpoint.send.windowOctets
    windowSequence = endpoint.send.windowSequence
    windowMax = endpoint.send.windowMax
    recentTimestamp = endpoint.recentTimestamp
    recentTimestampSeconds = endpoint.recentTimestampSeconds
    timestampOffset = endpoint.timestampOffset
    challengedSeconds = endpoint.challengedSeconds
    keepaliveMilliseconds = endpoint.keepaliveMilliseconds
    self.congestion = congestion
    self.notification = notification
    self.receive = receive
    habits = endpoint.receive.habits
    state = endpoint.state
    self.segmentSize = segmentSize
    self.estimator = estimator
    challenges = endpoint.challenges
    scaleAndProbes = endpoint.send.peerScale | endpoint.keepaliveProbes << 4
    seen = endpoint.send.seen
    backoff = endpoint.send.backoff
    marks = []
    if endpoint.peerScales { marks.insert(.peerScales) }
    if endpoint.usesTimestamps { marks.insert(.usesTimestamps) }
    if endpoint.permitsSACK { marks.insert(.permitsSACK) }
    if endpoint.finishTaken { marks.insert(.finishTaken) }
    if endpoint.finishCrosses { marks.insert(.finishCrosses) }
    if endpoint.send.finishSent { marks.insert(.hasFinished) }
    if endpoint.send.scoreboard.seenReordering { marks.insert(.seenReordering) }
    if endpoint.send.congestion.algorithm == .cubic { marks.insert(.isCubic) }
  }

  private static func maySleep(
    _ endpoint: TCPEndpoint, settings: TCPSettings
  ) -> Bool {
    switch endpoint.state {
    case .established, .closeWait, .finWait2, .timeWait, .closed: break
    case .listen, .synReceived, .finWait1, .closing, .lastAck: return false
    }
    return !endpoint.answerDue && !endpoint.challengeDue && !endpoint.keepaliveDue
      && endpoint.timeWaitMilliseconds == TCPEndpoint.milliseconds(settings.timeWait)
      && endpoint.send.isSettled(settings: settings)
  }

  /// The endpoint as it was.
  /// - Parameter settings: as given to `init?`.
  package func woken(settings: TCPSettings) -> TCPEndpoint {
    var settings = settings
    settings.algorithm = marks.contains(.isCubic) ? .cubic : .newReno
    let scales = marks.contains(.peerScales)
    let window = settings.window(scales: scales)

    var send = SendSide(
      initial: unacknowledged, segmentSize: SegmentSize(segmentSize),
      peerScale: scaleAndProbes & 15,
      usesSACK: marks.contains(.permitsSACK), settings: settings)
    send.windowOctets = windowOctets
    send.windowSequence = windowSequence
    send.windowAcknowledgment = unacknowledged
    send.windowMax = windowMax
    send.scoreboard = SACKScoreboard(seenReordering: marks.contains(.seenReordering))
    send.estimator = RTTEstimator(estimator)
    send.congestion = CongestionControl(congestion, algorithm: settings.algorithm)
    send.recovery = LossRecovery(initial: unacknowledged - 1)  // no recovery ends here
    send.notification = CongestionNotification(notification, at: unacknowledged)
    send.lastSentAt = lastSentAt
    send.backoff = backoff
    send.seen = seen
    send.finishQueued = marks.contains(.hasFinished)
    send.finishSent = marks.contains(.hasFinished)

    var endpoint = TCPEndpoint(
      send: send,
      receive: ReceiveSide(
        receive, habits, finishTaken: marks.contains(.finishTaken),
        scale: scales ? TCPEndpoint.windowScale : 0, usual: window.usual, widest: window.widest),
      timeWaitMilliseconds: TCPEndpoint.milliseconds(settings.timeWait),
      keepaliveMilliseconds: keepaliveMilliseconds)
    endpoint.state = state
    endpoint.challengedSeconds = challengedSeconds
    endpoint.challenges = challenges
    endpoint.recentTimestamp = recentTimestamp
    endpoint.recentTimestampSeconds = recentTimestampSeconds
    endpoint.timestampOffset = timestampOffset
    endpoint.wakeAt = wakeAt
    endpoint.peerScales = scales
    endpoint.usesTimestamps = marks.contains(.usesTimestamps)
    endpoint.permitsSACK = marks.contains(.permitsSACK)
    endpoint.finishTaken = marks.contains(.finishTaken)
    endpoint.finishCrosses = marks.contains(.finishCrosses)
    endpoint.keepaliveProbes = scaleAndProbes >> 4
    return endpoint
  }

  /// See `TCPEndpoint.nextDeadline`: nothing else is armed.
  var nextDeadline: MonotonicInstant { wakeAt }
}

extension SendSide {
  /// Whether nothing is on its way, nor due, nor kept that a new sender would not have; what
  /// `DormantEndpoint` keeps aside.
  func isSettled(settings: TCPSettings) -> Bool {
    outstanding == 0 && buffer.octets == 0 && finishQueued == finishSent
      && scoreboard.isEmpty && recovery.isSettled && (usesSACK || recovery.point != unacknowledged)
      && retransmitAt == .distantFuture && reorderAt == .distantFuture
      && windowAcknowledgment == unacknowledged && duplicateAcknowledgments == 0
      && unanswered == 0 && !probeDue
      && bufferMax == settings.sendBufferOctets && bufferMaxFar == settings.sendBufferOctetsMax
  }
}
