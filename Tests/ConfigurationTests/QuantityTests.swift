// Durations and sizes as text.

import Configuration
import Primitives
import Testing

@Suite("Quantities") struct QuantityTests {
  @Test(
    "a duration is a whole number and a unit",
    arguments: [
      ("250ms", .value(.milliseconds(250))), ("10s", .value(.seconds(10))),
      ("3m", .value(.seconds(180))), ("2h", .value(.seconds(7200))),
      ("1d", .value(.seconds(86_400))), ("7us", .value(.microseconds(7))),
      ("0s", .value(.zero)), ("10", .malformed), ("s", .malformed), ("", .malformed),
      ("1.5s", .malformed), ("1 s", .malformed), ("-1s", .malformed), ("1h30m", .malformed),
      ("1S", .unknownUnit("S")), ("1é", .unknownUnit("é")),
      ("99999999999999999999s", .tooLarge), ("106752d", .tooLarge),
    ] as [(String, QuantityOutcome<Interval>)])
  func durations(text: String, expected: QuantityOutcome<Interval>) {
    #expect(Quantities.duration(text) == expected)
  }

  @Test(
    "a size is a whole number and a binary unit",
    arguments: [
      ("0B", .value(0)), ("64KiB", .value(65_536)), ("16MiB", .value(16 << 20)),
      ("1GiB", .value(1 << 30)), ("64KB", .unknownUnit("KB")), ("64", .malformed),
      ("9999999999999GiB", .tooLarge),
    ] as [(String, QuantityOutcome<Int>)])
  func sizes(text: String, expected: QuantityOutcome<Int>) {
    #expect(Quantities.size(text) == expected)
  }

  @Test(
    "an interval's text reads back", arguments: [0, 1, 250, 1_000, 60_000, 5_400_000, 86_400_000])
  func text(milliseconds: Int) {
    let interval = Interval.milliseconds(milliseconds)
    #expect(Quantities.duration(Quantities.text(interval)) == .value(interval))
  }
}
