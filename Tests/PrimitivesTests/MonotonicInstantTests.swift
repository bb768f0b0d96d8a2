// Instants and intervals: arithmetic that saturates instead of trapping.

import Primitives
import Testing

@Suite("Monotonic instant") struct MonotonicInstantTests {
  @Test("adding and subtracting agree") func arithmetic() {
    let instant = MonotonicInstant(nanoseconds: 1_000)
    #expect((instant + .microseconds(2)).nanoseconds == 3_000)
    #expect((instant + Interval(nanoseconds: -400)).nanoseconds == 600)
    #expect((instant + .seconds(1)) - instant == .seconds(1))
    #expect(instant - (instant + .seconds(1)) == Interval(nanoseconds: -1_000_000_000))
  }

  @Test("instants end at both ends of time") func saturates() {
    #expect(MonotonicInstant.distantFuture + .seconds(1) == .distantFuture)
    #expect(MonotonicInstant.zero + Interval(nanoseconds: -1) == .zero)
    #expect(MonotonicInstant.zero + Interval(nanoseconds: .min) == .zero)
  }

  @Test("intervals saturate when they are scaled, added or multiplied") func intervals() {
    #expect(Interval.seconds(.max).nanoseconds == .max)
    #expect(Interval.seconds(.min).nanoseconds == .min)
    #expect((Interval.seconds(.max) + .seconds(1)).nanoseconds == .max)
    #expect((Interval.seconds(.min) + Interval(nanoseconds: -1)).nanoseconds == .min)
    #expect((Interval.seconds(.max) * 2).nanoseconds == .max)
    #expect((Interval.seconds(.max) * -2).nanoseconds == .min)
    #expect(Interval.milliseconds(3) * 4 == .microseconds(12_000))
  }

  @Test("parts are whole and rounded towards zero") func parts() {
    #expect(Interval(nanoseconds: 1_999_999).milliseconds == 1)
    #expect(Interval(nanoseconds: -1_999).microseconds == -1)
  }
}
