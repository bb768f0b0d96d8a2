// The page for terminals: `GET /` by curl and its like, who do not ask for text/html.
//
// Columns are as wide as their widest cell. Control characters are shown as `?`, so that no name in a
// configuration or answer of a name server drives the reader's terminal.

enum StatusText {
  static func text(_ report: StatusReport) -> String {
    var text = "Portferry on \(printable(report.identity.device)), as of now\n"
    let summary = report.summary.map { "\($0.name) \(printable($0.value))" }
    text += summary.joined(separator: "  |  ") + "\n"
    for notice in report.notices { text += "! \(printable(notice))\n" }
    for table in report.tables { write(table, to: &text) }
    text += "\nAlso here: /metrics (Prometheus), /api/v1/status (JSON), /healthz\n"
    return text
  }

  private static func write(_ table: StatusTable, to text: inout String) {
    text += "\n\(table.title)\n"
    guard !table.rows.isEmpty else {
      text += "  \(table.empty)\n"
      return
    }
    let rows = [table.columns.map(\.title)] + table.rows.map { $0.map(printable) }
    let widths = table.columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    for row in rows {
      var line = " "
      for (place, cell) in row.enumerated() {
        let blanks = String(repeating: " ", count: widths[place] - cell.count)
        line += " " + (table.columns[place].isNumber ? blanks + cell : cell + blanks)
      }
      while line.last == " " { line.removeLast() }
      text += line + "\n"
    }
  }

  private static func printable(_ string: String) -> String {
    var result = ""
    for scalar in string.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
      result.unicodeScalars.append(isControl ? "?" : scalar)
    }
    return result
  }
}
