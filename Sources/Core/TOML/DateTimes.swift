// Dates and times (TOML 1.0, "Offset Date-Time" to "Local Time"; RFC 3339 §5.6).
//
// Field widths are fixed, so reading is a walk over a word with a fixed order of questions. Dates are
// checked against the Gregorian calendar, seconds up to the leap second 60. Nothing is converted:
// an instant keeps the offset that it was written with.

struct DateTimeReader {
  private var rest: ArraySlice<UInt8>

  /// Whether a word begins like a date (`1979-`) or a time (`07:`).
  static func isMeant(_ word: ArraySlice<UInt8>) -> Bool {
    let digits = word.prefix(while: NumberReader.isDigit).count
    guard digits > 0, word.count > digits else { return false }
    let next = word[word.startIndex + digits]
    return (next == 0x2D && digits > 1) || next == 0x3A
  }

  /// Whether a word is exactly as long as a date and looks like one: a time may follow a blank.
  static func isDateAlone(_ word: ArraySlice<UInt8>) -> Bool {
    guard word.count == 10 else { return false }
    return zip(0..., word).allSatisfy { index, byte in
      index == 4 || index == 7 ? byte == 0x2D : NumberReader.isDigit(byte)
    }
  }

  static func read(_ word: ArraySlice<UInt8>) -> WordOutcome {
    var reader = DateTimeReader(rest: word)
    let digits = word.prefix(while: NumberReader.isDigit).count
    let isTime = digits < word.count && word[word.startIndex + digits] == 0x3A
    return isTime ? reader.readTimeOnly() : reader.readFromDate()
  }

  private mutating func readTimeOnly() -> WordOutcome {
    switch time() {
    case .failure(let mistake): return mistake.outcome
    case .success(let time):
      guard rest.isEmpty else { return Self.trailing }
      return .value(.localTime(time))
    }
  }

  private mutating func readFromDate() -> WordOutcome {
    let date: LocalDate
    switch self.date() {
    case .failure(let mistake): return mistake.outcome
    case .success(let read): date = read
    }
    if rest.isEmpty { return .value(.localDate(date)) }
    guard let separator = rest.popFirst(), [0x54, 0x74, 0x20].contains(separator) else {
      return .mistake("a date and a time are joined by T or one space", hint: Self.example)
    }
    let time: LocalTime
    switch self.time() {
    case .failure(let mistake): return mistake.outcome
    case .success(let read): time = read
    }
    let local = LocalDateTime(date: date, time: time)
    if rest.isEmpty { return .value(.localDateTime(local)) }
    guard let minutes = offset() else {
      return .mistake("this is no offset from UTC", hint: "expected Z, +hh:mm or -hh:mm")
    }
    guard rest.isEmpty else { return Self.trailing }
    return .value(.offsetDateTime(OffsetDateTime(local: local, offsetMinutes: minutes)))
  }

  private static let example = "such as 1979-05-27T07:32:00Z"
  private static var trailing: WordOutcome {
    .mistake("unexpected text after a date or time", hint: example)
  }

  private struct Mistake: Error {
    var message: String
    var hint: String?
    var outcome: WordOutcome { .mistake(message, hint: hint) }
  }

  private mutating func date() -> Result<LocalDate, Mistake> {
    guard let year = number(4), take(0x2D), let month = number(2), take(0x2D), let day = number(2)
    else {
      return .failure(
        Mistake(message: "malformed date", hint: "expected year-month-day, 1979-05-27"))
    }
    guard (1...12).contains(month) else {
      return .failure(Mistake(message: "there is no month \(month)", hint: "expected 01 to 12"))
    }
    let last = Self.dayCount(year: year, month: month)
    guard (1...last).contains(day) else {
      return .failure(
        Mistake(message: "this month has no day \(day)", hint: "expected 01 to \(last)"))
    }
    return .success(LocalDate(year: year, month: month, day: day))
  }

  private mutating func time() -> Result<LocalTime, Mistake> {
    guard let hour = number(2), take(0x3A), let minute = number(2), take(0x3A),
      let second = number(2)
    else {
      return .failure(
        Mistake(message: "malformed time", hint: "expected hour:minute:second, 07:32:00"))
    }
    guard hour <= 23, minute <= 59, second <= 60 else {
      return .failure(
        Mistake(message: "there is no such time of day", hint: "expected 00:00:00 to 23:59:60"))
    }
    var nanosecond = 0
    if take(0x2E) {
      let digits = rest.prefix(while: NumberReader.isDigit)
      guard !digits.isEmpty else {
        return .failure(Mistake(message: "a fraction of a second needs a digit", hint: nil))
      }
      rest = rest.dropFirst(digits.count)
      for index in 0..<9 {
        let digit = index < digits.count ? digits[digits.startIndex + index] - 0x30 : 0
        nanosecond = nanosecond * 10 + Int(digit)
      }
    }
    return .success(LocalTime(hour: hour, minute: minute, second: second, nanosecond: nanosecond))
  }

  /// Minutes ahead of UTC; nil when malformed.
  private mutating func offset() -> Int? {
    guard let sign = rest.popFirst() else { return nil }
    if sign == 0x5A || sign == 0x7A { return 0 }
    guard sign == 0x2B || sign == 0x2D, let hour = number(2), take(0x3A), let minute = number(2),
      hour <= 23, minute <= 59
    else { return nil }
    let minutes = hour * 60 + minute
    return sign == 0x2D ? -minutes : minutes
  }

  /// Exactly `width` digits, and no further one.
  private mutating func number(_ width: Int) -> Int? {
    let digits = rest.prefix(while: NumberReader.isDigit)
    guard digits.count == width else { return nil }
    rest = rest.dropFirst(width)
    return digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard rest.first == byte else { return false }
    rest.removeFirst()
    return true
  }

  private static func dayCount(year: Int, month: Int) -> Int {
    switch month {
    case 2: return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
    case 4, 6, 9, 11: return 30
    default: return 31
    }
  }
}
