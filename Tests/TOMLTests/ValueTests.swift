// What documents mean, and where each value stands. The compliance cases of toml-test cover the
// grammar; here is what they cannot see: places, kinds, exact numbers, recovery of partial values.

import TOML
import Testing

@Suite("TOML values") struct ValueTests {
  @Test("every kind of value is read") func kinds() throws {
    let document = parse(
      """
      s = "a\\tb\\u00E9"
      i = -0x1
      """)
    #expect(!document.isValid)
    let valid = parse(
      """
      s = "a\\tb\\u00E9"
      i = 0xFF
      least = -9223372036854775808
      f = 6.5e-3
      b = true
      o = 1979-05-27 07:32:00.25-07:30
      l = 1979-05-27T07:32:00
      d = 1979-05-27
      t = 07:32:60
      a = [1, [2], {x = 3}]
      """)
    #expect(rendered(valid) == "")
    guard case .string("a\tb\u{E9}")? = valid.root.value("s")?.content,
      case .integer(255)? = valid.root.value("i")?.content,
      case .integer(.min)? = valid.root.value("least")?.content,
      case .float(0.0065)? = valid.root.value("f")?.content,
      case .boolean(true)? = valid.root.value("b")?.content,
      case .offsetDateTime(let instant)? = valid.root.value("o")?.content,
      case .localDateTime(let local)? = valid.root.value("l")?.content,
      case .localDate(let date)? = valid.root.value("d")?.content,
      case .localTime(let time)? = valid.root.value("t")?.content,
      case .array(let elements)? = valid.root.value("a")?.content
    else {
      Issue.record("a value has another kind")
      return
    }
    #expect(String(describing: instant) == "1979-05-27T07:32:00.25-07:30")
    #expect(instant.offsetMinutes == -450)
    #expect(String(describing: local) == "1979-05-27T07:32:00")
    #expect(String(describing: date) == "1979-05-27")
    #expect(String(describing: time) == "07:32:60")
    #expect(elements.map(\.kind) == ["an integer", "an array", "a table"])
  }

  @Test("values know their line and their column, counted in Unicode scalars") func places() throws
  {
    let document = parse("\n  [t]\r\nk = 1\r\n\"日本\" = [ 'é', 22 ]\n")
    let k = try #require(document.root.value("t", "k"))
    #expect(document.source.position(of: k.span) == SourcePosition(line: 3, column: 5))
    guard case .array(let elements)? = document.root.value("t", "日本")?.content else {
      Issue.record("no array")
      return
    }
    let places = elements.map { document.source.position(of: $0.span) }
    #expect(places == [SourcePosition(line: 4, column: 10), SourcePosition(line: 4, column: 15)])
  }

  @Test("keys that are canonically equivalent, but not equal, are two keys") func keyEquality() {
    let document = parse("\"\\u00E9\" = 1\n\"e\\u0301\" = 2\n")
    #expect(document.isValid)
    #expect(document.root.entries.count == 2)
  }

  @Test("entries keep the order of the document") func order() {
    let keys = parse("z = 1\na = 2\n[m]\n[b]\n").root.entries.map(\.key.text)
    #expect(keys == ["z", "a", "m", "b"])
  }

  @Test("a byte order mark at the start is skipped") func byteOrderMark() {
    let document = TOMLDocument(parsing: [0xEF, 0xBB, 0xBF] + Array("a = 1".utf8), file: "t")
    #expect(document.isValid)
    #expect(document.root.value("a") != nil)
  }

  @Test("an empty document is an empty table", arguments: ["", "\n", "# c", "  \t", "\r\n"])
  func empty(text: String) {
    let document = parse(text)
    #expect(document.isValid)
    #expect(document.root.entries.isEmpty)
  }
}
