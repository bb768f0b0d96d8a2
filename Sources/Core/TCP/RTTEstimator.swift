import Primitives

// Round-trip time and retransmission time-out (RFC 6298), in microseconds.
//
// Deviation: the RTO's lower bound is 200 ms, not the 1 s of §2.4 (a SHOULD), as every deployed
// kernel has it: the path is a TUN device, and a second of silence after a tail loss is what
// users notice. Test: RTTEstimatorTests "the RTO is never below its bound".
//
// Where many samples come in a round trip, each counts for less, so that the memory stays as long as
// RFC 6298 meant it (RFC 7323, appendix G). Kept in 64ths of a microsecond, or such small shares of
// a small difference would be lost.

package struct RTTEstimator: BitwiseCopyable {
  package static let minimum = Interval.milliseconds(200)
  package static let initial = Interval.seconds(1)
  /// Before a measurement, when the handshake had to be repeated (§5.7).
  package static let initialAfterLoss = Interval.seconds(3)
  package static let maximum = Interval.seconds(60)
  /// The clock's granularity G (§2.3), microseconds.
  static let granularity: UInt32 = 1_000
  private static let scale = 64

  private var smoothedScaled: UInt32 = 0
  private var variationScaled: UInt32 = 0
  /// The least seen; `.max` before the first measurement.
  package private(set) var least: UInt32 = .max
  private var handshakeWasLost = false

  package init() {}

  /// Three numbers; of a handshake's loss nothing is left once there is a measurement.
  struct Settled: BitwiseCopyable {
    fileprivate var smoothedScaled: UInt32
    fileprivate var variationScaled: UInt32
    fileprivate var least: UInt32
  }

  /// nil before the first measurement.
  var settled: Settled? {
    guard smoothedScaled != 0 else { return nil }
    return Settled(
      smoothedScaled: smoothedScaled, variationScaled: variationScaled, least: least)
  }

  init(_ settled: Settled) {
    smoothedScaled = settled.smoothedScaled
    variationScaled = settled.variationScaled
    least = settled.least
  }

  /// SRTT, microseconds; 0 before the first measurement.
  package var smoothed: UInt32 { smoothedScaled / UInt32(Self.scale) }
  /// RTTVAR, microseconds.
  package var variation: UInt32 { variationScaled / UInt32(Self.scale) }

  /// Takes a measurement of a segment that was sent once, or that a timestamp tells apart (Karn's rule
  /// is the caller's).
  /// - Parameters:
  ///   - expectedSamples: in a round trip, of the same kind.
  ///   - isExact: not by a timestamp's coarse clock, and so a candidate for the least.
  package mutating func measured(
    _ rtt: Interval, expectedSamples: Int = 1, isExact: Bool = true
  ) {
    let microseconds = max(1, min(rtt.microseconds, Self.maximum.microseconds))
    if isExact { least = min(least, UInt32(microseconds)) }
    let sample = microseconds * Self.scale
    guard smoothedScaled != 0 else {
      smoothedScaled = UInt32(sample)
      variationScaled = UInt32(sample / 2)
      return
    }
    let samples = max(1, min(expectedSamples, 1 << 16))
    let smoothed = Int(smoothedScaled)
    let variation = Int(variationScaled)
    let difference = abs(smoothed - sample)
    variationScaled = UInt32(variation + (difference - variation) / (4 * samples))
    smoothedScaled = UInt32(smoothed + (sample - smoothed) / (8 * samples))
  }

  /// The SYN-ACK was sent again.
  mutating func handshakeTimedOut() { handshakeWasLost = true }

  /// RTO before back-off (§2).
  package var timeout: Interval {
    guard smoothedScaled != 0 else {
      return handshakeWasLost ? Self.initialAfterLoss : Self.initial
    }
    let rto = Interval.microseconds(
      Int(smoothed) + max(Int(Self.granularity), 4 * Int(variation)))
    return max(Self.minimum, min(rto, Self.maximum))
  }

  /// RTO after `times` expiries in a row (§5.5), bounded.
  package func timeout(backedOff times: Int) -> Interval {
    min(timeout * (1 << min(times, 10)), Self.maximum)
  }
}
