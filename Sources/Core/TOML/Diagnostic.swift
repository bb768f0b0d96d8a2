// What is wrong with a document, in a form that a person can act on without opening the manual.
//
// A diagnostic is self-contained: it holds the line that it is about, so it can be logged, sent over
// the control socket or printed long after the document is gone. Everything in it that came from the
// document is made harmless first: control and format characters are shown as symbols, so a file
// cannot drive the terminal of the one who checks it, and long lines are cut around the caret.
//
//   portferry.toml:12:1: error: unknown key 'listne' in [[forward]]
//      12 | listne = "10.77.0.10:80"
//         | ^~~~~~ did you mean 'listen'?

/// One error or warning about a document.
package struct Diagnostic: Error, Hashable, Sendable {
  package enum Severity: String, Hashable, Sendable { case error, warning }

  package var severity: Severity
  package var file: String
  /// From 1; 0 when the diagnostic is about the file as a whole.
  package var line: Int
  /// From 1, in Unicode scalars; 0 when the diagnostic is about the file as a whole.
  package var column: Int
  /// Unicode scalars that the caret and its tail underline; at least 1.
  package var length: Int
  /// What is wrong: one clause, lower case, no full stop.
  package var message: String
  /// What was expected, or what was probably meant.
  package var hint: String?
  /// The line, printable and cut to a bearable length; nil for the file as a whole.
  package var excerpt: String?
  /// The caret line: blanks as wide as what precedes the caret in `excerpt`, then `^~~~`.
  package var marker: String

  /// A diagnostic about the file as a whole.
  package init(_ severity: Severity, file: String, message: String, hint: String? = nil) {
    self.severity = severity
    self.file = file
    self.message = message
    self.hint = hint
    line = 0
    column = 0
    length = 1
    excerpt = nil
    marker = ""
  }

  /// A diagnostic about a stretch of a document. A span over several lines is cut to its first.
  package init(
    _ severity: Severity, in source: SourceText, at span: SourceSpan, message: String,
    hint: String? = nil
  ) {
    self.init(severity, file: source.file, message: message, hint: hint)
    let position = source.position(of: span)
    line = position.line
    column = position.column
    let line = source.octets(ofLine: position.line) ?? 0..<0
    let start = min(max(span.start, line.lowerBound), line.upperBound)
    let end = min(max(span.end, start), line.upperBound)
    length = max(1, source.scalarCount(start..<end))
    let excerpt = LineExcerpt(source, line: line, start: start, end: end)
    self.excerpt = excerpt.text
    marker = excerpt.marker
  }

  /// The text for people: place and message, then the line and the caret where there is one.
  package func render() -> String {
    guard let excerpt else {
      let hint = hint.map { " (\($0))" } ?? ""
      return "\(file): \(severity.rawValue): \(message)\(hint)"
    }
    let number = String(line)
    let gutter = String(repeating: " ", count: max(5 - number.utf8.count, 0)) + number
    let blank = String(repeating: " ", count: gutter.utf8.count)
    let hint = hint.map { " " + $0 } ?? ""
    return """
      \(file):\(line):\(column): \(severity.rawValue): \(message)
      \(gutter) | \(excerpt)
      \(blank) | \(marker)\(hint)
      """
  }
}

extension Diagnostic: CustomStringConvertible {
  package var description: String { render() }
}

/// Gathers diagnostics up to a bound, and hands them out in the order of the document.
package struct DiagnosticLog: Sendable {
  /// Errors of one document that are kept; the rest is counted.
  package static let errorCountMax = 50
  /// Warnings of one document that are kept; the rest is counted.
  package static let warningCountMax = 50

  package let source: SourceText
  package private(set) var errorCount = 0
  package private(set) var warningCount = 0
  private var kept: [Diagnostic] = []

  package init(source: SourceText) { self.source = source }

  package var hasErrors: Bool { errorCount > 0 }

  package mutating func error(_ message: String, at span: SourceSpan, hint: String? = nil) {
    errorCount += 1
    guard errorCount <= Self.errorCountMax else { return }
    kept.append(Diagnostic(.error, in: source, at: span, message: message, hint: hint))
  }

  package mutating func warning(_ message: String, at span: SourceSpan, hint: String? = nil) {
    warningCount += 1
    guard warningCount <= Self.warningCountMax else { return }
    kept.append(Diagnostic(.warning, in: source, at: span, message: message, hint: hint))
  }

  /// About the file as a whole.
  package mutating func warning(_ message: String, hint: String? = nil) {
    warningCount += 1
    kept.append(Diagnostic(.warning, file: source.file, message: message, hint: hint))
  }

  /// About the file as a whole.
  package mutating func error(_ message: String, hint: String? = nil) {
    errorCount += 1
    kept.append(Diagnostic(.error, file: source.file, message: message, hint: hint))
  }

  /// All that was kept, by line and column; then a word on what was not.
  package func inOrder() -> [Diagnostic] {
    var result = kept.enumerated()
      .sorted { a, b in
        (a.element.line, a.element.column, a.offset) < (b.element.line, b.element.column, b.offset)
      }
      .map(\.element)
    let hidden = max(errorCount - Self.errorCountMax, 0)
    if hidden > 0 {
      let noun = hidden == 1 ? "error is" : "errors are"
      result.append(
        Diagnostic(.error, file: source.file, message: "\(hidden) more \(noun) not shown"))
    }
    return result
  }
}
