// Stable storage for plain structs, addressed by index.
//
// A slab allocates its whole capacity at once and touches a slot only when it is first taken, so
// that the kernel commits memory as the high-water mark rises. Freed slots are taken again last in,
// first out: the warmest first. Slots are never moved, no slot is ever reference counted, and
// access is a pointer add: no exclusivity check, no ARC.
//
// The type is `@usableFromInline`, as are others whose members hot paths use: without that, no other module
// sees the bodies of its `@inlinable` members, and calls them unspecialised.

/// Storage for up to `capacity` values of `Element`.
@usableFromInline package struct Slab<Element: BitwiseCopyable>: ~Copyable {
  @usableFromInline let base: UnsafeMutablePointer<Element>
  @usableFromInline let links: UnsafeMutablePointer<UInt32>
  @usableFromInline var freeHead: UInt32
  @usableFromInline var touched: UInt32
  @usableFromInline package let capacity: UInt32
  /// Slots taken now.
  @usableFromInline package internal(set) var count: UInt32
  /// Slots below this were taken at least once.
  package var touchedCount: UInt32 { touched }
  /// Slots that can be taken.
  @inlinable package var available: UInt32 { capacity - count }

  package init(capacity: Int) {
    precondition(capacity > 0 && capacity < Int(UInt32.max), "slab capacity")
    self.capacity = UInt32(capacity)
    base = .allocate(capacity: capacity)
    links = .allocate(capacity: capacity)
    freeHead = .max
    touched = 0
    count = 0
  }

  deinit {
    base.deallocate()
    links.deallocate()
  }

  /// Takes a slot and stores `element` there; nil when every slot is taken.
  @inlinable package mutating func take(_ element: Element) -> UInt32? {
    let index: UInt32
    if freeHead != .max {
      index = freeHead
      freeHead = links[Int(index)]
    } else if touched < capacity {
      index = touched
      touched += 1
    } else {
      return nil
    }
    (base + Int(index)).initialize(to: element)
    count += 1
    return index
  }

  /// Gives a taken slot back.
  @inlinable package mutating func give(_ index: UInt32) {
    precondition(index < touched && count > 0, "slab slot")
    links[Int(index)] = freeHead
    freeHead = index
    count -= 1
  }

  /// The value in a taken slot.
  @inlinable package subscript(index: UInt32) -> Element {
    unsafeAddress {
      precondition(index < touched, "slab slot")
      return UnsafePointer(base + Int(index))
    }
    nonmutating unsafeMutableAddress {
      precondition(index < touched, "slab slot")
      return base + Int(index)
    }
  }
  /// Where a taken slot lies, which is never moved: for a value that is mutated while other parts
  /// of the slab's owner are too.
  @inlinable package func pointer(_ index: UInt32) -> UnsafeMutablePointer<Element> {
    precondition(index < touched, "slab slot")
    return base + Int(index)
  }
}
