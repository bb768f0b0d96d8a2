#if PLANTED_FAULTS
  import Primitives
#endif

/// A TCP sequence number (RFC 9293 §3.4). Not `Comparable`: order modulo 2³² is not total.
@usableFromInline package struct SequenceNumber: Hashable, Sendable, BitwiseCopyable {
  @usableFromInline package var rawValue: UInt32

  @inlinable package init(_ rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable package static func == (a: Self, b: Self) -> Bool { a.rawValue == b.rawValue }

  /// Whether this number lies in the half of the space before `other`.
  @inlinable package func precedes(_ other: Self) -> Bool {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.comparesSequencesPlainly) { return rawValue < other.rawValue }
    #endif
    return Int32(bitPattern: rawValue &- other.rawValue) < 0
  }

  @inlinable package func precedesOrEquals(_ other: Self) -> Bool {
    Int32(bitPattern: rawValue &- other.rawValue) <= 0
  }

  /// Octets from `earlier` to this number, modulo 2³²: negative when `earlier` is the later one.
  @inlinable package func distance(from earlier: Self) -> Int {
    Int(Int32(bitPattern: rawValue &- earlier.rawValue))
  }

  @inlinable package static func + (number: Self, octets: Int) -> Self {
    Self(number.rawValue &+ UInt32(truncatingIfNeeded: octets))
  }

  @inlinable package static func - (number: Self, octets: Int) -> Self {
    Self(number.rawValue &- UInt32(truncatingIfNeeded: octets))
  }
}
