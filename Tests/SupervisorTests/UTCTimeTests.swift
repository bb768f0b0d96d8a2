// The wall clock as text, against dates known by heart and against the C library's calendar.

import Glibc
import Supervisor
import TestSupport
import Testing

@Suite("UTC time (RFC 3339)") struct UTCTimeTests {
  @Test(
    "dates that calendars get wrong",
    arguments: [
      (0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z"),
      (-1, "1969-12-31T23:59:59.999Z"), (86_399_999, "1970-01-01T23:59:59.999Z"),
      (86_400_000, "1970-01-02T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
      (951_868_800_000, "2000-03-01T00:00:00.000Z"),
      (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
      (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
      (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
      (1_795_374_000_123, "2026-11-22T19:00:00.123Z"),
      (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
      (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
      (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
    ] as [(Int64, String)])
  func known(milliseconds: Int64, text: String) {
    #expect(UTCTime(milliseconds: milliseconds).description == text)
  }

  @Test("any second of the years 1 to 9999 agrees with the C library", arguments: UInt64(0)..<4)
  func model(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      let milliseconds = Int64.random(
        in: -62_135_596_800_000...253_402_300_799_999, using: &random)
      #expect(
        UTCTime(milliseconds: milliseconds).description == Self.byLibrary(milliseconds),
        "\(milliseconds)")
    }
  }

  /// Around every midnight of a century: the days of all months, leap years and not.
  @Test("every midnight from 1999 to 2101 agrees with the C library") func midnights() {
    for day in Int64(10_592)...48_000 {
      for milliseconds in [day * 86_400_000 - 1, day * 86_400_000] {
        let text = UTCTime(milliseconds: milliseconds).description
        if text != Self.byLibrary(milliseconds) { Issue.record("\(text)") }
      }
    }
  }

  @Test("no number of milliseconds traps") func extremes() {
    #expect(UTCTime(milliseconds: .max).description.hasSuffix("Z"))
    #expect(UTCTime(milliseconds: .min).description.hasSuffix("Z"))
  }

  /// `time(2)` would not do as the bound: it reads the coarse clock, which lags by up to a tick and so may
  /// still tell the second before.
  @Test("now is between two readings of the kernel's clock") func now() {
    let before = Self.realTime()
    let now = UTCTime.now().milliseconds
    #expect(before <= now && now <= Self.realTime())
  }

  private static func realTime() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }

  private static func byLibrary(_ milliseconds: Int64) -> String {
    let within = ((milliseconds % 1000) + 1000) % 1000
    var seconds = time_t((milliseconds - within) / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func padded(_ number: some BinaryInteger, _ width: Int) -> String {
      let digits = "\(number)"
      return String(repeating: "0", count: width - digits.count) + digits
    }
    return "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))"
      + "-\(padded(parts.tm_mday, 2))T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2))"
      + ":\(padded(parts.tm_sec, 2)).\(padded(within, 3))Z"
  }
}
