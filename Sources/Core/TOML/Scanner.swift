// The octets of a document under a cursor, with the errors found so far.
//
// Lowest layer of the parser: knows octets, blanks, line ends and comments, nothing of keys and
// values. All reads are bounds-checked and answer nil at the end, so no input leads to a trap. The
// cursor only ever moves forward, but for bounded look-ahead on one line: time is linear in the
// document.
//
// One error is reported per line. What follows a mistake on its line is mostly its echo.

struct Scanner {
  let source: SourceText
  private(set) var log: DiagnosticLog
  /// Offset of the next octet.
  private(set) var offset: Int
  /// Offset of the first octet that is not looked at.
  let end: Int
  private var reportedLines: Set<Int> = []

  init(_ source: SourceText) {
    self.source = source
    log = DiagnosticLog(source: source)
    end = source.bytes.count
    // A byte order mark at the very start says "UTF-8" and nothing else.
    offset = source.bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
  }

  // MARK: Reading

  var isAtEnd: Bool { offset >= end }

  /// The octet `distance` ahead, nil past the end.
  func peek(_ distance: Int = 0) -> UInt8? {
    let index = offset + distance
    return index < end ? source.bytes[index] : nil
  }

  mutating func advance(_ count: Int = 1) { offset = min(offset + count, end) }

  /// Moves forward to an offset that was found by looking ahead.
  mutating func advance(to offset: Int) { self.offset = min(max(offset, self.offset), end) }

  /// Consumes the octet if it is next.
  mutating func take(_ byte: UInt8) -> Bool {
    guard peek() == byte else { return false }
    advance()
    return true
  }

  func starts(with text: StaticString) -> Bool {
    text.withUTF8Buffer { wanted in
      guard end - offset >= wanted.count else { return false }
      return source.bytes[offset..<offset + wanted.count].elementsEqual(wanted)
    }
  }

  /// The octets from an earlier offset to the cursor.
  func span(from start: Int) -> SourceSpan { SourceSpan(start: start, end: offset) }

  /// The whole scalar at the cursor, for pointing at it; empty at the end.
  var scalarSpan: SourceSpan {
    var stop = min(offset + 1, end)
    while stop < end, source.bytes[stop] & 0xC0 == 0x80, stop - offset < 4 { stop += 1 }
    return SourceSpan(start: offset, end: stop)
  }

  func text(_ span: SourceSpan) -> String {
    String(decoding: source.bytes[span.start..<span.end], as: UTF8.self)
  }

  // MARK: Blanks, line ends, comments

  mutating func skipBlanks() {
    while let byte = peek(), byte == 0x20 || byte == 0x09 { advance() }
  }

  /// Length of the line end at the cursor: LF 1, CRLF 2, none 0.
  var lineEndOctets: Int {
    switch peek() {
    case 0x0A: return 1
    case 0x0D: return peek(1) == 0x0A ? 2 : 0
    default: return 0
    }
  }

  mutating func takeLineEnd() -> Bool {
    let octets = lineEndOctets
    advance(octets)
    return octets > 0
  }

  /// Consumes a comment, if one is next, up to its line end. Control characters in it are errors.
  mutating func skipComment() {
    guard peek() == 0x23 else { return }
    while let byte = peek(), lineEndOctets == 0 {
      if Self.isForbiddenControl(byte) {
        error("a comment must not contain \(Self.controlName(byte))", at: scalarSpan)
      }
      advance()
    }
  }

  /// Consumes blanks, comments and line ends.
  mutating func skipBlankLines() {
    repeat {
      skipBlanks()
      skipComment()
    } while takeLineEnd()
  }

  /// Moves behind the next line end; recovery after an error.
  mutating func skipLine() {
    while !isAtEnd {
      if takeLineEnd() { return }
      advance()
    }
  }

  /// Control characters that TOML allows nowhere but as an escape: all but tab; line ends have been
  /// dealt with by who asks.
  static func isForbiddenControl(_ byte: UInt8) -> Bool {
    (byte < 0x20 && byte != 0x09) || byte == 0x7F
  }

  static func controlName(_ byte: UInt8) -> String {
    switch byte {
    case 0x0D: return "a carriage return without a line feed"
    case 0x00: return "a NUL octet"
    default:
      let digits = String(byte, radix: 16, uppercase: true)
      return "the control character U+00" + (byte < 0x10 ? "0" : "") + digits
    }
  }

  // MARK: Errors

  mutating func error(_ message: String, at span: SourceSpan, hint: String? = nil) {
    guard reportedLines.insert(source.line(at: span.start)).inserted else { return }
    log.error(message, at: span, hint: hint)
  }

  /// Reports every line that has octets which are no UTF-8 (Unicode 15, table 3-7).
  mutating func checkEncoding() {
    let bytes = source.bytes
    var index = 0
    while index < bytes.count {
      if bytes[index] < 0x80 {
        index += 1
        continue
      }
      let octets = Self.scalarOctets(bytes, at: index)
      if octets == 0 {
        let digits = String(bytes[index], radix: 16, uppercase: true)
        error(
          "octet 0x\(digits) is not valid UTF-8 here", at: SourceSpan(start: index, end: index + 1),
          hint: "a TOML document is UTF-8 text")
      }
      index += max(octets, 1)
    }
  }

  /// Octets of the well-formed multi-octet scalar at `index`, or 0.
  private static func scalarOctets(_ bytes: [UInt8], at index: Int) -> Int {
    func continues(_ distance: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> Bool {
      index + distance < bytes.count && range.contains(bytes[index + distance])
    }
    switch bytes[index] {
    case 0xC2...0xDF: return continues(1) ? 2 : 0
    case 0xE0: return continues(1, 0xA0...0xBF) && continues(2) ? 3 : 0
    case 0xED: return continues(1, 0x80...0x9F) && continues(2) ? 3 : 0
    case 0xE1...0xEF: return continues(1) && continues(2) ? 3 : 0
    case 0xF0: return continues(1, 0x90...0xBF) && continues(2) && continues(3) ? 4 : 0
    case 0xF1...0xF3: return continues(1) && continues(2) && continues(3) ? 4 : 0
    case 0xF4: return continues(1, 0x80...0x8F) && continues(2) && continues(3) ? 4 : 0
    default: return 0
    }
  }
}
