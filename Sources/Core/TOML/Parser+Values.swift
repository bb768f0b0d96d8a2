// Values: strings, bare words, arrays, inline tables.
//
// A value that cannot be read becomes `.invalid`, and the cursor stands where the enclosing array,
// table or line can go on. Arrays may span lines, so a missing bracket would swallow the rest of the
// document; a line that reads like a header or a pair ends the search and is parsed as what it is.

extension Parser {
  /// Reads the value behind '=', or an element. `depth` counts the tables and arrays around it.
  mutating func parseValue(depth: Int) -> TOMLValue {
    scanner.skipBlanks()
    let start = scanner.offset
    switch scanner.peek() {
    case 0x22, 0x27:
      let content: TOMLValue.Content
      switch scanner.readString() {
      case .text(let text): content = .string(text)
      case .malformed, .unclosed: content = .invalid
      }
      return TOMLValue(content, span: scanner.span(from: start))
    case 0x5B:
      return parseNested(depth: depth) { $0.parseArray(depth: depth) }
    case 0x7B:
      return parseNested(depth: depth) { $0.parseInlineTable(depth: depth) }
    case nil, 0x0A, 0x23, 0x2C, 0x5D, 0x7D:
      scanner.error("expected a value", at: pointer)
    default:
      if scanner.lineEndOctets > 0 {
        scanner.error("expected a value", at: pointer)
      } else {
        return parseWord()
      }
    }
    return TOMLValue(.invalid, span: scanner.span(from: start))
  }

  private mutating func parseNested(
    depth: Int, _ read: (inout Parser) -> TOMLValue.Content
  ) -> TOMLValue {
    let start = scanner.offset
    guard depth < TOMLDocument.depthMax else {
      scanner.error(
        "values are nested more than \(TOMLDocument.depthMax) deep", at: scanner.scalarSpan)
      // Reading on at this depth would recurse; the rest of the line is lost.
      while !scanner.isAtEnd, scanner.lineEndOctets == 0 { scanner.advance() }
      isAbandoned = true
      return TOMLValue(.invalid, span: scanner.span(from: start))
    }
    let content = read(&self)
    return TOMLValue(content, span: scanner.span(from: start))
  }

  // MARK: Bare words

  private mutating func parseWord() -> TOMLValue {
    let start = scanner.offset
    var word = cutWord()
    // A date and a time may be joined by one space.
    if DateTimeReader.isDateAlone(word), scanner.peek() == 0x20, let next = scanner.peek(1),
      NumberReader.isDigit(next)
    {
      scanner.advance()
      _ = cutWord()
      word = scanner.source.bytes[start..<scanner.offset]
    }
    if word.isEmpty {
      let found = scanner.scalarSpan
      let name = scanner.peek().flatMap {
        Scanner.isForbiddenControl($0) ? Scanner.controlName($0) : nil
      }
      scanner.error("expected a value, found \(name ?? quoted(found))", at: found)
      scanner.advance(to: found.end)
      return TOMLValue(.invalid, span: found)
    }
    let span = scanner.span(from: start)
    switch Self.read(word) {
    case .value(let content):
      return TOMLValue(content, span: span)
    case .mistake(let message, let hint):
      scanner.error(message, at: span, hint: hint)
      return TOMLValue(.invalid, span: span)
    }
  }

  /// Takes everything up to a blank, a line end, or a character that ends or begins a value.
  mutating func cutWord() -> ArraySlice<UInt8> {
    let start = scanner.offset
    while let byte = scanner.peek(), byte > 0x20, byte != 0x7F,
      ![0x2C, 0x5D, 0x7D, 0x5B, 0x7B, 0x23, 0x3D, 0x22, 0x27].contains(byte)
    {
      scanner.advance()
    }
    return scanner.source.bytes[start..<scanner.offset]
  }

  private static func read(_ word: ArraySlice<UInt8>) -> WordOutcome {
    if word.elementsEqual("true".utf8) { return .value(.boolean(true)) }
    if word.elementsEqual("false".utf8) { return .value(.boolean(false)) }
    if DateTimeReader.isMeant(word) { return DateTimeReader.read(word) }
    if NumberReader.isMeant(word) { return NumberReader.read(word) }
    let text = String(decoding: word.prefix(256), as: UTF8.self)
    let hint =
      Spelling.suggestion(for: text, among: ["true", "false", "inf", "nan"])
      ?? "strings need quotation marks"
    return .mistake("\(text.quotedForMessage) is not a value", hint: hint)
  }

  // MARK: Arrays

  private mutating func parseArray(depth: Int) -> TOMLValue.Content {
    let opening = scanner.scalarSpan
    scanner.advance()
    var elements: [TOMLValue] = []
    var isAfterElement = false
    while true {
      let isNewLine = skipBlankLines()
      guard let byte = scanner.peek(), !(isNewLine && looksLikeStatement()) else {
        abandon("this array is not closed", at: opening, hint: "expected ']'")
        return .invalid
      }
      switch byte {
      case 0x5D:
        scanner.advance()
        return .array(elements)
      case 0x2C:
        if !isAfterElement { scanner.error("expected a value before ','", at: scanner.scalarSpan) }
        scanner.advance()
        isAfterElement = false
      case 0x7D:
        scanner.error("unexpected '}' in an array", at: scanner.scalarSpan)
        scanner.advance()
      default:
        if isAfterElement {
          scanner.error(
            "expected ',' or ']' in an array, found \(quoted(scanner.scalarSpan))",
            at: scanner.scalarSpan)
          skip(toCommaOr: 0x5D)
          continue
        }
        elements.append(parseValue(depth: depth + 1))
        if isAbandoned { return .invalid }
        isAfterElement = true
      }
    }
  }

  // MARK: Inline tables

  private mutating func parseInlineTable(depth: Int) -> TOMLValue.Content {
    let opening = scanner.scalarSpan
    scanner.advance()
    let table = tables.beginInline(at: opening, depth: depth)
    var isAfterComma = false
    var isAfterPair = false
    while true {
      scanner.skipBlanks()
      if scanner.lineEndOctets > 0 || scanner.peek() == 0x23 {
        scanner.error(
          "an inline table stands on one line", at: pointer,
          hint: "expected '}' before the line's end")
        _ = skipBlankLines()
        let isContinued = scanner.peek() == 0x7D || scanner.peek() == 0x2C || !isAfterPair
        if !isContinued || scanner.peek() == 0x5B {
          isAbandoned = true
          return .invalid
        }
      }
      switch scanner.peek() {
      case nil:
        abandon("this inline table is not closed", at: opening, hint: "expected '}'")
        return .invalid
      case 0x7D:
        if isAfterComma {
          scanner.error("an inline table does not end with a comma", at: scanner.scalarSpan)
        }
        scanner.advance()
        return .table(tables.endInline(table))
      case 0x2C:
        if !isAfterPair { scanner.error("expected a key before ','", at: scanner.scalarSpan) }
        scanner.advance()
        isAfterComma = true
        isAfterPair = false
      default:
        if isAfterPair {
          scanner.error(
            "expected ',' or '}' in an inline table, found \(quoted(scanner.scalarSpan))",
            at: scanner.scalarSpan)
          skip(toCommaOr: 0x7D)
          continue
        }
        parseInlinePair(into: table, depth: depth)
        if isAbandoned { return .invalid }
        isAfterPair = true
        isAfterComma = false
      }
    }
  }

  private mutating func parseInlinePair(into table: Int, depth: Int) {
    guard let path = parsePath(.inline), expectEquals() else {
      tables.damage(table)
      skip(toCommaOr: 0x7D)
      return
    }
    let value = parseValue(depth: depth + path.count)
    guard !isAbandoned else { return }
    do throws(TableBuilder.Conflict) {
      try tables.insert(value, at: path, in: table)
    } catch {
      report(error)
    }
  }

  // MARK: Recovery

  /// Skips blanks, comments and line ends; true when a line end was among them.
  private mutating func skipBlankLines() -> Bool {
    let start = scanner.offset
    scanner.skipBlankLines()
    return scanner.source.bytes[start..<scanner.offset].contains(0x0A)
  }

  private mutating func abandon(_ message: String, at span: SourceSpan, hint: String) {
    scanner.error(message, at: span, hint: hint)
    isAbandoned = true
  }

  /// Moves to the next comma or closing character, or to the end of the line.
  private mutating func skip(toCommaOr closing: UInt8) {
    while let byte = scanner.peek(), byte != 0x2C, byte != closing, scanner.lineEndOctets == 0 {
      scanner.advance()
    }
  }

  /// Whether the line at the cursor, inside an array, can only be a statement: `key =`, `[table]`.
  private func looksLikeStatement() -> Bool {
    var distance = 0
    var brackets = 0
    while brackets < 2, scanner.peek(distance) == 0x5B {
      brackets += 1
      distance += 1
    }
    let start = scanner.offset + distance
    while let byte = scanner.peek(distance),
      Self.isBareKeyOctet(byte) || byte == 0x2E || byte == 0x20 || byte == 0x09
    {
      distance += 1
    }
    let word = scanner.source.bytes[start..<scanner.offset + distance]
      .prefix { $0 != 0x20 && $0 != 0x09 }
    guard let first = word.first else { return false }
    if brackets == 0 { return scanner.peek(distance) == 0x3D }
    // [true] and [1.5] are arrays; [device] is not a value of any kind.
    let isLetter = (first | 0x20) >= 0x61 && (first | 0x20) <= 0x7A
    guard isLetter,
      !["true", "false", "inf", "nan"].contains(where: { word.elementsEqual($0.utf8) })
    else { return false }
    for _ in 0..<brackets {
      guard scanner.peek(distance) == 0x5D else { return false }
      distance += 1
    }
    while let byte = scanner.peek(distance), byte == 0x20 || byte == 0x09 { distance += 1 }
    switch scanner.peek(distance) {
    case nil, 0x0A, 0x0D, 0x23: return true
    default: return false
    }
  }
}
