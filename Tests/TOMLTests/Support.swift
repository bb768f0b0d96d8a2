// Shared by the TOML tests: parse text, and look at values without ceremony.

import TOML
import Testing

func parse(_ text: String) -> TOMLDocument {
  TOMLDocument(parsing: Array(text.utf8), file: "t.toml")
}

/// What is wrong with a document, as an operator would read it.
func rendered(_ text: String) -> String { rendered(parse(text)) }

func rendered(_ document: TOMLDocument) -> String {
  document.log.inOrder().map { $0.render() }.joined(separator: "\n")
}

/// The messages only, with their lines.
func messages(_ text: String) -> [String] {
  parse(text).log.inOrder().map { "\($0.line): \($0.message)" }
}

extension TOMLTable {
  /// The value at a path of keys through tables.
  func value(_ path: String...) -> TOMLValue? {
    var table = self
    for key in path.dropLast() {
      guard case .table(let inner)? = table[TOMLKey(key)]?.value.content else { return nil }
      table = inner
    }
    return path.last.flatMap { table[TOMLKey($0)]?.value }
  }
}
