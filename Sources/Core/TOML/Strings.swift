// The four kinds of TOML string (TOML 1.0, "String").
//
// A string with a mistake inside (a bad escape, a control character) is read to its end all the same:
// the error is reported where it is, and the rest of the document keeps its meaning. Only a string
// that is never closed leaves the reader without a footing; see `StringOutcome.unclosed`.

/// What reading a string came to.
enum StringOutcome {
  case text(String)
  /// Read to its closing quotes, but wrong inside; reported.
  case malformed
  /// No closing quotes: the cursor is at the end of the line the string began on. Reported.
  case unclosed
}

extension Scanner {
  /// Reads the string at the cursor, which stands on a quotation mark of either kind.
  mutating func readString() -> StringOutcome {
    if starts(with: "\"\"\"") || starts(with: "'''") { return readMultiLineString() }
    return readSingleLineString()
  }

  mutating func readSingleLineString() -> StringOutcome {
    let start = offset
    let quote = peek() ?? 0
    advance()
    var octets: [UInt8] = []
    var isMalformed = false
    while let byte = peek(), lineEndOctets == 0 {
      if byte == quote {
        advance()
        return isMalformed ? .malformed : .text(String(decoding: octets, as: UTF8.self))
      }
      if byte == 0x5C, quote == 0x22 {
        if !readEscape(into: &octets) { isMalformed = true }
        continue
      }
      if !takeContent(byte, into: &octets) { isMalformed = true }
    }
    error(
      "this string is not closed", at: span(from: start),
      hint: "expected \(quote == 0x22 ? "\"" : "'") before the end of the line")
    return .unclosed
  }

  private mutating func readMultiLineString() -> StringOutcome {
    let start = offset
    let quote = peek() ?? 0
    advance(3)
    _ = takeLineEnd()
    var octets: [UInt8] = []
    var isMalformed = false
    while let byte = peek() {
      let lineEnd = lineEndOctets
      if lineEnd > 0 {
        octets.append(contentsOf: source.bytes[offset..<offset + lineEnd])
        advance(lineEnd)
      } else if byte == quote {
        if takeQuotes(quote, into: &octets) {
          return isMalformed ? .malformed : .text(String(decoding: octets, as: UTF8.self))
        }
      } else if byte == 0x5C, quote == 0x22 {
        if !takeLineContinuation(), !readEscape(into: &octets) { isMalformed = true }
      } else if !takeContent(byte, into: &octets) {
        isMalformed = true
      }
    }
    let opening = SourceSpan(start: start, end: start + 3)
    let quotes = quote == 0x22 ? "\"\"\"" : "'''"
    error(
      "this multi-line string is not closed", at: opening,
      hint: "expected \(quotes) before the end of the file")
    return .unclosed
  }

  /// At a quotation mark inside a multi-line string: up to two are content, three close, and up to
  /// two may stand directly before the closing three. True when the string is closed.
  private mutating func takeQuotes(_ quote: UInt8, into octets: inout [UInt8]) -> Bool {
    var run = 0
    while run < 5, peek(run) == quote { run += 1 }
    advance(run)
    octets.append(contentsOf: repeatElement(quote, count: run >= 3 ? run - 3 : run))
    return run >= 3
  }

  /// A backslash as the last thing on a line removes the line end and all blanks that follow.
  private mutating func takeLineContinuation() -> Bool {
    var distance = 1
    while let byte = peek(distance), byte == 0x20 || byte == 0x09 { distance += 1 }
    let isLineEnd = peek(distance) == 0x0A || (peek(distance) == 0x0D && peek(distance + 1) == 0x0A)
    guard isLineEnd else { return false }
    advance(distance)
    while takeLineEnd() { skipBlanks() }
    return true
  }

  /// Takes one octet of plain content. False, and reported, for a control character.
  private mutating func takeContent(_ byte: UInt8, into octets: inout [UInt8]) -> Bool {
    let isForbidden = Self.isForbiddenControl(byte)
    if isForbidden {
      let name = Self.controlName(byte)
      error(
        "a string must not contain \(name)", at: scalarSpan,
        hint: "write it as an escape in a string with double quotation marks")
    }
    octets.append(byte)
    advance()
    return !isForbidden
  }

  /// Reads an escape at the backslash under the cursor. False, and reported, when it is none.
  private mutating func readEscape(into octets: inout [UInt8]) -> Bool {
    let start = offset
    advance()
    switch peek() {
    case 0x62: octets.append(0x08)
    case 0x74: octets.append(0x09)
    case 0x6E: octets.append(0x0A)
    case 0x66: octets.append(0x0C)
    case 0x72: octets.append(0x0D)
    case 0x22: octets.append(0x22)
    case 0x5C: octets.append(0x5C)
    case 0x75: return readCodePoint(digits: 4, start: start, into: &octets)
    case 0x55: return readCodePoint(digits: 8, start: start, into: &octets)
    default:
      let scalar = lineEndOctets > 0 ? SourceSpan(start: offset, end: offset) : scalarSpan
      error(
        "unknown escape in a string", at: SourceSpan(start: start, end: scalar.end),
        hint: #"expected \b \t \n \f \r \" \\ \uXXXX or \UXXXXXXXX"#)
      return false
    }
    advance()
    return true
  }

  private mutating func readCodePoint(
    digits: Int, start: Int, into octets: inout [UInt8]
  ) -> Bool {
    advance()
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let byte = peek(), let digit = Self.hexadecimalValue(byte) else {
        error(
          "this escape needs \(digits) hexadecimal digits", at: span(from: start),
          hint: digits == 4 ? #"such as \u00E9"# : #"such as \U0001F600"#)
        return false
      }
      value = value << 4 | UInt32(digit)
      advance()
    }
    guard let scalar = Unicode.Scalar(value) else {
      error(
        "this escape names no Unicode scalar value", at: span(from: start),
        hint: "surrogates and values above 10FFFF are none")
      return false
    }
    octets.append(contentsOf: UTF8.encode(scalar)?.map { $0 } ?? [])
    return true
  }

  static func hexadecimalValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: return byte - 0x30
    case 0x41...0x46: return byte - 0x41 + 10
    case 0x61...0x66: return byte - 0x61 + 10
    default: return nil
    }
  }
}
