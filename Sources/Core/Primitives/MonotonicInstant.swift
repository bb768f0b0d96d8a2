// Time, as everything in Core knows it: a number that somebody passes in.
//
// Core reads no clock. A worker reads CLOCK_MONOTONIC once a turn, a test advances a counter, and
// both hand over a `MonotonicInstant`. Intervals are 64-bit nanoseconds and not
// `Swift.Duration`, whose 128-bit attoseconds need a wide division on every conversion.

/// A point on a clock that never runs backwards; nanoseconds since an origin that only the
/// owner of the clock knows.
@usableFromInline package struct MonotonicInstant: Hashable, Comparable, Sendable, BitwiseCopyable {
  @usableFromInline package var nanoseconds: UInt64

  @inlinable package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// Later than every instant that is reached.
  @inlinable package static var distantFuture: Self { Self(nanoseconds: .max) }
  @inlinable package static var zero: Self { Self(nanoseconds: 0) }

  @inlinable package static func == (a: Self, b: Self) -> Bool { a.nanoseconds == b.nanoseconds }
  @inlinable package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

  /// Saturates: an interval that leads past the end of time leads to the end of time.
  @inlinable package static func + (instant: Self, interval: Interval) -> Self {
    if interval.nanoseconds >= 0 {
      let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(
        UInt64(truncatingIfNeeded: interval.nanoseconds))
      return Self(nanoseconds: overflow ? .max : sum)
    }
    let (difference, overflow) = instant.nanoseconds.subtractingReportingOverflow(
      interval.nanoseconds.magnitude)
    return Self(nanoseconds: overflow ? 0 : difference)
  }

  /// The time from `earlier` to `later`, negative when they are the other way round.
  @inlinable package static func - (later: Self, earlier: Self) -> Interval {
    Interval(nanoseconds: Int64(truncatingIfNeeded: later.nanoseconds &- earlier.nanoseconds))
  }
}

/// A length of time in nanoseconds.
@usableFromInline package struct Interval: Hashable, Comparable, Sendable, BitwiseCopyable {
  @usableFromInline package var nanoseconds: Int64

  @inlinable package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  @inlinable package static var zero: Self { Self(nanoseconds: 0) }

  @inlinable package static func microseconds(_ n: Int) -> Self { scaled(n, 1_000) }
  @inlinable package static func milliseconds(_ n: Int) -> Self { scaled(n, 1_000_000) }
  @inlinable package static func seconds(_ n: Int) -> Self { scaled(n, 1_000_000_000) }

  @inlinable static func scaled(_ n: Int, _ factor: Int) -> Self {
    let (product, overflow) = n.multipliedReportingOverflow(by: factor)
    return Self(nanoseconds: Int64(overflow ? (n < 0 ? .min : .max) : product))
  }

  /// Whole microseconds, rounded towards zero.
  @inlinable package var microseconds: Int { Int(nanoseconds / 1_000) }
  /// Whole milliseconds, rounded towards zero.
  @inlinable package var milliseconds: Int { Int(nanoseconds / 1_000_000) }

  @inlinable package static func == (a: Self, b: Self) -> Bool { a.nanoseconds == b.nanoseconds }
  @inlinable package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
  @inlinable package static func + (a: Self, b: Self) -> Self {
    let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.nanoseconds)
    return Self(nanoseconds: overflow ? (a.nanoseconds < 0 ? .min : .max) : sum)
  }
  @inlinable package static func * (a: Self, factor: Int) -> Self {
    let (product, overflow) = a.nanoseconds.multipliedReportingOverflow(by: Int64(factor))
    return Self(
      nanoseconds: overflow ? ((a.nanoseconds < 0) != (factor < 0) ? .min : .max) : product)
  }
}
