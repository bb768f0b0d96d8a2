// Flags in one integer, whose operations are that integer's wherever they are used.
//
// `OptionSet` reaches the integer through the type's conformance. A module other than the type's own
// does not see into that: each `contains` is then an indirect call, and each literal `[.a, .b]`
// allocates an array. What stands here takes the place of the standard library's for every type that
// says `FlagSet`, and is compiled to one instruction or two. It never asks the conformance: a type of
// one integer is that integer. None calls another one of these, for in a protocol's extension that would
// be a call by way of the conformance again. `@usableFromInline` lets other modules see the bodies.

/// An `OptionSet` for hot paths.
///
/// The type's only stored property is `rawValue`.
@usableFromInline package protocol FlagSet: OptionSet, BitwiseCopyable
where RawValue: FixedWidthInteger & BitwiseCopyable, Element == Self {}

extension FlagSet {
  @inlinable @inline(__always) var bits: RawValue {
    unsafeBitCast(self, to: RawValue.self)
  }

  @inlinable @inline(__always) init(bits: RawValue) {
    self = unsafeBitCast(bits, to: Self.self)
  }

  @inlinable @inline(__always) package init() { self.init(bits: 0) }

  @inlinable @inline(__always) package init(arrayLiteral elements: Self...) {
    var bits: RawValue = 0
    for element in elements { bits |= element.bits }
    self.init(bits: bits)
  }

  @inlinable @inline(__always) package var isEmpty: Bool { bits == 0 }

  @inlinable @inline(__always) package func contains(_ flags: Self) -> Bool {
    bits & flags.bits == flags.bits
  }

  @inlinable @inline(__always) package func isSuperset(of flags: Self) -> Bool {
    bits & flags.bits == flags.bits
  }

  @inlinable @inline(__always) package func isDisjoint(with flags: Self) -> Bool {
    bits & flags.bits == 0
  }

  @inlinable @inline(__always) package func union(_ flags: Self) -> Self {
    Self(bits: bits | flags.bits)
  }

  @inlinable @inline(__always) package func intersection(_ flags: Self) -> Self {
    Self(bits: bits & flags.bits)
  }

  @inlinable @inline(__always) package func subtracting(_ flags: Self) -> Self {
    Self(bits: bits & ~flags.bits)
  }

  @inlinable @inline(__always) package mutating func formUnion(_ flags: Self) {
    self = Self(bits: bits | flags.bits)
  }

  @inlinable @inline(__always) package mutating func formIntersection(_ flags: Self) {
    self = Self(bits: bits & flags.bits)
  }

  @inlinable @inline(__always) package mutating func subtract(_ flags: Self) {
    self = Self(bits: bits & ~flags.bits)
  }

  // With the standard library's results, without which its own would sometimes be preferred.

  @inlinable @inline(__always) @discardableResult package mutating func insert(
    _ flags: Self
  ) -> (inserted: Bool, memberAfterInsert: Self) {
    let isNew = bits & flags.bits != flags.bits
    self = Self(bits: bits | flags.bits)
    return (isNew, flags)
  }

  @inlinable @inline(__always) @discardableResult package mutating func remove(
    _ flags: Self
  ) -> Self? {
    let removed = bits & flags.bits
    self = Self(bits: bits & ~flags.bits)
    return removed == 0 ? nil : Self(bits: removed)
  }
}
