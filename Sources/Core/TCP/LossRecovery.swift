import Primitives
import Wire

// What an endpoint does about loss: when data is taken for lost, how fast it is mended, and how a
// silent tail is made to speak.
//
// Loss is found by time, as RACK does (RFC 8985 §6): what was sent a reordering window before
// something that has arrived is lost. The window is nothing until the path is seen to reorder, then
// a share of the least round trip that grows as D-SACK shows retransmissions to have been
// needless. Recovery is paced by PRR (RFC 9937): what may be sent follows what is delivered. A tail
// that nothing follows is probed after two round trips (TLP, RFC 8985 §7), long before the
// retransmission timer; if the probe turns out to have mended a loss, the window is reduced as for
// any other. Peers without SACK get NewReno (RFC 6582), and everyone the timer (RFC 6298).
//
// A retransmission may have been needless. Two things prove it: the first acknowledgement after it
// echoes a timestamp from before it (Eifel, RFC 3522), or all that was sent again is told by D-SACK to
// have arrived twice (RFC 3708). Then the reduction is taken back (RFC 4015, RFC 9438 §4.9).

package struct LossRecovery: BitwiseCopyable {
  package enum State: UInt8, Sendable, BitwiseCopyable { case none, fast, timeout }

  /// Added to two round trips before a tail is probed: what timers and schedulers need.
  static let tailProbeSlack = Interval.milliseconds(2)
  /// New data that a tail is probed with, which may exceed the congestion window by it. RFC 8985 §7.3
  /// has one segment; but if all had arrived, and only the acknowledgement was lost, a lone segment
  /// waits for the peer's delayed acknowledgement (40 ms and more), and a second one does not (RFC 1122
  /// §4.2.3.2). Limited transmit allows as many (RFC 3042).
  static let tailProbeSegments: UInt8 = 2
  /// A lone segment may be waiting for the peer's delayed acknowledgement (RFC 8985 §7.2).
  static let delayedAcknowledgment = Interval.milliseconds(200)
  /// Recoveries for which a widened reordering window is kept (RFC 8985 §6.2, step 4).
  static let reorderingPersistence: UInt8 = 16

  package private(set) var state = State.none
  /// recover (RFC 6582 §3.2): the end of what was in flight when recovery began; SND.NXT then.
  private(set) var point: SequenceNumber
  /// Without SACK, the timer is moved by the first partial acknowledgement only (RFC 6582 §3.2).
  private var partialWasHeard = false

  // PRR (RFC 9937 §5.1)
  private var deliveredOctets: UInt32 = 0
  private var sentOctets: UInt32 = 0
  private var flightOctets: UInt32 = 0  // RecoverFS

  // RACK's reordering window (RFC 8985 §6.2)
  private var windowFactor: UInt8 = 1  // RACK.reo_wnd_mult
  private var windowPersists: UInt8 = 0  // RACK.reo_wnd_persist
  private var widenedUntil = SequenceNumber(0)  // RACK.dsack_round
  private var hasWidened = false

  // TLP (RFC 8985 §7)
  var tailProbeAt = MonotonicInstant.distantFuture
  private(set) var tailProbeEnd = SequenceNumber(0)  // TLP.end_seq
  private(set) var tailProbeIsOut = false
  private(set) var tailProbeIsRetransmission = false  // TLP.is_retrans
  /// Outstanding when the last new data had gone out, and the same of the tail that is probed: FlightSize
  /// when it was lost (RFC 5681 §3.1). By the time that is known most of it is acknowledged.
  private var lastFlightOctets: UInt32 = 0
  private var probedFlightOctets: UInt32 = 0
  var tailProbeFlightOctets: Int { Int(probedFlightOctets) }
  /// Segments that the probe may still take.
  private var tailProbeSegmentsDue: UInt8 = 0
  var tailProbeDue: Bool { tailProbeSegmentsDue > 0 }

  // Doubt about a retransmission
  private enum Doubt: UInt8, BitwiseCopyable {
    case none
    /// The window is reduced; nothing was sent again yet.
    case reduced
    /// Sent again, and nothing acknowledged since.
    case sentAgain
    /// Acknowledged: D-SACK alone can tell.
    case acknowledged
  }
  private var doubt = Doubt.none
  private(set) var reducedByTimeout = false
  private var doubtStart = SequenceNumber(0)  // SND.UNA when the window was reduced
  private var doubtOctets: UInt32 = 0  // sent again, and not told to be needless
  private var doubtStamp: UInt32 = 0  // of the first retransmission (RetransmitTS)

  /// - Parameter initial: ISS.
  init(initial: SequenceNumber) { point = initial }

  /// Whether nothing is kept that `init(initial:)` would not make, for a connection with nothing in flight;
  /// flights are noted anew with what is sent next.
  var isSettled: Bool {
    state == .none && doubt == .none && windowFactor == 1 && windowPersists == 0 && !hasWidened
      && tailProbeAt == .distantFuture && !tailProbeIsOut && !tailProbeDue
  }

  var isActive: Bool { state != .none }
  /// Whether the first lost piece goes out whatever the pipe holds: once, on entering (PRR: "force a
  /// fast retransmit upon entering recovery").
  var mayForce: Bool { state == .fast && sentOctets == 0 }

  // MARK: Recovery

  /// - Parameter reduced: SND.UNA, when the window was reduced for this.
  mutating func enter(
    _ state: State, upTo point: SequenceNumber, flightOctets: Int, reduced: SequenceNumber?
  ) {
    self.state = state
    self.point = point
    partialWasHeard = false
    if let reduced {
      doubt = .reduced
      reducedByTimeout = state == .timeout
      doubtStart = reduced
      doubtOctets = 0
    }
    self.flightOctets = UInt32(clamping: max(1, flightOctets))
    deliveredOctets = 0
    sentOctets = 0
    cancelTailProbe()
  }

  mutating func leave() {
    state = .none
    if windowPersists > 0 {
      windowPersists -= 1
      if windowPersists == 0 { windowFactor = 1 }
    }
  }

  /// Whether this is the first partial acknowledgement of the recovery.
  mutating func partialArrives() -> Bool {
    defer { partialWasHeard = true }
    return !partialWasHeard
  }

  mutating func sent(_ octets: Int) {
    if state == .fast { sentOctets &+= UInt32(clamping: octets) }
  }

  /// - Parameter flightOctets: outstanding then.
  mutating func sentNew(_ octets: Int, flightOctets: Int) {
    sent(octets)
    lastFlightOctets = UInt32(clamping: flightOctets)
  }

  /// - Parameter stamp: what a timestamp sent now says.
  mutating func sentAgain(_ octets: Int, stamp: UInt32) {
    sent(octets)
    guard doubt != .none else { return }
    doubtOctets &+= UInt32(clamping: octets)
    if doubt == .reduced {
      doubt = .sentAgain
      doubtStamp = stamp
    }
  }

  // MARK: Doubt

  /// Whether an acknowledgement proves that everything sent again was needless.
  /// - Parameter echo: the timestamp it echoes.
  mutating func isDisproved(
    echo: UInt32?, madeProgress: Bool, duplicate: SACKBlock?
  ) -> Bool {
    if madeProgress, doubt == .sentAgain {
      if let echo, Int32(bitPattern: echo &- doubtStamp) < 0 { return true }
      doubt = .acknowledged
    }
    guard let duplicate, doubt == .sentAgain || doubt == .acknowledged,
      doubtStart.precedesOrEquals(duplicate.start), duplicate.end.precedesOrEquals(point)
    else { return false }
    let octets = duplicate.end.distance(from: duplicate.start)
    doubtOctets -= min(doubtOctets, UInt32(clamping: octets))
    return doubtOctets == 0
  }

  /// The matter is settled: taken back, or the window was reduced for another reason.
  mutating func settleDoubt() { doubt = .none }

  /// How much may be sent now, in fast recovery (RFC 9937 §5.2), given what was delivered since the
  /// last time.
  /// - Parameter isSafe: SafeACK: progress was made, and no further loss was found.
  mutating func allowance(
    delivered: Int, pipe: Int, thresholdOctets: Int, segmentOctets: Int, isSafe: Bool
  ) -> Int {
    deliveredOctets &+= UInt32(clamping: delivered)
    let owed = Int(deliveredOctets) - Int(sentOctets)
    var allowed: Int
    if pipe > thresholdOctets {
      let share =
        (Int(deliveredOctets) * thresholdOctets + Int(flightOctets) - 1) / Int(flightOctets)
      allowed = share - Int(sentOctets)
    } else {
      // slow start back to the threshold while nothing more is lost, else conservation of packets
      let limit = max(owed, delivered) + (isSafe ? segmentOctets : 0)
      allowed = min(thresholdOctets - pipe, limit)
    }
    if sentOctets == 0 { allowed = max(allowed, segmentOctets) }
    return max(0, allowed)
  }

  // MARK: Reordering

  /// How long something may be late before it is lost.
  func reorderingWindow(
    seenReordering: Bool, arrivedOctets: Int, segmentOctets: Int, estimator: RTTEstimator
  ) -> Interval {
    if !seenReordering, isActive || arrivedOctets >= 3 * segmentOctets { return .zero }
    guard estimator.least != .max else { return .zero }
    let window = Int(estimator.least) / 4 * Int(windowFactor)
    return .microseconds(min(window, Int(estimator.smoothed)))
  }

  /// An acknowledgement came, with a D-SACK or without.
  mutating func heard(
    duplicate: SACKBlock?, acknowledged: SequenceNumber, outstanding: Int
  ) {
    if hasWidened, widenedUntil.precedesOrEquals(acknowledged) { hasWidened = false }
    guard duplicate != nil, !hasWidened else { return }
    hasWidened = true
    widenedUntil = acknowledged + outstanding
    windowFactor = windowFactor < 64 ? windowFactor + 1 : 64
    windowPersists = Self.reorderingPersistence
  }

  // MARK: Tail probes

  /// When to probe a tail sent or acknowledged now, unless the retransmission timer comes first.
  static func tailProbeDelay(estimator: RTTEstimator, isLoneSegment: Bool) -> Interval? {
    guard estimator.smoothed != 0 else { return nil }
    let delay = Interval.microseconds(2 * Int(estimator.smoothed)) + tailProbeSlack
    return isLoneSegment ? delay + delayedAcknowledgment : delay
  }

  mutating func askForTailProbe() {
    tailProbeAt = .distantFuture
    tailProbeSegmentsDue = Self.tailProbeSegments
  }

  /// New data that the probe may take, octets.
  func tailProbeOctets(segmentOctets: Int) -> Int { Int(tailProbeSegmentsDue) * segmentOctets }

  /// - Parameter segmentsLeft: that the probe may take besides, of new data that there is.
  mutating func tailProbeSent(
    upTo end: SequenceNumber, isRetransmission: Bool, segmentsLeft: Int = 0
  ) {
    tailProbeSegmentsDue = UInt8(clamping: segmentsLeft)
    tailProbeIsOut = true
    tailProbeEnd = end
    tailProbeIsRetransmission = isRetransmission
    probedFlightOctets = lastFlightOctets
  }

  /// Something was acknowledged: the tail is not silent.
  mutating func disarmTailProbe() {
    tailProbeAt = .distantFuture
    tailProbeSegmentsDue = 0
  }

  mutating func tailProbeEnded() { tailProbeIsOut = false }

  mutating func cancelTailProbe() {
    disarmTailProbe()
    tailProbeIsOut = false
  }
}
