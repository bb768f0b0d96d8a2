// A strict reader of JSON (RFC 8259), so that what the daemon writes is read by other code than its
// own: no leniency, every control character in a string refused, no key twice in an object.

package indirect enum JSONValue: Equatable {
  case null
  case bool(Bool)
  /// As it stands.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// A member of an object, nil of anything else.
  package subscript(name: String) -> JSONValue? {
    if case .object(let members) = self { members[name] } else { nil }
  }

  /// An element of an array, nil of anything else.
  package subscript(index: Int) -> JSONValue? {
    if case .array(let elements) = self, elements.indices ~= index { elements[index] } else { nil }
  }

  /// Reads one value with white space around it; nil when the text is anything else.
  package init?(_ text: String) {
    var reader = JSONReader(scalars: Array(text.unicodeScalars))
    guard let value = reader.value() else { return nil }
    reader.skipBlanks()
    guard reader.peek == nil else { return nil }
    self = value
  }
}

private struct JSONReader {
  let scalars: [Unicode.Scalar]
  var place = 0

  var peek: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

  mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    place += 1
    return true
  }

  mutating func take(word: String) -> Bool { word.unicodeScalars.allSatisfy { take($0) } }

  mutating func skipBlanks() {
    while let scalar = peek, [" ", "\t", "\n", "\r"].contains(scalar) { place += 1 }
  }

  mutating func value() -> JSONValue? {
    skipBlanks()
    switch peek {
    case "{": return object()
    case "[": return array()
    case "\"": return string().map { .string($0) }
    case "t": return take(word: "true") ? .bool(true) : nil
    case "f": return take(word: "false") ? .bool(false) : nil
    case "n": return take(word: "null") ? .null : nil
    default: return number()
    }
  }

  mutating func object() -> JSONValue? {
    guard take("{") else { return nil }
    var members: [String: JSONValue] = [:]
    skipBlanks()
    if take("}") { return .object(members) }
    repeat {
      skipBlanks()
      guard let name = string(), members[name] == nil else { return nil }
      skipBlanks()
      guard take(":"), let value = value() else { return nil }
      members[name] = value
      skipBlanks()
    } while take(",")
    return take("}") ? .object(members) : nil
  }

  mutating func array() -> JSONValue? {
    guard take("[") else { return nil }
    var elements: [JSONValue] = []
    skipBlanks()
    if take("]") { return .array(elements) }
    repeat {
      guard let value = value() else { return nil }
      elements.append(value)
      skipBlanks()
    } while take(",")
    return take("]") ? .array(elements) : nil
  }

  mutating func string() -> String? {
    guard take("\"") else { return nil }
    var result = ""
    while let scalar = peek, scalar.value >= 0x20 {
      place += 1
      switch scalar {
      case "\"": return result
      case "\\":
        guard let escaped = escape() else { return nil }
        result.unicodeScalars.append(escaped)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return nil
  }

  /// Surrogate pairs are refused: nothing here writes them.
  mutating func escape() -> Unicode.Scalar? {
    guard let scalar = peek else { return nil }
    place += 1
    switch scalar {
    case "\"", "\\", "/": return scalar
    case "b": return "\u{8}"
    case "f": return "\u{c}"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "u":
      guard place + 4 <= scalars.count else { return nil }
      var digits = ""
      digits.unicodeScalars.append(contentsOf: scalars[place..<place + 4])
      place += 4
      guard digits.allSatisfy(\.isHexDigit) else { return nil }
      return UInt32(digits, radix: 16).flatMap(Unicode.Scalar.init)
    default: return nil
    }
  }

  mutating func number() -> JSONValue? {
    let start = place
    _ = take("-")
    guard !take("0") else { return fraction(from: start) }
    guard digits() > 0 else { return nil }
    return fraction(from: start)
  }

  mutating func fraction(from start: Int) -> JSONValue? {
    if take("."), digits() == 0 { return nil }
    if take("e") || take("E") {
      if !take("-") { _ = take("+") }
      if digits() == 0 { return nil }
    }
    var text = ""
    text.unicodeScalars.append(contentsOf: scalars[start..<place])
    return .number(text)
  }

  mutating func digits() -> Int {
    let start = place
    while let scalar = peek, "0"..."9" ~= scalar { place += 1 }
    return place - start
  }
}
