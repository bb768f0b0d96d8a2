// Documents made to hurt: deep, long, repetitive, random. Each must come to an end, soon, without a
// trap; that time grows no faster than size is `LinearityTests`' matter.

import TOML
import TestSupport
import Testing

/// A document with a name: the document itself would fill the report.
struct HostileCase: CustomTestStringConvertible {
  var name: String
  var text: String

  init(_ name: String, _ text: String) {
    self.name = name
    self.text = text
  }

  var testDescription: String { name }
}

@Suite("Hostile TOML") struct HostileTests {
  static let deep = 100_000

  @Test(
    "nesting is bounded, whatever the notation",
    arguments: [
      HostileCase(
        "open arrays",
        "a = " + String(repeating: "[", count: deep)),
      HostileCase(
        "closed arrays",
        "a = " + String(repeating: "[", count: deep) + String(repeating: "]", count: deep)),
      HostileCase(
        "inline tables",
        "a = " + String(repeating: "{b=", count: deep)),
      HostileCase(
        "arrays and inline tables with dotted keys",
        "a = " + String(repeating: "[{b.b.b.b=", count: deep)),
      HostileCase(
        "a header",
        "[" + String(repeating: "a.", count: deep) + "a]"),
      HostileCase(
        "a dotted key",
        String(repeating: "a.", count: deep) + "a = 1"),
      HostileCase(
        "a dotted key in braces",
        "a = {" + String(repeating: "a.", count: deep) + "a = 1}"),
    ])
  func depth(hostile: HostileCase) {
    let document = parse(hostile.text)
    #expect(!document.isValid)
    #expect(document.log.inOrder().contains { $0.message.contains("nested more than") })
  }

  @Test("nesting up to the bound is fine") func allowedDepth() {
    let depth = TOMLDocument.depthMax - 1
    let text =
      "a = " + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "\n"
    #expect(rendered(text) == "")
  }

  @Test("only so many errors are told, and the rest is counted") func errorBound() throws {
    let diagnostics = parse(String(repeating: "x\n", count: 1_000)).log.inOrder()
    #expect(diagnostics.count == DiagnosticLog.errorCountMax + 1)
    let last = try #require(diagnostics.last)
    #expect(last.render() == "t.toml: error: 950 more errors are not shown")
  }

  @Test("a document that is too large is refused unread") func sizeBound() {
    let bytes = [UInt8](repeating: 0x0A, count: TOMLDocument.octetCountMax + 1)
    let document = TOMLDocument(parsing: bytes, file: "t.toml")
    #expect(rendered(document) == "t.toml: error: the file is larger than 16 MiB")
  }

  @Test("random mutations of valid documents never trap") func mutations() {
    let seed = UInt64.random(in: .min ... .max)
    print("TOML mutations: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let pieces: [[UInt8]] =
      [
        "[", "]", "[[", "]]", "{", "}", "\"", "'", "\"\"\"", "'''", "=", ",", ".", "#", "\n",
        "\r\n",
        "\r", "\\", "\\u", "\\U0010FFFF", "\u{0}", "\u{7F}", "é", "日", "0x", "1e", "-", "_", ":",
        "T",
        "1979-05-27", "inf", "a.b.c", "[a]\n", "k = 1\n",
      ].map { Array($0.utf8) } + [[0xFF], [0xC0], [0xE2, 0x82], [0xEF, 0xBB, 0xBF]]
    for round in 0..<20_000 {
      var bytes = Array(Self.samples[round % Self.samples.count].utf8)
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let at = Int.random(in: 0...bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0 where at < bytes.count:
          bytes[at] = UInt8.random(in: .min ... .max, using: &random)
        case 1:
          bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 0...8, using: &random)))
        case 2:
          let end = min(bytes.count, at + Int.random(in: 0...40, using: &random))
          bytes.insert(
            contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &random))
        default:
          bytes.insert(contentsOf: pieces.randomElement(using: &random) ?? [], at: at)
        }
      }
      let document = TOMLDocument(parsing: bytes, file: "t.toml")
      let diagnostics = document.log.inOrder()
      // An invalid document says why, at a place that it has.
      #expect(document.isValid == diagnostics.isEmpty, "seed \(seed), round \(round)")
      for diagnostic in diagnostics where diagnostic.line > 0 {
        #expect(diagnostic.column >= 1 && !diagnostic.render().isEmpty)
      }
    }
  }

  static let samples = [
    "title = \"x\"\n[a.b]\nc = [1, 2.5, 'x']\nd = {e = 1979-05-27T07:32:00Z}\n[[f]]\ng.h = true\n",
    "s = \"\"\"\nab\\\n  c\\u00E9\"\"\"\nl = '''x'y'''\nt = 07:32:00\nn = [\n  0xFF, # c\n  1e5,\n]\n",
    "a.b.c = 1\na.\"d e\" = nan\n[a.f]\n[[g]]\n[[g.h]]\n[g.h.i]\r\nj = -0.0\r\n",
    "[device]\nname = \"ferry0\"\naddresses = [\"10.77.0.1/24\"]\n[[forward]]\nlisten = \"*:443\"\n",
  ]
}
