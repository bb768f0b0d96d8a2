// The page, for browsers and for terminals: what it shows, and that no name becomes markup or drives
// a terminal.

import Control
import Primitives
import TestSupport
import Testing
import Worker

@Suite("Status page (HTML)") struct PageTests {
  static func page(_ report: StatusReport) -> String { answer("/", report, wantsHTML: true).body }

  @Test("the page shows rules, flows, drops and counters") func content() throws {
    let page = Self.page(try .sample())
    for cell in [
      "<title>Portferry on ferry0</title>", "<dt>version</dt><dd>1.2.3</dd>",
      "<dt>up for</dt><dd>1 d 1 h</dd>", "<dt>flows</dt><dd>1 of 100</dd>",
      "<td>10.77.0.2:40000</td>", "<td>[fd00::10]:80</td>", "<td class=\"n\">1.9 MiB</td>",
      "<td>no-rule</td><td class=\"n\">5</td><td class=\"w\">nobody &lt;is&gt; there</td>",
      "Without an address: web.",
    ] { #expect(page.contains(cell), "\(cell)") }
    #expect(!page.contains("zero-port"))
  }

  @Test("hostile names add no element and no attribute", arguments: HostileText.samples)
  func hostile(name: String) throws {
    var report = try StatusReport.sample(name: name)
    report.identity.device = name
    var plain = try StatusReport.sample()
    plain.identity.device = "web"
    for mark: Character in ["<", ">", "\"", "'"] {
      #expect(
        Self.page(report).unicodeScalars.count { Character($0) == mark }
          == Self.page(plain).unicodeScalars.count { Character($0) == mark })
    }
    // Every ampersand begins one of the references that `escaped` writes.
    for piece in Self.page(report).split(separator: "&").dropFirst() {
      #expect(["amp;", "lt;", "gt;", "quot;", "#39;"].contains { piece.hasPrefix($0) })
    }
  }

  @Test("escaping can be undone: nothing is lost") func escaping() throws {
    var report = try StatusReport.sample()
    report.identity.device = "<a&b> \"c\" 'd' &lt;"
    #expect(
      Self.page(report).contains("&lt;a&amp;b&gt; &quot;c&quot; &#39;d&#39; &amp;lt;</title>"))
  }

  @Test("the page names nothing outside itself and has no script") func selfContained() throws {
    let page = Self.page(try .sample())
    for word in ["<script", "src=", "http://", "https://", "url(", "@import", "javascript:"] {
      #expect(!page.contains(word), "\(word)")
    }
  }

  @Test("a refused reload is told before everything else") func notice() throws {
    var report = try StatusReport.sample()
    #expect(!Self.page(report).contains("was refused:"))
    report.reloads.refused = 2
    report.reloads.lastWasRefused = true
    let page = Self.page(report)
    let notice = try #require(page.firstRange(of: "The newest reload was refused"))
    #expect(notice.upperBound < (try #require(page.firstRange(of: "<h2>Rules"))).lowerBound)
    #expect(page.contains("0 applied, 2 refused"))
  }
}

@Suite("Status page (text)") struct TextPageTests {
  static func lines(_ report: StatusReport) -> [Substring] {
    answer("/", report).body.split(separator: "\n", omittingEmptySubsequences: false)
  }

  @Test("columns are as wide as their widest cell, numbers at the right") func columns() throws {
    var report = try StatusReport.sample()
    report.workers[0].rules.append(.sample(name: "long-name"))
    report.workers[0].rules[0].acceptedTotal = 12_345
    let lines = Self.lines(report)
    let title = try #require(lines.firstIndex(of: "Rules"))
    #expect(
      lines[(title + 1)...(title + 3)].elementsEqual([
        "  rule      listens on    leads to       flows accepted refused     up    down",
        "  web       10.77.0.10:80 web:8080           1    12345       2 1000 B 1.9 MiB",
        "  long-name 10.77.0.10:80 long-name:8080     1       10       2 1000 B 1.9 MiB",
      ]))
  }

  @Test("a table without rows says so") func empty() throws {
    var report = try StatusReport.sample()
    report.workers = []
    let text = answer("/", report).body
    for sentence in ["  No rule.", "  No flow.", "  Nothing was dropped.", "  No counter."] {
      #expect(text.contains("\n\(sentence)\n"))
    }
  }

  @Test("a cut list of flows says how many there are") func cut() throws {
    #expect(Self.lines(try .sample(flowCount: 1)).contains("Flows"))
    #expect(Self.lines(try .sample(flowCount: 5000)).contains("Flows (newest 1 of 5000)"))
  }

  @Test("a retired rule is told from its successor and not counted") func retired() throws {
    let text = answer("/", try .sample(retired: true)).body
    #expect(text.contains("web (retired)"))
    #expect(text.contains("rules 0"))
  }

  @Test("hostile names drive no terminal and add no line", arguments: HostileText.samples)
  func hostile(name: String) throws {
    var report = try StatusReport.sample(name: name)
    report.identity.device = name
    var plain = try StatusReport.sample()
    plain.identity.device = "web"
    let text = answer("/", report).body.unicodeScalars
    #expect(text.allSatisfy { $0 == "\n" || !HostileText.isControl($0) })
    #expect(
      text.count { $0 == "\n" } == answer("/", plain).body.unicodeScalars.count { $0 == "\n" })
  }
}

@Suite("Numbers for people") struct UnitTests {
  @Test(
    "octets have three digits that matter",
    arguments: [
      (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1075, "1.0 KiB"),
      (1127, "1.1 KiB"), (4300, "4.1 KiB"), (102_399, "99.9 KiB"), (102_400, "100 KiB"),
      (1_048_575, "1023 KiB"), (1_048_576, "1.0 MiB"), (1 << 30, "1.0 GiB"),
      (1 << 40, "1.0 TiB"), (1 << 50, "1.0 PiB"), (1 << 60, "1.0 EiB"),
      (.max, "15.9 EiB"),
    ] as [(UInt64, String)])
  func octets(count: UInt64, text: String) { #expect(StatusUnits.octets(count) == text) }

  @Test("a long list is cut between two of its items, and says how many are left")
  func lists() {
    #expect(StatusUnits.list("10.77.0.10:80, [fd77::10]:80") == "10.77.0.10:80, [fd77::10]:80")
    let items = (1...4096).map { "10.77.4.1:\($0)" }
    let text = StatusUnits.list(items.joined(separator: ", "))
    #expect(text.hasPrefix("10.77.4.1:1, 10.77.4.1:2, "))
    #expect(text.hasSuffix(", 10.77.4.1:6 and 4090 more"))
    let one = String(repeating: "a", count: 200)
    #expect(StatusUnits.list(one) == one)
    #expect(StatusUnits.list(one + ", b") == one + " and 1 more")
  }

  @Test(
    "durations have their two largest units",
    arguments: [
      (.zero, "0 ms"), (Interval(nanoseconds: 999_999), "0 ms"), (.milliseconds(999), "999 ms"),
      (.seconds(1), "1 s"), (.milliseconds(59_999), "59 s"), (.seconds(60), "1 min 0 s"),
      (.seconds(3599), "59 min 59 s"), (.seconds(3600), "1 h 0 min"),
      (.seconds(86_399), "23 h 59 min"), (.seconds(86_400), "1 d 0 h"),
      (.seconds(90_061), "1 d 1 h"), (Interval(nanoseconds: -1), "0 ms"),
      (Interval(nanoseconds: .min), "0 ms"), (Interval(nanoseconds: .max), "106751 d 23 h"),
    ])
  func durations(interval: Interval, text: String) {
    #expect(StatusUnits.duration(interval) == text)
  }
}
