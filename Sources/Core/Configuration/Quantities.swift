// Durations and sizes as text with a unit: "250ms", "2h", "64KiB".
//
// One whole number, one unit, nothing between them: no default unit to misremember, no fractions, no
// sums. Sizes know the binary units only; "64KB" would be 64 000 to some and 65 536 to others.

import Primitives

/// What reading a quantity came to.
package enum QuantityOutcome<Value: Equatable & Sendable>: Equatable, Sendable {
  case value(Value)
  /// Not a number with a unit at all.
  case malformed
  /// A number, followed by something that is no unit.
  case unknownUnit(String)
  case tooLarge
}

/// Reads quantities.
package enum Quantities {
  static let durationUnits = ["us", "ms", "s", "m", "h", "d"]
  static let sizeUnits = ["B", "KiB", "MiB", "GiB"]

  package static func duration(_ text: String) -> QuantityOutcome<Interval> {
    let factors: [String: Int64] = [
      "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
      "h": 3_600_000_000_000, "d": 86_400_000_000_000,
    ]
    return scaled(text, by: factors).map { Interval(nanoseconds: $0) }
  }

  /// In octets.
  package static func size(_ text: String) -> QuantityOutcome<Int> {
    scaled(text, by: ["B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30]).map { Int($0) }
  }

  private static func scaled(_ text: String, by factors: [String: Int64]) -> QuantityOutcome<Int64>
  {
    let digits = text.utf8.prefix { $0 >= 0x30 && $0 <= 0x39 }
    guard !digits.isEmpty else { return .malformed }
    let unit = String(text.utf8.dropFirst(digits.count)) ?? ""
    guard !unit.isEmpty, unit.unicodeScalars.allSatisfy(\.properties.isAlphabetic) else {
      return .malformed
    }
    guard let factor = factors[unit] else { return .unknownUnit(unit) }
    guard let number = Int64(String(digits) ?? "") else { return .tooLarge }
    let (product, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? .tooLarge : .value(product)
  }

  /// The shortest text that reads back as the interval, for messages.
  package static func text(_ interval: Interval) -> String {
    let units: [(String, Int64)] = [
      ("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000),
      ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000),
    ]
    for (unit, factor) in units
    where interval.nanoseconds != 0 && interval.nanoseconds % factor == 0 {
      return "\(interval.nanoseconds / factor)\(unit)"
    }
    return interval.nanoseconds == 0 ? "0s" : "\(interval.nanoseconds)ns"
  }
}

extension QuantityOutcome {
  func map<Other: Equatable & Sendable>(_ transform: (Value) -> Other) -> QuantityOutcome<Other> {
    switch self {
    case .value(let value): .value(transform(value))
    case .malformed: .malformed
    case .unknownUnit(let unit): .unknownUnit(unit)
    case .tooLarge: .tooLarge
    }
  }
}
