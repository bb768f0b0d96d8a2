import Primitives

// Round-trip time and retransmission time-out (RFC 6298), in microseconds.
//
// Deviation: the RTO's lower bound is 200 ms, not the 1 s of §2.4 (a SHOULD), as every deployed
// kernel has it: the path is a TUN device, and a second of silence after a tail loss is what
// users notice. Test: RTTEstimatorTests "the RTO is never below its bound".

package struct RTTEstimator: BitwiseCopyable {
  package static let minimum = Interval.milliseconds(200)
  package static let initial = Interval.seconds(1)
  package static let maximum = Interval.seconds(60)
  /// The clock's granularity G (§2.3), microseconds.
  static let granularity: UInt32 = 1_000

  /// SRTT; 0 before the first measurement.
  package private(set) var smoothed: UInt32 = 0
  /// RTTVAR.
  package private(set) var variation: UInt32 = 0
  /// The least seen; `.max` before the first measurement.
  package private(set) var least: UInt32 = .max

  package init() {}

  /// Takes a measurement of a segment that was sent once (Karn's rule is the caller's).
  package mutating func measured(_ rtt: Interval) {
    let r = UInt32(clamping: max(1, rtt.microseconds))
    least = min(least, r)
    if smoothed == 0 {
      smoothed = r
      variation = r / 2
    } else {
      let difference = smoothed > r ? smoothed - r : r - smoothed
      variation = variation - variation / 4 + difference / 4
      smoothed = max(1, smoothed - smoothed / 8 + r / 8)
    }
  }

  /// RTO before back-off (§2).
  package var timeout: Interval {
    guard smoothed != 0 else { return Self.initial }
    let rto = Interval.microseconds(
      Int(smoothed) + Int(max(Self.granularity, 4 * min(variation, 1 << 28))))
    return max(Self.minimum, min(rto, Self.maximum))
  }

  /// RTO after `times` expiries in a row (§5.5), bounded.
  package func timeout(backedOff times: Int) -> Interval {
    min(timeout * (1 << min(times, 10)), Self.maximum)
  }
}
