// What a document says: values, each with the place where it stands.
//
// A document with errors still has values: what could not be read is `.invalid`, and a table in which
// a key was lost is `isDamaged`. A reader can so check everything else in the same pass, and knows
// where a missing key may be the fault of an error that was already reported.

/// A TOML value and its place.
package struct TOMLValue: Sendable {
  package enum Content: Sendable {
    case string(String)
    case integer(Int64)
    case float(Double)
    case boolean(Bool)
    case offsetDateTime(OffsetDateTime)
    case localDateTime(LocalDateTime)
    case localDate(LocalDate)
    case localTime(LocalTime)
    case array([TOMLValue])
    case table(TOMLTable)
    /// Could not be read; the error has been reported.
    case invalid
  }

  package var content: Content
  package var span: SourceSpan

  package init(_ content: Content, span: SourceSpan) {
    self.content = content
    self.span = span
  }

  /// The kind of value with its article, for messages: "an integer".
  package var kind: String {
    switch content {
    case .string: return "a string"
    case .integer: return "an integer"
    case .float: return "a float"
    case .boolean: return "a boolean"
    case .offsetDateTime, .localDateTime: return "a date-time"
    case .localDate: return "a date"
    case .localTime: return "a time"
    case .array: return "an array"
    case .table: return "a table"
    case .invalid: return "something unreadable"
    }
  }
}

/// A key: equal when the scalars are equal. `String` compares by canonical equivalence, TOML does
/// not: U+00E9 and U+0065 U+0301 are two keys.
package struct TOMLKey: Hashable, Sendable, ExpressibleByStringLiteral {
  package let text: String

  package init(_ text: String) { self.text = text }
  package init(stringLiteral text: String) { self.text = text }

  package static func == (a: Self, b: Self) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

  package func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// One key of a table with its value.
package struct TOMLEntry: Sendable {
  package let key: TOMLKey
  package let keySpan: SourceSpan
  package let value: TOMLValue

  package init(key: TOMLKey, keySpan: SourceSpan, value: TOMLValue) {
    self.key = key
    self.keySpan = keySpan
    self.value = value
  }
}

/// A table: entries in the order of the document, found by key in constant time.
package struct TOMLTable: Sendable {
  package private(set) var entries: [TOMLEntry] = []
  private var indexByKey: [TOMLKey: Int] = [:]
  /// A key or a nested table of this one was lost to an error that has been reported.
  package var isDamaged: Bool

  package init(isDamaged: Bool = false) { self.isDamaged = isDamaged }

  package subscript(_ key: TOMLKey) -> TOMLEntry? { indexByKey[key].map { entries[$0] } }

  /// Returns the earlier entry, and changes nothing, when the key is already there.
  @discardableResult
  package mutating func insert(_ entry: TOMLEntry) -> TOMLEntry? {
    if let index = indexByKey[entry.key] { return entries[index] }
    indexByKey[entry.key] = entries.count
    entries.append(entry)
    return nil
  }
}

/// A date without a time zone (RFC 3339 full-date), checked against the calendar.
package struct LocalDate: Hashable, Sendable, BitwiseCopyable {
  package var year: Int
  package var month: Int
  package var day: Int
}

/// A time of day without a time zone (RFC 3339 partial-time). A second of 60 is a leap second.
package struct LocalTime: Hashable, Sendable, BitwiseCopyable {
  package var hour: Int
  package var minute: Int
  package var second: Int
  /// Digits beyond the ninth are cut off, as TOML allows.
  package var nanosecond: Int
}

package struct LocalDateTime: Hashable, Sendable, BitwiseCopyable {
  package var date: LocalDate
  package var time: LocalTime
}

/// An instant: local date and time with the minutes that local time is ahead of UTC.
package struct OffsetDateTime: Hashable, Sendable, BitwiseCopyable {
  package var local: LocalDateTime
  package var offsetMinutes: Int
}

extension LocalDate: CustomStringConvertible {
  package var description: String { "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))" }
}

extension LocalTime: CustomStringConvertible {
  package var description: String {
    let clock = "\(padded(hour, 2)):\(padded(minute, 2)):\(padded(second, 2))"
    guard nanosecond > 0 else { return clock }
    var fraction = padded(nanosecond, 9)
    while fraction.last == "0" { fraction.removeLast() }
    return clock + "." + fraction
  }
}

extension LocalDateTime: CustomStringConvertible {
  package var description: String { "\(date)T\(time)" }
}

extension OffsetDateTime: CustomStringConvertible {
  package var description: String {
    if offsetMinutes == 0 { return "\(local)Z" }
    let minutes = abs(offsetMinutes)
    let sign = offsetMinutes < 0 ? "-" : "+"
    return "\(local)\(sign)\(padded(minutes / 60, 2)):\(padded(minutes % 60, 2))"
  }
}

private func padded(_ number: Int, _ width: Int) -> String {
  let digits = String(number)
  return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
}
