// Time is proportional to size, whatever a document repeats.
//
// Each case is parsed at two sizes, one eight times the other, on the thread's own CPU clock, so that
// a busy machine matters little, and up to five times: work that grows too fast does so each time.
// Linear work costs eight times as much, quadratic sixty-four; the line is drawn between, with some
// slack for what is too short to measure.

import Glibc
import TOML
import Testing

/// A family of documents, by the number of repetitions.
struct RepetitionCase: CustomTestStringConvertible, Sendable {
  var name: String
  var make: @Sendable (Int) -> String

  init(_ name: String, _ make: @escaping @Sendable (Int) -> String) {
    self.name = name
    self.make = make
  }

  /// A document that says the same thing again and again.
  init(_ name: String, repeating unit: String, between prefix: String = "", and suffix: String = "")
  {
    self.init(name) { prefix + String(repeating: unit, count: $0) + suffix }
  }

  /// A document whose parts are numbered.
  init(
    _ name: String, numbering unit: @escaping @Sendable (Int) -> String,
    between prefix: String = "", and suffix: String = ""
  ) {
    self.init(name) { prefix + (0..<$0).map(unit).joined() + suffix }
  }

  var testDescription: String { name }

  static let all = [
    RepetitionCase("elements with dotted keys", numbering: { "[[a]]\nb.c.d = \($0)\n" }),
    RepetitionCase("headers", numbering: { "[a\($0).b]\n" }),
    RepetitionCase("dotted keys", numbering: { "a.b.k\($0) = 1\n" }),
    RepetitionCase(
      "keys of one inline table", numbering: { "k\($0) = 1," }, between: "a = {", and: "z=1}"),
    RepetitionCase("elements of one array", repeating: "1,", between: "a = [", and: "]"),
    RepetitionCase(
      "inline tables in an array", repeating: "{b.c=1},\n", between: "a = [", and: "]"),
    RepetitionCase("one header", repeating: "[a]\n"),
    RepetitionCase("one key", repeating: "a = 1\n"),
    RepetitionCase("bad keys", repeating: "é\n"),
    RepetitionCase("bad values", repeating: "a = x\n"),
    RepetitionCase("bad escapes", repeating: "a = \"\\q\"\n"),
    RepetitionCase("unclosed arrays", repeating: "a = [\n"),
    RepetitionCase("unclosed inline tables", repeating: "a = {\n"),
    RepetitionCase("multi-line strings in and out", repeating: "a = \"\"\"x\n"),
    RepetitionCase("backslashes", repeating: "\\ ", between: "a = \"\"\""),
    RepetitionCase("control characters in a comment", repeating: "\u{1}", between: "# "),
    RepetitionCase("open brackets", repeating: "["),
    RepetitionCase("statements on one line", repeating: "a = 1 "),
    RepetitionCase("errors on one long line", repeating: "[x y],", between: "a = [", and: "]"),
    RepetitionCase("digits of an integer", repeating: "1", between: "a = "),
    RepetitionCase("digits of a float", repeating: "1", between: "a = 1."),
  ]
}

@Suite("TOML parsing time") struct LinearityTests {
  @Test("size costs time in proportion", arguments: RepetitionCase.all)
  func linear(repetition: RepetitionCase) {
    var (small, large) = (0.0, 0.0)
    for _ in 0..<5 {
      small = cost(repetition.make(3_000))
      large = cost(repetition.make(24_000))
      if large < 24 * small + 0.1 { return }
    }
    Issue.record("\(small) s for one part, \(large) s for eight")
  }

  /// CPU seconds of this thread for parsing a text and telling its errors.
  private func cost(_ text: String) -> Double {
    let start = cpuSeconds()
    _ = rendered(text)
    return cpuSeconds() - start
  }

  private func cpuSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
  }
}
