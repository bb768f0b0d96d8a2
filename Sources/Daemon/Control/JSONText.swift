// JSON text (RFC 8259), written front to back.
//
// The caller opens and closes; commas are put here. Strings come from configurations, host names and
// addresses, so every one is escaped. Nothing is parsed, nothing is pretty-printed.

package struct JSONText: Sendable {
  package private(set) var text = ""
  private var needsComma = false

  package init() {}

  package mutating func object(_ body: (inout JSONText) -> Void) {
    separate()
    text += "{"
    needsComma = false
    body(&self)
    text += "}"
    needsComma = true
  }

  package mutating func array<Elements: Sequence>(
    _ elements: Elements, _ body: (inout JSONText, Elements.Element) -> Void
  ) {
    separate()
    text += "["
    needsComma = false
    for element in elements { body(&self, element) }
    text += "]"
    needsComma = true
  }

  /// The next value's name in the object that is open.
  package mutating func key(_ name: String) {
    separate()
    quote(name)
    text += ":"
    needsComma = false
  }

  package mutating func value(_ string: String) {
    separate()
    quote(string)
    needsComma = true
  }

  package mutating func value(_ number: some FixedWidthInteger) {
    separate()
    text += String(number)
    needsComma = true
  }

  package mutating func value(_ flag: Bool) {
    separate()
    text += flag ? "true" : "false"
    needsComma = true
  }

  package mutating func null() {
    separate()
    text += "null"
    needsComma = true
  }

  package mutating func member(_ name: String, _ string: String) {
    key(name)
    value(string)
  }

  package mutating func member(_ name: String, _ number: some FixedWidthInteger) {
    key(name)
    value(number)
  }

  package mutating func member(_ name: String, _ flag: Bool) {
    key(name)
    value(flag)
  }

  private mutating func separate() {
    if needsComma { text += "," }
    needsComma = false
  }

  /// Escapes what RFC 8259 §7 requires, and U+007F, which terminals act on.
  private mutating func quote(_ string: String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7f {
          let digits = String(scalar.value, radix: 16)
          text += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
        } else {
          text.unicodeScalars.append(scalar)
        }
      }
    }
    text += "\""
  }
}
