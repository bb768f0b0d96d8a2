// Statements: headers and key/value pairs, and how to go on after a mistake.
//
// The parser never stops at an error. It reports, finds the next place where the document surely has
// meaning again (the rest of an array, the next line), notes what was lost, and goes on; so one run
// names every mistake. Values are read in `Parser+Values.swift`, table rules live in `Tables.swift`.
//
// A document is untrusted: its size, its nesting and the number of diagnostics are bounded, reading
// is linear in its length, and no input leads to a trap.

/// A parsed document. `root` is as complete as the errors allow.
package struct TOMLDocument: Sendable {
  /// Octets beyond which a document is refused unread.
  package static let octetCountMax = 16 << 20
  /// Nesting of tables and arrays, of whatever notation, beyond which a value is refused.
  package static let depthMax = TableBuilder.depthMax

  package let root: TOMLTable
  /// What was found wrong, still open for errors of later stages.
  package var log: DiagnosticLog

  package var source: SourceText { log.source }
  package var isValid: Bool { !log.hasErrors }

  /// Parses a document; `file` only serves the messages.
  package init(parsing bytes: [UInt8], file: String) {
    guard bytes.count <= Self.octetCountMax else {
      log = DiagnosticLog(source: SourceText([], file: file))
      log.error("the file is larger than \(Self.octetCountMax >> 20) MiB")
      root = TOMLTable(isDamaged: true)
      return
    }
    var parser = Parser(SourceText(bytes, file: file))
    parser.parseDocument()
    root = parser.tables.freeze()
    log = parser.scanner.log
  }
}

struct Parser {
  var scanner: Scanner
  var tables = TableBuilder()
  /// An array or inline table turned out to be unclosed: the cursor stands at the beginning of the
  /// line where the next statement was recognised, and every reader under way returns at once.
  var isAbandoned = false

  init(_ source: SourceText) { scanner = Scanner(source) }

  mutating func parseDocument() {
    scanner.checkEncoding()
    while !scanner.isAtEnd { parseLine() }
  }

  private mutating func parseLine() {
    scanner.skipBlanks()
    switch scanner.peek() {
    case nil: return
    case 0x23: break
    case 0x5B: parseHeader()
    default: if scanner.lineEndOctets == 0 { parsePair() }
    }
    if isAbandoned {
      isAbandoned = false
      return
    }
    expectLineEnd()
  }

  private mutating func expectLineEnd() {
    scanner.skipBlanks()
    scanner.skipComment()
    if scanner.takeLineEnd() || scanner.isAtEnd { return }
    let start = scanner.offset
    _ = cutWord()
    let span = scanner.offset > start ? scanner.span(from: start) : scanner.scalarSpan
    let control = scanner.source.bytes[start]
    let found = Scanner.isForbiddenControl(control) ? Scanner.controlName(control) : quoted(span)
    scanner.error(
      "unexpected \(found) after the end of the statement", at: span,
      hint: "expected the end of the line")
    scanner.skipLine()
  }

  // MARK: Headers

  private mutating func parseHeader() {
    let start = scanner.offset
    scanner.advance()
    let isElement = scanner.take(0x5B)
    guard let path = parsePath(.header), closeHeader(isElement: isElement) else {
      tables.openDetached(at: scanner.span(from: start))
      skipRestOfLine()
      return
    }
    do throws(TableBuilder.Conflict) {
      if isElement { try tables.openElement(path) } else { try tables.openTable(path) }
    } catch {
      report(error)
    }
  }

  private mutating func closeHeader(isElement: Bool) -> Bool {
    let wanted = isElement ? "]]" : "]"
    if scanner.starts(with: "]]") {
      if isElement {
        scanner.advance(2)
        return true
      }
    } else if scanner.peek() == 0x5D, !isElement {
      scanner.advance()
      return true
    }
    scanner.error(
      "this table header is not closed properly", at: pointer,
      hint: "expected '\(wanted)'")
    return false
  }

  /// Moves to the end of the line, so that it is found to be in order.
  private mutating func skipRestOfLine() {
    while !scanner.isAtEnd, scanner.lineEndOctets == 0 { scanner.advance() }
  }

  // MARK: Key/value pairs

  private mutating func parsePair() {
    guard let path = parsePath(.pair), expectEquals() else {
      // The key is lost; its value may still span lines and is better read than guessed at.
      tables.damageCurrent()
      while !scanner.isAtEnd, scanner.lineEndOctets == 0, scanner.peek() != 0x3D {
        scanner.advance()
      }
      if scanner.take(0x3D) {
        _ = parseValue(depth: tables.currentDepth + 1)
        if !isAbandoned { skipRestOfLine() }
      }
      return
    }
    let value = parseValue(depth: tables.currentDepth + path.count)
    do throws(TableBuilder.Conflict) {
      try tables.insert(value, at: path)
    } catch {
      report(error)
    }
  }

  mutating func expectEquals() -> Bool {
    if scanner.take(0x3D) { return true }
    scanner.error(
      "expected '=' after the key", at: pointer,
      hint: scanner.peek() == 0x3A ? "TOML joins key and value by '='" : nil)
    return false
  }

  mutating func report(_ conflict: TableBuilder.Conflict) {
    var hints: [String] = []
    if let earlier = conflict.earlier {
      hints.append("first on line \(scanner.source.line(at: earlier.start))")
    }
    if let hint = conflict.hint { hints.append(hint) }
    scanner.error(
      conflict.message, at: conflict.at,
      hint: hints.isEmpty ? nil : hints.joined(separator: "; "))
  }

  // MARK: Keys

  enum PathPlace { case header, pair, inline }

  /// Reads a dotted key and the blanks behind it; nil, and reported, when there is none.
  mutating func parsePath(_ place: PathPlace) -> [PathPart]? {
    var path: [PathPart] = []
    repeat {
      scanner.skipBlanks()
      guard let part = parsePart(place) else { return nil }
      path.append(part)
      scanner.skipBlanks()
    } while scanner.take(0x2E)
    return path
  }

  private mutating func parsePart(_ place: PathPlace) -> PathPart? {
    let start = scanner.offset
    if let byte = scanner.peek(), byte == 0x22 || byte == 0x27 {
      if scanner.starts(with: "\"\"\"") || scanner.starts(with: "'''") {
        scanner.error(
          "a multi-line string cannot be a key",
          at: SourceSpan(start: start, end: start + 3))
        return nil
      }
      guard case .text(let text) = scanner.readSingleLineString() else { return nil }
      return PathPart(key: TOMLKey(text), span: scanner.span(from: start))
    }
    while let byte = scanner.peek(), Self.isBareKeyOctet(byte) { scanner.advance() }
    let span = scanner.span(from: start)
    if span.start < span.end, endsKey(place) {
      return PathPart(key: TOMLKey(scanner.text(span)), span: span)
    }
    reportBadKey(isEmpty: span.start == span.end)
    return nil
  }

  /// Whether what is at the cursor may follow a bare key, or is an error of its own.
  private func endsKey(_ place: PathPlace) -> Bool {
    guard let byte = scanner.peek(), scanner.lineEndOctets == 0 else { return true }
    return byte < 0x80 && !Scanner.isForbiddenControl(byte)
      && (byte <= 0x20 || [0x2E, 0x3D, 0x5D, 0x3A, 0x7D, 0x2C, 0x23].contains(byte))
  }

  private mutating func reportBadKey(isEmpty: Bool) {
    let span = pointer
    guard let byte = scanner.peek(), scanner.lineEndOctets == 0 else {
      scanner.error("expected a key", at: span)
      return
    }
    if Scanner.isForbiddenControl(byte) {
      scanner.error("unexpected \(Scanner.controlName(byte))", at: span)
    } else if isEmpty, byte < 0x80 {
      scanner.error("expected a key, found \(quoted(span))", at: span)
    } else {
      scanner.error(
        "a key cannot contain \(quoted(span))", at: span,
        hint: "put the key into quotation marks")
    }
  }

  static func isBareKeyOctet(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: return true
    default: return false
    }
  }

  // MARK: Pointing

  /// Where to point at for "expected … here": the scalar at the cursor, or nothing at a line's end.
  var pointer: SourceSpan {
    if scanner.isAtEnd || scanner.lineEndOctets > 0 {
      return SourceSpan(start: scanner.offset, end: scanner.offset)
    }
    return scanner.scalarSpan
  }

  func quoted(_ span: SourceSpan) -> String { scanner.text(span).quotedForMessage }
}
