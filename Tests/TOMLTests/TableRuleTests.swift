// What may define what (TOML 1.0, "Keys" to "Array of Tables").

import TOML
import Testing

@Suite("TOML tables") struct TableRuleTests {
  @Test(
    "what the standard allows",
    arguments: [
      "[a.b.c]\n[a]\nx = 1\n",
      "[a.b.c]\n[a]\nb.x = 1\n",
      "[f]\na.c = 1\na.t.s = 2\n[f.a.t2]\n",
      "[[a]]\n[a.b]\n[[a]]\n[a.b]\n",
      "[[a]]\n[[a.b]]\n[[a.b]]\n",
      "a.b = 1\na.c = 2\n",
      "a = { b.c = 1, b.d = 2 }\n",
      "\"\" = 1\n'y'.x = 1\n",
    ])
  func allowed(text: String) { #expect(rendered(text) == "") }

  @Test(
    "what the standard forbids, with the place of both sides",
    arguments: [
      ("a = 1\na = 2\n", "2: key 'a' is set twice"),
      ("[a]\n[a]\n", "2: table 'a' is defined twice"),
      ("a.b = 1\n[a]\n", "2: table 'a' is already defined by keys"),
      ("[a.b]\n[a]\nb.c = 1\n", "3: table 'b' is already defined, dotted keys cannot extend it"),
      ("[f]\na.c = 1\n[f.a]\n", "3: table 'a' is already defined by keys"),
      ("[[a]]\n[a]\n", "2: 'a' is an array of tables"),
      ("[a]\n[[a]]\n", "2: 'a' is a table, not an array of tables"),
      ("a = []\n[[a]]\n", "2: 'a' is an array already"),
      ("a = {}\n[a.b]\n", "2: 'a' is a table, it cannot be extended by a header"),
      ("a = {}\na.b = 1\n", "2: 'a' is a table, it has no keys"),
      ("a = 1\n[a.b]\n", "2: 'a' is an integer, it cannot be extended by a header"),
      (
        "[[a]]\n[b]\n[c]\n[[x.a]]\n[x]\na.b = 1\n",
        "6: 'a' is an array of tables, dotted keys cannot extend it"
      ),
    ])
  func forbidden(text: String, message: String) { #expect(messages(text) == [message]) }

  @Test("a second header still has its keys checked") func keysBelowDuplicate() {
    #expect(messages("[a]\nx = 1\n[a]\nx = 2\ny = oops\n").count == 2)
  }

  @Test("an array of tables grows by its header") func arrayOfTables() throws {
    let document = parse("[[a]]\nn = 1\n[[a]]\n[[a]]\nn = 3\n")
    guard case .array(let elements)? = document.root.value("a")?.content else {
      Issue.record("no array")
      return
    }
    #expect(elements.map { document.source.line(at: $0.span.start) } == [1, 3, 4])
  }
}
