// How often the device is looked at, on a virtual clock.

import Primitives
import Supervisor
import Testing

@Suite("Repair pace") struct RepairPaceTests {
  /// An instant, in milliseconds.
  private static func at(_ milliseconds: Int) -> MonotonicInstant {
    .zero + .milliseconds(milliseconds)
  }

  @Test("the first look waits for the end of the burst only") func first() {
    #expect(RepairPace().wait(at: Self.at(5)) == RepairPace.debounce)
  }

  @Test("looks are kept apart, and wait no longer once that time has passed") func spacing() {
    var pace = RepairPace()
    pace.looked(.intact, at: Self.at(1000))
    #expect(pace.wait(at: Self.at(1000)) == .seconds(1))
    #expect(pace.wait(at: Self.at(1700)) == .milliseconds(300))
    #expect(pace.wait(at: Self.at(1950)) == RepairPace.debounce)
    #expect(pace.wait(at: Self.at(90_000)) == RepairPace.debounce)
  }

  @Test(
    "repairs that follow one another are made less and less often",
    arguments: [DeviceCondition.repaired, .failing])
  func backsOff(condition: DeviceCondition) {
    var pace = RepairPace()
    var now = Self.at(0)
    var waits: [Interval] = []
    for _ in 0..<9 {
      pace.looked(condition, at: now)
      let wait = pace.wait(at: now)
      waits.append(wait)
      now = now + wait
    }
    #expect(waits == [1, 2, 4, 8, 16, 32, 60, 60, 60].map { Interval.seconds($0) })
  }

  @Test("looks that find nothing do not make a fight forgotten, time does") func forgets() {
    var pace = RepairPace()
    pace.looked(.repaired, at: Self.at(0))
    pace.looked(.intact, at: Self.at(5_000))
    pace.looked(.repaired, at: Self.at(10_000))
    #expect(pace.wait(at: Self.at(10_000)) == .seconds(2))
    pace.looked(.down, at: Self.at(20_000))
    pace.looked(.repaired, at: Self.at(130_000))
    #expect(pace.wait(at: Self.at(130_000)) == .seconds(1))
  }
}
