// A token bucket in two numbers: for ICMP errors (RFC 4443 §2.4(f), RFC 1812 §4.3.2.8).
//
// Kept as the time at which the bucket will be full: taking a token moves it by one token's worth,
// and a bucket that would be empty is one whose fullness lies too far ahead. No refilling, no
// rounding.

package struct TokenBucket: Sendable, BitwiseCopyable {
  private let tokenTime: Interval
  private let bucketTime: Interval
  private var fullAt = MonotonicInstant.zero

  /// - Parameters:
  ///   - perSecond: tokens a second in the long run, 1...10⁹.
  ///   - burst: tokens that a rested bucket holds, at least 1.
  package init(perSecond: Int, burst: Int) {
    precondition(1...1_000_000_000 ~= perSecond && burst >= 1, "rate")
    tokenTime = Interval(nanoseconds: Int64(1_000_000_000 / perSecond))
    bucketTime = tokenTime * burst
  }

  /// Takes a token; false when there is none.
  package mutating func take(at now: MonotonicInstant) -> Bool {
    let next = max(fullAt, now) + tokenTime
    guard next - now <= bucketTime else { return false }
    fullAt = next
    return true
  }
}
