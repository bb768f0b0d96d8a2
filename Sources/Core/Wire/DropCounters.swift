// One counter per drop reason, in fixed storage: counting is an indexed add.

/// How often each `DropReason` occurred. Counters wrap after 2⁶⁴.
package struct DropCounters: Sendable, BitwiseCopyable {
  /// Room for more reasons than there are; a test holds the two together.
  package static let reasonsMax = 64

  @usableFromInline var counts: [64 of UInt64]

  package init() { counts = .init(repeating: 0) }

  @inlinable package subscript(reason: DropReason) -> UInt64 { counts[Int(reason.rawValue)] }

  /// Counts `occurrences` more discards.
  @inlinable package mutating func count(_ reason: DropReason, by occurrences: UInt64 = 1) {
    counts[Int(reason.rawValue)] &+= occurrences
  }

  /// Adds another worker's counters to these.
  package mutating func add(_ other: DropCounters) {
    for reason in DropReason.allCases { count(reason, by: other[reason]) }
  }

  /// All reasons together.
  package var total: UInt64 { DropReason.allCases.reduce(0) { $0 &+ self[$1] } }
}
