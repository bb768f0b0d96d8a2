// Integers, floats and booleans: the values written as a bare word (TOML 1.0, "Integer", "Float").
//
// A bare word is classified whole: first the parser cuts it out up to a blank, comma, bracket or
// line end, then it is read here. So "12abc" is one mistake, not a number and an echo. The standard
// library does the rounding of floats, but only sees text that TOML's own grammar has passed.

/// What a bare word came to: a value, or what is wrong with it.
enum WordOutcome {
  case value(TOMLValue.Content)
  case mistake(String, hint: String?)
}

enum NumberReader {
  /// Octets of a number beyond which it is refused unread.
  static let octetCountMax = 1024

  /// Whether the word is meant as a number: it begins like one.
  static func isMeant(_ word: ArraySlice<UInt8>) -> Bool {
    var digits = word[...]
    if digits.first == 0x2B || digits.first == 0x2D { digits.removeFirst() }
    guard let first = digits.first else { return !word.isEmpty }
    return isDigit(first) || first == 0x2E || digits.elementsEqual("inf".utf8)
      || digits.elementsEqual("nan".utf8)
  }

  static func read(_ word: ArraySlice<UInt8>) -> WordOutcome {
    guard word.count <= octetCountMax else {
      return .mistake("a number of more than \(octetCountMax) characters", hint: nil)
    }
    var digits = word[...]
    let sign = digits.first
    let isSigned = sign == 0x2B || sign == 0x2D
    if isSigned { digits.removeFirst() }
    let isNegative = sign == 0x2D
    if digits.elementsEqual("inf".utf8) {
      return .value(.float(isNegative ? -.infinity : .infinity))
    }
    if digits.elementsEqual("nan".utf8) { return .value(.float(.nan)) }
    if digits.first == 0x30, let letter = digits.dropFirst().first, let radix = radix(letter) {
      if isSigned {
        return .mistake("a number in base \(radix) has no sign", hint: nil)
      }
      return integer(digits.dropFirst(2), radix: radix, isNegative: false)
    }
    if digits.contains(where: { $0 == 0x2E || $0 == 0x65 || $0 == 0x45 }) {
      return float(digits, isNegative: isNegative)
    }
    if digits.count > 1, digits.first == 0x30 {
      return .mistake("a number must not begin with a zero", hint: octalHint(digits))
    }
    return integer(digits, radix: 10, isNegative: isNegative)
  }

  private static func radix(_ letter: UInt8) -> Int? {
    switch letter {
    case 0x78: return 16
    case 0x6F: return 8
    case 0x62: return 2
    default: return nil
    }
  }

  /// "0755" was meant as octal, "0XFF" as hexadecimal.
  private static func octalHint(_ digits: ArraySlice<UInt8>) -> String? {
    switch digits.dropFirst().first {
    case 0x58, 0x4F, 0x42: return "the base is a small letter: 0x, 0o or 0b"
    default:
      return digits.allSatisfy { $0 >= 0x30 && $0 <= 0x37 } ? "octal numbers begin with 0o" : nil
    }
  }

  private static func integer(
    _ digits: ArraySlice<UInt8>, radix: Int, isNegative: Bool
  ) -> WordOutcome {
    let mistake = underscoreMistake(digits) { Scanner.hexadecimalValue($0) != nil }
    if let mistake { return mistake }
    var value: Int64 = 0
    var count = 0
    for byte in digits where byte != 0x5F {
      guard let digit = Scanner.hexadecimalValue(byte), Int(digit) < radix else {
        let scalar = String(decoding: digits, as: UTF8.self).quotedForMessage
        return .mistake(
          "\(scalar) is not a number", hint: radix == 10 ? "strings need quotation marks" : nil)
      }
      count += 1
      let (scaled, overflow) = value.multipliedReportingOverflow(by: Int64(radix))
      // Accumulated on the side of the sign: the least integer has no positive counterpart.
      let (sum, carry) =
        isNegative
        ? scaled.subtractingReportingOverflow(Int64(digit))
        : scaled.addingReportingOverflow(Int64(digit))
      if overflow || carry {
        return .mistake(
          "this integer does not fit in 64 bits", hint: "expected \(Int64.min) to \(Int64.max)")
      }
      value = sum
    }
    guard count > 0 else { return .mistake("a number without digits", hint: nil) }
    return .value(.integer(value))
  }

  private static func float(_ digits: ArraySlice<UInt8>, isNegative: Bool) -> WordOutcome {
    if let mistake = underscoreMistake(digits, between: isDigit) { return mistake }
    let text = digits.filter { $0 != 0x5F }
    var rest = text[...]
    let whole = takeDigits(&rest)
    if whole.isEmpty { return .mistake("a float needs a digit before its point", hint: nil) }
    if whole.count > 1, whole.first == 0x30 {
      return .mistake("a number must not begin with a zero", hint: nil)
    }
    if rest.first == 0x2E {
      rest.removeFirst()
      if takeDigits(&rest).isEmpty {
        return .mistake("a float needs a digit after its point", hint: nil)
      }
    }
    if rest.first == 0x65 || rest.first == 0x45 {
      rest.removeFirst()
      if rest.first == 0x2B || rest.first == 0x2D { rest.removeFirst() }
      if takeDigits(&rest).isEmpty {
        return .mistake("a float needs a digit in its exponent", hint: nil)
      }
    }
    guard rest.isEmpty, let value = Double(String(decoding: text, as: UTF8.self)) else {
      let scalar = String(decoding: digits, as: UTF8.self).quotedForMessage
      return .mistake("\(scalar) is not a number", hint: "strings need quotation marks")
    }
    return .value(.float(isNegative ? -value : value))
  }

  /// Underscores may only stand between two digits of the number's kind.
  private static func underscoreMistake(
    _ digits: ArraySlice<UInt8>, between isDigit: (UInt8) -> Bool
  ) -> WordOutcome? {
    for index in digits.indices where digits[index] == 0x5F {
      let isAfterDigit = index > digits.startIndex && isDigit(digits[index - 1])
      let isBeforeDigit = index + 1 < digits.endIndex && isDigit(digits[index + 1])
      if !isAfterDigit || !isBeforeDigit {
        return .mistake("an underscore in a number stands between two digits", hint: nil)
      }
    }
    return nil
  }

  private static func takeDigits(_ rest: inout ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    let digits = rest.prefix(while: isDigit)
    rest = rest.dropFirst(digits.count)
    return digits
  }

  static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
}
