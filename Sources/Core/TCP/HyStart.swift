import Primitives
import Wire

// When slow start has gone far enough: HyStart++ (RFC 9406).
//
// A queue that slow start fills shows in the round trips before it shows in losses. Each round, which
// is a window's worth of sequence numbers, has its least round trip; when that has risen by an eighth
// over the last round's, growth goes on at a quarter of the pace (CSS, conservative slow start), and
// after five more rounds congestion avoidance begins. A round trip that falls again shows the rise to
// have been noise: slow start resumes. Used in the first slow start alone, as §4.3 recommends.
//
// Round trips are kept in units of 16 µs, up to a second; beyond that nothing rises any more, and slow
// start ends with a loss.

package struct HyStart: BitwiseCopyable {
  /// MIN_RTT_THRESH and MAX_RTT_THRESH: 4 ms and 16 ms (§4.3).
  static let riseMin: UInt16 = 250
  static let riseMax: UInt16 = 1000
  /// MIN_RTT_DIVISOR, N_RTT_SAMPLE, CSS_GROWTH_DIVISOR, CSS_ROUNDS.
  static let riseDivisor: UInt16 = 8
  static let samplesMin: UInt8 = 8
  package static let growthDivisor = 4
  static let conservativeRounds: UInt8 = 5

  private var roundEnd = SequenceNumber(0)  // windowEnd
  private var lastLeast = UInt16.max  // lastRoundMinRTT
  private var currentLeast = UInt16.max  // currentRoundMinRTT
  private var baseline = UInt16.max  // cssBaselineMinRtt
  private var samples: UInt8 = 0  // rttSampleCount
  private var roundsLeft: UInt8 = 0  // of CSS; 0: standard slow start
  private var hasBegun = false

  package init() {}

  /// Whether the window grows at a quarter of the pace.
  package var isConservative: Bool { roundsLeft > 0 }

  /// Takes an acknowledgement in slow start.
  /// - Returns: whether slow start is over.
  package mutating func heard(
    roundTrip: Interval?, acknowledged: SequenceNumber, next: SequenceNumber
  ) -> Bool {
    if !hasBegun {
      hasBegun = true
      roundEnd = next
    }
    if let roundTrip {
      currentLeast = min(currentLeast, UInt16(clamping: roundTrip.microseconds / 16))
      samples += samples < .max ? 1 : 0
      judge()
    }
    guard roundEnd.precedesOrEquals(acknowledged) else { return false }
    roundEnd = next
    lastLeast = currentLeast
    currentLeast = .max
    samples = 0
    guard isConservative else { return false }
    roundsLeft -= 1
    return roundsLeft == 0
  }

  private mutating func judge() {
    guard samples >= Self.samplesMin else { return }
    if isConservative {
      if currentLeast < baseline { roundsLeft = 0 }
    } else if lastLeast != .max {
      let rise = max(Self.riseMin, min(lastLeast / Self.riseDivisor, Self.riseMax))
      if currentLeast != .max, Int(currentLeast) >= Int(lastLeast) + Int(rise) {
        baseline = currentLeast
        roundsLeft = Self.conservativeRounds  // the rest of this round is the first
      }
    }
  }
}
