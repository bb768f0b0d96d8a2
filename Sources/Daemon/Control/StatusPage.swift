// The page for browsers: `GET /` with an Accept field that names text/html.
//
// One document without script, image, font or any other request; it names nothing outside itself
// and its Content-Security-Policy forbids it to. Everything that is not a literal of this file goes
// through `escaped`. The page is a moment; `?refresh=SECONDS` lets the browser ask again.

enum StatusPage {
  /// Longest refresh interval that the page honours, in seconds.
  static let refreshSecondsMax = 3600

  /// - Parameter refreshSeconds: how often the browser asks again; nil for never.
  static func html(_ report: StatusReport, refreshSeconds: Int?) -> String {
    let device = escaped(report.identity.device)
    let refresh = refreshSeconds.map { "<meta http-equiv=\"refresh\" content=\"\($0)\">" } ?? ""
    let link =
      refreshSeconds == nil
      ? "<a href=\"/?refresh=2\">Keep it fresh</a>" : "<a href=\"/\">Hold it still</a>"
    var text = """
      <!doctype html><html lang="en"><head><meta charset="utf-8">
      <meta name="viewport" content="width=device-width,initial-scale=1">\(refresh)
      <title>Portferry on \(device)</title>
      <style>\(style)</style></head><body><main>
      <header><h1>Portferry</h1><p>The daemon behind <b>\(device)</b>, as of now. \(link).</p></header>
      <dl class="tiles">
      """
    for (name, value) in report.summary {
      text += "<div><dt>\(name)</dt><dd>\(escaped(value))</dd></div>"
    }
    text += "</dl>\n"
    for notice in report.notices { text += "<p class=\"notice\">\(escaped(notice))</p>\n" }
    for table in report.tables { write(table, to: &text) }
    text += """
      <footer>Also here: <a href="/metrics">metrics</a> (Prometheus), \
      <a href="/api/v1/status">status</a> (JSON), <a href="/healthz">health</a>.</footer>
      </main></body></html>

      """
    return text
  }

  /// Text as HTML content or attribute value.
  static func escaped(_ string: String) -> String {
    var result = ""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func write(_ table: StatusTable, to text: inout String) {
    text += "<section><h2>\(escaped(table.title))</h2>"
    guard !table.rows.isEmpty else {
      text += "<p class=\"empty\">\(table.empty)</p></section>\n"
      return
    }
    text += "<div class=\"scroll\"><table><thead><tr>"
    for column in table.columns {
      text += "<th\(cellClass(column))>\(column.title)</th>"
    }
    text += "</tr></thead><tbody>\n"
    for row in table.rows {
      text += "<tr>"
      for (cell, column) in zip(row, table.columns) {
        text += "<td\(cellClass(column))>\(escaped(cell))</td>"
      }
      text += "</tr>\n"
    }
    text += "</tbody></table></div></section>\n"
  }

  private static func cellClass(_ column: StatusTable.Column) -> String {
    if column.isNumber { return " class=\"n\"" }
    return column.isSentence ? " class=\"w\"" : ""
  }

  private static let style = """
    :root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7d;--paper:#f6f8fa;--card:#fff;\
    --line:#dde3ea;--sea:#0b6e8f;--warn:#9a4a00;--warnpaper:#fff3e0}
    @media(prefers-color-scheme:dark){:root{--ink:#e3e9f0;--soft:#93a1b3;--paper:#10161d;\
    --card:#18212b;--line:#2a3644;--sea:#5cc2e0;--warn:#ffc27a;--warnpaper:#33240f}}
    *{box-sizing:border-box}
    body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
    main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 3rem}
    h1{margin:0;font-size:1.7rem;letter-spacing:-.01em;color:var(--sea)}
    h2{margin:0 0 .5rem;font-size:1.05rem}
    header p{margin:.1rem 0 1.2rem;color:var(--soft)}
    a{color:var(--sea)}
    .tiles{display:flex;flex-wrap:wrap;gap:.7rem;margin:0 0 1.2rem}
    .tiles div,section{background:var(--card);border:1px solid var(--line);border-radius:10px}
    .tiles div{padding:.5rem .9rem;min-width:8rem}
    dt{font-size:.8rem;color:var(--soft)}
    dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
    section{padding:.9rem 1rem;margin:0 0 1rem}
    .scroll{overflow-x:auto}
    table{border-collapse:collapse;width:100%;font-size:.9rem}
    th,td{padding:.3rem .7rem .3rem 0;text-align:left;white-space:nowrap;vertical-align:top}
    th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--line)}
    tbody tr+tr td{border-top:1px solid var(--line)}
    .n{text-align:right;font-variant-numeric:tabular-nums}
    .w{white-space:normal;width:100%;min-width:11rem}
    .empty{margin:0;color:var(--soft)}
    .notice{margin:0 0 1rem;padding:.6rem .9rem;border-radius:10px;color:var(--warn);\
    background:var(--warnpaper)}
    footer{color:var(--soft);font-size:.9rem}
    """
}
