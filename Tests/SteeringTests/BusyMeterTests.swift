import Primitives
import Steering
import Testing

// Of each period the meter tells how much was not slept, whatever its end came by.

@Suite("How busy a worker is") struct BusyMeterTests {
  private static let start = MonotonicInstant(nanoseconds: 7_000_000_000)

  @Test(
    "what was not slept counts, rounded",
    arguments: [(0, 16), (50, 0), (25, 8), (49, 0), (48, 1), (47, 1), (3, 15), (1, 16)])
  func counts(_ asleep: Int, _ weight: Int) {
    var meter = BusyMeter(at: Self.start)
    for _ in 0..<asleep { meter.slept(for: .milliseconds(1)) }
    #expect(meter.take(at: Self.start + .milliseconds(49)) == nil)
    #expect(meter.endsAt == Self.start + BusyMeter.period)
    #expect(meter.take(at: meter.endsAt) == weight)
  }

  @Test("a period begins where the one before was taken, with nothing slept")
  func beginsAnew() {
    var meter = BusyMeter(at: Self.start)
    meter.slept(for: .milliseconds(50))
    #expect(meter.take(at: Self.start + .milliseconds(60)) == 3)
    #expect(meter.take(at: Self.start + .milliseconds(109)) == nil)
    #expect(meter.take(at: Self.start + .milliseconds(110)) == BusyMeter.weightMax)
  }

  @Test("a long sleep ends the period, and makes it one of little work")
  func sleepsLong() {
    var meter = BusyMeter(at: Self.start)
    meter.slept(for: .seconds(3600))
    #expect(meter.take(at: Self.start + .seconds(3601)) == 0)
  }

  @Test("a sleep that was measured longer than the period is one of all of it") func sleepsTooLong()
  {
    var meter = BusyMeter(at: Self.start)
    meter.slept(for: .milliseconds(70))
    #expect(meter.take(at: Self.start + .milliseconds(50)) == 0)
  }
}
