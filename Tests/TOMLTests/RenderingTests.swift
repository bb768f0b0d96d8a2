// Messages as an operator reads them, to the character.

import TOML
import Testing

@Suite("TOML diagnostics") struct RenderingTests {
  @Test("every mistake of a document is told in one pass, in order") func goldenPass() {
    let text = """
      name = foo
      title: "x"
      a = "abc
      c = "bad \\q escape"
      d = 012
      j = True
      k = [1, 2 3]
      a = 3
      h = 2024-02-30
      [t]
      x.y = 1
      [t.x]
      [x
      ké = 1
      z = 1 z

      """
    let expected = """
      t.toml:1:8: error: 'foo' is not a value
          1 | name = foo
            |        ^~~ strings need quotation marks
      t.toml:2:6: error: expected '=' after the key
          2 | title: "x"
            |      ^ TOML joins key and value by '='
      t.toml:3:5: error: this string is not closed
          3 | a = "abc
            |     ^~~~ expected " before the end of the line
      t.toml:4:10: error: unknown escape in a string
          4 | c = "bad \\q escape"
            |          ^~ expected \\b \\t \\n \\f \\r \\" \\\\ \\uXXXX or \\UXXXXXXXX
      t.toml:5:5: error: a number must not begin with a zero
          5 | d = 012
            |     ^~~ octal numbers begin with 0o
      t.toml:6:5: error: 'True' is not a value
          6 | j = True
            |     ^~~~ did you mean 'true'?
      t.toml:7:11: error: expected ',' or ']' in an array, found '3'
          7 | k = [1, 2 3]
            |           ^
      t.toml:8:1: error: key 'a' is set twice
          8 | a = 3
            | ^ first on line 3
      t.toml:9:5: error: this month has no day 30
          9 | h = 2024-02-30
            |     ^~~~~~~~~~ expected 01 to 29
      t.toml:12:4: error: table 'x' is already defined by keys
         12 | [t.x]
            |    ^ first on line 11
      t.toml:13:3: error: this table header is not closed properly
         13 | [x
            |   ^ expected ']'
      t.toml:14:2: error: a key cannot contain 'é'
         14 | ké = 1
            |  ^ put the key into quotation marks
      t.toml:15:7: error: unexpected 'z' after the end of the statement
         15 | z = 1 z
            |       ^ expected the end of the line
      """
    #expect(rendered(text) == expected)
  }

  @Test("tabs before the caret are repeated under it") func tabs() {
    #expect(
      rendered("\tk\t= x\n") == """
        t.toml:1:6: error: 'x' is not a value
            1 | \tk\t= x
              | \t \t  ^ strings need quotation marks
        """)
  }

  @Test("wide characters take two cells, combining marks none") func wide() {
    #expect(
      rendered("q = \"日本e\u{301}\" 語\n") == """
        t.toml:1:12: error: unexpected '語' after the end of the statement
            1 | q = "日本e\u{301}" 語
              |             ^~ expected the end of the line
        """)
  }

  @Test("what a terminal would obey is shown as a symbol") func controls() {
    let text = rendered("k = \"\u{1B}[31m\u{202E}\"\n")
    #expect(
      text == """
        t.toml:1:6: error: a string must not contain the control character U+001B
            1 | k = "␛[31m\u{FFFD}"
              |      ^ write it as an escape in a string with double quotation marks
        """)
    #expect("a\u{1B}b\tc".quotedForMessage == "'a␛b␉c'")
  }

  @Test("octets that are no UTF-8 have a place") func encoding() {
    let document = TOMLDocument(
      parsing: Array("a = 1\nb = \"x".utf8) + [0xC3, 0x28] + Array("\"\nc = q\n".utf8),
      file: "t.toml")
    #expect(
      rendered(document) == """
        t.toml:2:7: error: octet 0xC3 is not valid UTF-8 here
            2 | b = "x\u{FFFD}("
              |       ^ a TOML document is UTF-8 text
        t.toml:3:5: error: 'q' is not a value
            3 | c = q
              |     ^ strings need quotation marks
        """)
  }

  @Test("a long line is cut around the caret") func longLine() {
    let text = rendered("k = \"" + String(repeating: "a", count: 100_000) + "\" oops # tail\n")
    let lines = text.split(separator: "\n")
    #expect(lines.allSatisfy { $0.count < 160 })
    #expect(lines[0] == "t.toml:1:100008: error: unexpected 'oops' after the end of the statement")
    let excerpt = lines[1]
    let caret = lines[2]
    let column = caret.prefix { $0 != "^" }.count
    #expect(excerpt.dropFirst(column).hasPrefix("oops # tail"))
  }

  @Test("a diagnostic about the whole file names the file") func wholeFile() {
    let diagnostic = Diagnostic(.error, file: "x.toml", message: "cannot be read", hint: "EACCES")
    #expect(diagnostic.render() == "x.toml: error: cannot be read (EACCES)")
  }
}

@Suite("TOML recovery") struct RecoveryTests {
  @Test("an unclosed array ends where the next statement begins") func unclosedArray() {
    #expect(
      messages("a = [1,\n  2\nb = x\n[t]\nc = [ 'k',\n[u]\nd = y\n") == [
        "1: this array is not closed", "3: 'x' is not a value", "5: this array is not closed",
        "7: 'y' is not a value",
      ])
    // A line of nested arrays, or of one word in quotes, is no header.
    #expect(messages("a = [\n[1],\n[true],\n[\"x\"],\n[[2]]\n]\n").isEmpty)
  }

  @Test("a wrong element does not hide the others") func arrayElements() {
    #expect(
      messages("a = [\n 1,\n x,\n 3 4,\n ,\n]\nb = y\n") == [
        "3: 'x' is not a value", "4: expected ',' or ']' in an array, found '4'",
        "5: expected a value before ','", "7: 'y' is not a value",
      ])
  }

  @Test("an unclosed inline table ends with its line") func unclosedInlineTable() {
    #expect(
      messages("a = { x = 1\nb = y\n[t]\n") == [
        "1: an inline table stands on one line", "2: 'y' is not a value",
      ])
  }

  @Test("what was lost is marked, what could be read is there") func partial() {
    let document = parse("[t]\ngood = 1\nbad = oops\n= 2\n[u]\nx = 1\n")
    #expect(document.root.value("t", "bad")?.kind == "something unreadable")
    guard case .table(let t)? = document.root.value("t")?.content,
      case .table(let u)? = document.root.value("u")?.content
    else {
      Issue.record("no tables")
      return
    }
    #expect(t.isDamaged && t[TOMLKey("good")] != nil)
    #expect(!u.isDamaged)
  }
}

@Suite("Spelling") struct SpellingTests {
  let words = ["listen", "target", "name", "idle_timeout", "udp_timeout"]

  @Test(
    "the nearest word is found",
    arguments: [
      ("listne", "listen"), ("tagret", "target"), ("Name", "name"),
      ("idle-timeout", "idle_timeout"),
      ("nmae", "name"), ("timeout_udp", nil), ("xyz", nil), ("n", nil), ("", nil),
    ] as [(String, String?)])
  func nearest(word: String, expected: String?) {
    #expect(Spelling.nearest(to: word, among: words) == expected)
  }

  @Test("an endless word costs nothing") func endless() {
    #expect(Spelling.nearest(to: String(repeating: "x", count: 1_000_000), among: words) == nil)
  }
}
