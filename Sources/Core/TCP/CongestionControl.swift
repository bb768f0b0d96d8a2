import Primitives
import Wire

// How much may be in flight: slow start and congestion avoidance (RFC 5681), CUBIC (RFC 9438).
//
// Counts octets (appropriate byte counting, RFC 3465): dividing an acknowledgement gains nothing.
// RFC 3465 §2.2 lets one acknowledgement add two segments in slow start, RFC 9406 §4.2 eight for a
// sender that does not pace. Neither fits a sender of super-packets: the client's kernel takes one
// whole, acknowledges it whole, and eight of its forty-five segments would make slow start nearly
// linear. The bound L is there to bound bursts, and our bursts are super-packets anyway: an
// acknowledgement adds at most one of those, 64 KiB. After a time-out it is one segment (RFC 3465
// §2.3), for then an acknowledgement may cover what arrived long before.
//
// Growth happens only while the window is what limits the sender: the caller says. CUBIC's clock
// stands still otherwise (RFC 9438 §5.8). Its windows are counted in segments and seconds, in floating
// point, on acknowledgements in congestion avoidance alone. What a reduction took is remembered, so that a
// needless one can be taken back (§4.9). An ECN mark weighs as much as a loss: RFC 8511 would allow
// less.

package struct CongestionControl: BitwiseCopyable {
  package enum Algorithm: UInt8, Sendable, BitwiseCopyable { case cubic, newReno }

  /// Initial window in segments (RFC 6928).
  package static let initialSegments = 10
  /// What one acknowledgement may add in slow start, octets (L).
  package static let slowStartOctetsMax = 65_536
  /// The largest window, octets.
  private static let windowOctetsMax = UInt32.max / 2

  /// C and β of RFC 9438 §4.6, §5, and α of §4.3.
  private static let cubicC = 0.4
  private static let cubicBeta = 0.7
  private static let cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)

  /// Everything that a reduction changes, and what taking it back restores.
  private struct Growth: BitwiseCopyable {
    var window: UInt32  // cwnd, octets
    var threshold: UInt32 = .max  // ssthresh, octets
    var windowMax: Float = 0  // W_max, segments; 0: to be set when an epoch begins
    var windowPrior: Float = 0  // cwnd_prior, segments
    var epochWindow: Float = 0  // cwnd_epoch, segments; 0: no epoch has begun
    var estimateGrown: Float = 0  // W_est - cwnd_epoch, segments
    var plateau: Float = 0  // K, seconds
    var elapsed: UInt32 = 0  // t, milliseconds
    /// NewReno: octets acknowledged towards the next segment. CUBIC: a fraction of an octet.
    var credit: Float = 0

    mutating func resize(from old: Int, to new: Int) {
      windowMax *= Float(old) / Float(new)
      windowPrior *= Float(old) / Float(new)
      epochWindow = 0
      window = max(window, UInt32(new))
      threshold = max(threshold, UInt32(2 * new))
    }
  }

  private var growth: Growth
  private var before: Growth
  private var hyStart = HyStart()
  /// When CUBIC's clock was last read, milliseconds.
  private var tick: UInt32 = 0
  package let algorithm: Algorithm

  package init(algorithm: Algorithm, segmentOctets: Int) {
    self.algorithm = algorithm
    growth = Growth(window: UInt32(Self.initialSegments * segmentOctets))
    before = growth
  }

  /// What outlasts a silence: an epoch of CUBIC's does not (RFC 9438 §5.8), nor do HyStart++'s rounds.
  struct Settled: BitwiseCopyable {
    fileprivate var window: UInt32
    fileprivate var threshold: UInt32
    fileprivate var windowMax: Float
    fileprivate var windowPrior: Float
  }

  /// nil while the conservative slow start looks whether the path is full.
  var settled: Settled? {
    guard !isConservative else { return nil }
    return Settled(
      window: growth.window, threshold: growth.threshold, windowMax: growth.windowMax,
      windowPrior: growth.windowPrior)
  }

  init(_ settled: Settled, algorithm: Algorithm) {
    self.algorithm = algorithm
    growth = Growth(
      window: settled.window, threshold: settled.threshold, windowMax: settled.windowMax,
      windowPrior: settled.windowPrior)
    before = growth
  }

  /// cwnd, octets.
  package var window: UInt32 { growth.window }
  /// ssthresh, octets.
  package var threshold: UInt32 { growth.threshold }
  package var isInSlowStart: Bool { growth.window < growth.threshold }
  /// HyStart++'s conservative slow start.
  package var isConservative: Bool { isInSlowStart && hyStart.isConservative }

  // MARK: Growth

  /// An acknowledgement came: looks for the end of the first slow start.
  package mutating func heard(
    roundTrip: Interval?, acknowledged: SequenceNumber, next: SequenceNumber
  ) {
    guard growth.threshold == .max else { return }
    if hyStart.heard(roundTrip: roundTrip, acknowledged: acknowledged, next: next) {
      growth.threshold = growth.window
    }
  }

  /// New data was acknowledged while the window was the limit.
  /// - Parameter afterTimeout: what the retransmission timer found is not all acknowledged yet.
  package mutating func acknowledged(
    _ octets: Int, segmentOctets: Int, smoothedRTT: UInt32, afterTimeout: Bool = false,
    at now: MonotonicInstant
  ) {
    var octets = octets
    if isInSlowStart {
      let most = afterTimeout ? segmentOctets : max(Self.slowStartOctetsMax, 8 * segmentOctets)
      var added = min(octets, most)
      if hyStart.isConservative { added /= HyStart.growthDivisor }
      let grown = min(Int(growth.threshold), Int(growth.window) + added)
      octets = grown == Int(growth.threshold) ? octets - (grown - Int(growth.window)) : 0
      growth.window = min(UInt32(grown), Self.windowOctetsMax)
      if octets <= 0 { return }
    }
    switch algorithm {
    case .newReno: growLinearly(octets, segmentOctets: segmentOctets)
    case .cubic:
      growCubically(octets, segmentOctets: segmentOctets, smoothedRTT: smoothedRTT, at: now)
    }
    growth.window = min(growth.window, Self.windowOctetsMax)
  }

  /// The sender had less to say than the window allows, or nothing in flight: this time does not count
  /// (RFC 9438 §4.2, §5.8).
  package mutating func applicationLimited(at now: MonotonicInstant) {
    tick = Self.milliseconds(now)
  }

  /// A segment for each window's worth of acknowledged octets (RFC 5681 §3.1, RFC 3465 §2.1).
  private mutating func growLinearly(_ octets: Int, segmentOctets: Int) {
    let window = Float(growth.window)
    growth.credit += Float(octets)
    guard growth.credit >= window else { return }
    growth.credit = min(growth.credit - window, window)
    growth.window += UInt32(segmentOctets)
  }

  private mutating func growCubically(
    _ octets: Int, segmentOctets: Int, smoothedRTT: UInt32, at now: MonotonicInstant
  ) {
    let mss = Double(segmentOctets)
    let window = Double(growth.window) / mss
    // no more than a window's worth arrives within a round trip
    let share = min(1, Double(octets) / Double(growth.window))
    let milliseconds = Self.milliseconds(now)
    if growth.epochWindow == 0 {
      beginEpoch(window)
    } else {
      growth.elapsed &+= milliseconds &- tick
    }
    tick = milliseconds

    let windowMax = Double(growth.windowMax)
    let t = Double(growth.elapsed) / 1_000
    func cubic(_ t: Double) -> Double {
      let distance = t - Double(growth.plateau)
      return Self.cubicC * distance * distance * distance + windowMax
    }
    // §4.3: what Reno would have
    var estimate = Double(growth.epochWindow) + Double(growth.estimateGrown)
    let alpha = estimate >= Double(growth.windowPrior) ? 1 : Self.cubicAlpha
    growth.estimateGrown += Float(alpha * share)
    estimate += alpha * share
    // §4.2: the window that a round trip from now should find
    let target = max(window, min(cubic(t + Double(smoothedRTT) / 1_000_000), 1.5 * window))
    let grown = cubic(t) < estimate ? max(0, estimate - window) : (target - window) * share
    let credit = Double(growth.credit) + grown * mss
    let whole = min(credit, Double(Self.windowOctetsMax)).rounded(.down)
    growth.credit = Float(credit - whole)
    growth.window += UInt32(whole)
  }

  /// Congestion avoidance begins (§4.2); without a W_max, from a plateau (§4.8, §4.10).
  private mutating func beginEpoch(_ window: Double) {
    growth.epochWindow = Float(window)
    growth.estimateGrown = 0
    growth.elapsed = 0
    growth.credit = 0
    if growth.windowMax <= growth.epochWindow {
      growth.windowMax = growth.epochWindow
      growth.plateau = 0
    } else {
      growth.plateau = Float(cubeRoot((Double(growth.windowMax) - window) / Self.cubicC))
    }
  }

  // MARK: Reduction

  /// Loss was found by acknowledgements, or the network has marked a packet (RFC 3168 §6.1.2):
  /// multiplicative decrease, once a window.
  package mutating func lost(flightOctets: Int, segmentOctets: Int) {
    before = growth
    let least = 2 * segmentOctets
    // What was sent beyond the window by limited transmit does not count (RFC 5681 §3.2).
    let flight = min(Int(growth.window), flightOctets)
    let segments = Float(growth.window) / Float(segmentOctets)
    growth.epochWindow = 0
    growth.credit = 0
    growth.windowPrior = segments
    switch algorithm {
    case .newReno: growth.threshold = UInt32(clamping: max(flight / 2, least))
    case .cubic:
      // fast convergence, §4.7
      growth.windowMax =
        segments < growth.windowMax ? segments * Float(1 + Self.cubicBeta) / 2 : segments
      growth.threshold = UInt32(max(flight * 7 / 10, least))  // β, whole octets
    }
    growth.window = growth.threshold
  }

  /// Fast recovery sends as much as this much in flight allows, for now (RFC 9937).
  package mutating func pace(windowOctets: Int) {
    growth.window = min(UInt32(clamping: windowOctets), Self.windowOctetsMax)
  }

  /// Fast recovery is over: on from the threshold.
  package mutating func endRecovery() { growth.window = growth.threshold }

  /// The retransmission timer expired (RFC 5681 §3.1, equation 4; RFC 9438 §4.8).
  package mutating func timedOut(flightOctets: Int, segmentOctets: Int) {
    lost(flightOctets: flightOctets, segmentOctets: segmentOctets)
    growth.windowMax = 0
    growth.window = UInt32(segmentOctets)
  }

  /// The timer expired once more in the same window: the threshold stays, the window is one segment again
  /// (RFC 5681 §3.1), however many have been acknowledged in between.
  package mutating func timedOutAgain(segmentOctets: Int) {
    growth.window = min(growth.window, UInt32(segmentOctets))
  }

  /// The last reduction by loss was needless (RFC 9438 §4.9.2).
  package mutating func restore() {
    let reduced = growth
    growth = before
    growth.window = max(growth.window, reduced.window)
    growth.threshold = max(growth.threshold, reduced.threshold)
  }

  /// The last time-out was needless: what is in flight, and what its acknowledgement lets out, but no
  /// burst (RFC 4015 §4); slow start leads back to the old window.
  package mutating func restoreAfterTimeout(
    flightOctets: Int, acknowledgedOctets: Int, segmentOctets: Int
  ) {
    restore()
    let window = min(
      Int(growth.window),
      flightOctets + min(acknowledgedOctets, Self.initialSegments * segmentOctets))
    growth.threshold = max(growth.threshold, growth.window)
    growth.window = UInt32(max(window, segmentOctets))
  }

  /// The SYN-ACK had to be sent again by the timer: one segment to begin with (RFC 5681 §3.1).
  package mutating func handshakeTimedOut(segmentOctets: Int) {
    growth.window = UInt32(segmentOctets)
  }

  /// The sender was idle for longer than an RTO (RFC 5681 §4.1).
  package mutating func restarted(segmentOctets: Int) {
    growth.window = min(growth.window, UInt32(Self.initialSegments * segmentOctets))
    growth.epochWindow = 0
  }

  // MARK: Numbers

  private static func milliseconds(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000)
  }

  /// The path takes segments of another size: what is counted in segments is told in the new ones, and
  /// CUBIC's epoch begins anew. The window holds one segment at least.
  package mutating func segmentSizeChanged(from old: Int, to new: Int) {
    growth.resize(from: old, to: new)
    before.resize(from: old, to: new)
  }

  /// ∛x for x ≥ 0 by Newton's method: Core has no libm.
  private func cubeRoot(_ x: Double) -> Double {
    guard x > 0 else { return 0 }
    var root = Double(sign: .plus, exponent: x.exponent / 3, significand: 1)
    for _ in 0..<7 { root = (2 * root + x / (root * root)) / 3 }
    return root
  }
}
