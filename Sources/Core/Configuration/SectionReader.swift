// Typed reading of a table's keys, with the message for each way it can fail.
//
// Every reading function answers nil for "not there" and for "there, but wrong and reported": the
// caller goes on with a default either way, since a file with an error yields no configuration. A
// value that the TOML parser could not read is passed over: its error has been reported already.

import Primitives
import TOML

/// A table with the name that messages call it by.
struct Section {
  let table: TOMLTable
  /// "[device]"
  let place: String
  /// Where the table is opened.
  let span: SourceSpan

  subscript(_ key: String) -> TOMLEntry? { table[TOMLKey(key)] }
}

/// A string and where it stands.
struct Spelled {
  let text: String
  let span: SourceSpan
  /// Offset of the string's first octet when it stands in the file as it is, without escapes.
  let contentStart: Int?

  /// The place of some of the string's octets; of the whole string when escapes blur it.
  func span(_ octets: Range<Int>) -> SourceSpan {
    guard let contentStart else { return span }
    return SourceSpan(
      start: contentStart + octets.lowerBound, end: contentStart + octets.upperBound)
  }
}

struct SectionReader {
  var log: DiagnosticLog

  // MARK: Keys

  /// Reports every key that is not known: as unknown, as one of a later version, or as one that
  /// cannot have a default.
  mutating func checkKeys(
    of section: Section, known: [String], later: [String] = [], withoutDefault: [String] = []
  ) {
    for entry in section.table.entries where !known.contains(entry.key.text) {
      let name = entry.key.text.quotedForMessage
      if later.contains(entry.key.text) {
        log.error("\(name) is not supported by this version", at: entry.keySpan)
      } else if withoutDefault.contains(entry.key.text) {
        log.error("\(name) has no default: every rule has its own", at: entry.keySpan)
      } else {
        log.error(
          "unknown key \(name) in \(section.place)", at: entry.keySpan,
          hint: Spelling.suggestion(for: entry.key.text, among: known)
            ?? "expected one of: \(known.joined(separator: ", "))")
      }
    }
  }

  /// Reports a key that must be there; not when it was lost to a reported error, or misspelt.
  mutating func missing(
    _ key: String, in section: Section, known: [String], example: String
  ) {
    guard section[key] == nil, !section.table.isDamaged else { return }
    let isMisspelt = section.table.entries.contains { entry in
      !known.contains(entry.key.text) && Spelling.nearest(to: entry.key.text, among: known) == key
    }
    guard !isMisspelt else { return }
    log.error(
      "\(section.place) lacks '\(key)'", at: section.span, hint: "such as \(key) = \(example)")
  }

  mutating func expected(_ what: String, at value: TOMLValue) {
    if case .invalid = value.content { return }
    log.error("expected \(what), found \(value.kind)", at: value.span)
  }

  // MARK: Strings

  mutating func string(_ key: String, in section: Section, example: String) -> Spelled? {
    section[key].flatMap { spelled($0.value, expected: "a string such as \"\(example)\"") }
  }

  /// A string, or an array of strings.
  mutating func strings(_ key: String, in section: Section, example: String) -> [Spelled] {
    guard let value = section[key]?.value else { return [] }
    guard case .array(let elements) = value.content else {
      let expectation = "a string such as \"\(example)\", or an array of such"
      return spelled(value, expected: expectation).map { [$0] } ?? []
    }
    return elements.compactMap { spelled($0, expected: "a string such as \"\(example)\"") }
  }

  private mutating func spelled(_ value: TOMLValue, expected what: String) -> Spelled? {
    guard case .string(let text) = value.content else {
      expected(what, at: value)
      return nil
    }
    let content = value.span.start + 1..<max(value.span.start + 1, value.span.end - 1)
    let isVerbatim = log.source.bytes[content].elementsEqual(text.utf8)
    return Spelled(
      text: text, span: value.span, contentStart: isVerbatim ? content.lowerBound : nil)
  }

  /// One of a fixed set of words.
  mutating func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, in section: Section, _: Choice.Type
  ) -> Choice? where Choice.RawValue == String {
    let words = Choice.allCases.map(\.rawValue)
    guard let spelled = string(key, in: section, example: words.first ?? "") else { return nil }
    if let choice = Choice(rawValue: spelled.text) { return choice }
    unknownWord(spelled, for: key, among: words)
    return nil
  }

  mutating func unknownWord(_ spelled: Spelled, for key: String, among words: [String]) {
    let known = words.map { "\"\($0)\"" }.joined(separator: ", ")
    log.error(
      "\(spelled.text.quotedForMessage) is no value of '\(key)'", at: spelled.span,
      hint: Spelling.suggestion(for: spelled.text, among: words) ?? "expected one of: \(known)")
  }

  // MARK: Numbers and switches

  mutating func integer(
    _ key: String, in section: Section, _ range: ClosedRange<Int>
  ) -> Int? {
    guard let value = section[key]?.value else { return nil }
    guard case .integer(let number) = value.content else {
      expected("an integer from \(range.lowerBound) to \(range.upperBound)", at: value)
      return nil
    }
    guard let exact = Int(exactly: number), range.contains(exact) else {
      log.error(
        "'\(key)' is out of range", at: value.span,
        hint: "expected \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return exact
  }

  mutating func boolean(_ key: String, in section: Section) -> Bool? {
    guard let value = section[key]?.value else { return nil }
    guard case .boolean(let flag) = value.content else {
      expected("true or false", at: value)
      return nil
    }
    return flag
  }

  mutating func duration(
    _ key: String, in section: Section, _ range: ClosedRange<Interval>, example: String
  ) -> Interval? {
    guard let spelled = string(key, in: section, example: example) else { return nil }
    let name = spelled.text.quotedForMessage
    switch Quantities.duration(spelled.text) {
    case .value(let interval) where range.contains(interval):
      return interval
    case .value, .tooLarge:
      let low = Quantities.text(range.lowerBound)
      let high = Quantities.text(range.upperBound)
      log.error(
        "'\(key)' is out of range", at: spelled.span, hint: "expected \(low) to \(high)")
    case .malformed:
      log.error("\(name) is not a duration", at: spelled.span, hint: "such as \"\(example)\"")
    case .unknownUnit(let unit):
      let units = Quantities.durationUnits.joined(separator: ", ")
      log.error(
        "\(unit.quotedForMessage) is not a unit of time", at: spelled.span,
        hint: "expected one of: \(units)")
    }
    return nil
  }

  // MARK: Tables

  /// A table of the document's top level, or of another table.
  mutating func section(_ key: String, in table: TOMLTable, place: String) -> Section? {
    guard let entry = table[TOMLKey(key)] else { return nil }
    guard case .table(let inner) = entry.value.content else {
      if case .array = entry.value.content, place.hasPrefix("[") {
        log.error(
          "\(place) stands once", at: entry.keySpan, hint: "written with one bracket on each side")
      } else {
        expected("a table", at: entry.value)
      }
      return nil
    }
    return Section(table: inner, place: place, span: entry.value.span)
  }
}
