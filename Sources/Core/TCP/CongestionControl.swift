import Primitives

// How much may be in flight: slow start and congestion avoidance (RFC 5681), CUBIC (RFC 9438).
//
// Counts octets, appropriate byte counting (RFC 3465) with no per-ACK limit in slow start: a
// client behind the TUN acknowledges a whole 64 KiB segmentation-offload packet at once. Growth
// happens only while the window is what limits the sender (RFC 7661 in spirit): the caller says.
// CUBIC's window is computed in units of MSS and seconds in floating point, on ACKs in congestion
// avoidance alone.

package struct CongestionControl: BitwiseCopyable {
  package enum Algorithm: UInt8, Sendable, BitwiseCopyable { case cubic, newReno }

  /// Initial window in segments (RFC 6928).
  package static let initialSegments = 10

  package let algorithm: Algorithm
  /// cwnd, octets.
  package private(set) var window: UInt32
  /// ssthresh, octets.
  package private(set) var threshold: UInt32 = .max
  private var windowMax: Float = 0  // W_max, segments
  private var windowEstimate: Float = 0  // W_est, segments
  private var plateau: Float = 0  // K, seconds
  private var epochStart: UInt32 = 0  // milliseconds; 0: no epoch
  private var epochWindow: Float = 0  // cwnd_epoch, segments

  package init(algorithm: Algorithm, segmentOctets: Int) {
    self.algorithm = algorithm
    window = UInt32(Self.initialSegments * segmentOctets)
  }

  /// C and β of RFC 9438 §4.6, §5.
  private static let cubicC: Float = 0.4
  private static let cubicBeta: Float = 0.7

  /// New data was acknowledged while the window was the limit.
  package mutating func acknowledged(
    _ octets: Int, segmentOctets: Int, smoothedRTT: UInt32, at now: MonotonicInstant
  ) {
    var octets = octets
    if window < threshold {
      let grown = min(UInt64(threshold), UInt64(window) + UInt64(octets))
      octets -= Int(grown - UInt64(window))
      window = UInt32(min(grown, UInt64(UInt32.max / 2)))
      if octets == 0 { return }
    }
    let mss = Float(segmentOctets)
    let segments = Float(window) / mss
    let acked = Float(octets) / mss
    switch algorithm {
    case .newReno:
      window = UInt32(clamping: Int((segments + acked / segments) * mss))
    case .cubic:
      let milliseconds = UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000) | 1
      if epochStart == 0 {
        epochStart = milliseconds
        epochWindow = segments
        windowEstimate = segments
        if windowMax <= segments {
          windowMax = segments
          plateau = 0
        } else {
          plateau = cubeRoot((windowMax - segments) / Self.cubicC)
        }
      }
      let t = Float(milliseconds &- epochStart) / 1_000
      let rtt = Float(smoothedRTT) / 1_000_000
      let d = t + rtt - plateau
      var target = Self.cubicC * d * d * d + windowMax
      target = max(segments, min(target, 1.5 * segments))
      // α_cubic of §4.3, 1 once the window of the epoch's start is regained
      let alpha: Float =
        windowEstimate >= windowMax ? 1 : 3 * (1 - Self.cubicBeta) / (1 + Self.cubicBeta)
      windowEstimate += alpha * acked / segments
      let next = max(segments + (target - segments) / segments * acked, windowEstimate)
      window = UInt32(clamping: Int(next * mss))
    }
    window = min(window, UInt32.max / 2)
  }

  /// Loss was found by acknowledgements: multiplicative decrease, once a window.
  package mutating func lost(flightOctets: Int, segmentOctets: Int) {
    let mss = Float(segmentOctets)
    let segments = Float(window) / mss
    epochStart = 0
    switch algorithm {
    case .newReno:
      threshold = UInt32(clamping: max(flightOctets / 2, 2 * segmentOctets))
    case .cubic:
      // fast convergence, §4.7
      windowMax = segments < windowMax ? segments * (1 + Self.cubicBeta) / 2 : segments
      let base = min(segments, max(Float(flightOctets) / mss, 2))
      threshold = UInt32(clamping: max(Int(base * Self.cubicBeta * mss), 2 * segmentOctets))
    }
    window = threshold
  }

  /// Fast recovery sends as much as this much in flight allows, for now (RFC 9937): the pipe and
  /// what was delivered, never more than the threshold by more than a burst.
  package mutating func pace(windowOctets: Int) { window = UInt32(clamping: windowOctets) }

  /// Fast recovery is over: on from the threshold.
  package mutating func endRecovery() { window = threshold }

  /// The retransmission timer expired (RFC 5681 §3.1, equation 4; RFC 9438 §4.8).
  package mutating func timedOut(flightOctets: Int, segmentOctets: Int) {
    lost(flightOctets: flightOctets, segmentOctets: segmentOctets)
    window = UInt32(segmentOctets)
  }

  /// The SYN-ACK had to be sent again by the timer: one segment to begin with (RFC 5681 §3.1).
  package mutating func handshakeTimedOut(segmentOctets: Int) {
    window = UInt32(segmentOctets)
  }

  /// The sender was idle for longer than an RTO (RFC 5681 §4.1).
  package mutating func restarted(segmentOctets: Int) {
    window = min(window, UInt32(Self.initialSegments * segmentOctets))
    epochStart = 0
  }

  /// The path takes segments of another size: what is counted in segments is told in the new ones, and
  /// CUBIC's epoch begins anew. The window holds one segment at least.
  package mutating func segmentSizeChanged(from old: Int, to new: Int) {
    windowMax *= Float(old) / Float(new)
    epochStart = 0
    window = max(window, UInt32(new))
    threshold = max(threshold, UInt32(2 * new))
  }

  /// ∛x for x ≥ 0 by Newton's method: Core has no libm.
  private func cubeRoot(_ x: Float) -> Float {
    guard x > 0 else { return 0 }
    var root = Float(sign: .plus, exponent: x.exponent / 3, significand: 1)
    for _ in 0..<6 { root = (2 * root + x / (root * root)) / 3 }
    return root
  }
}
