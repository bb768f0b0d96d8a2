// From a five-tuple's hash to the slots of the flows that may be meant.
//
// Open addressing with linear probing over eight-octet entries, a hash and a slot each; a probe
// mostly ends in the cache line where it began. The tuples themselves stay in the flows, which the
// caller compares, so that no key is stored twice:
//
//     var probe = index.probe(hash)
//     while let slot = index.next(&probe) { if flows[slot].tuple == tuple { … } }
//
// At most half of the entries are taken. Removal shifts the run behind it back instead of leaving a
// tombstone: a table that has turned over a million flows probes like a new one. It begins at one
// page and doubles as flows come; doubling moves whole runs in order (some milliseconds at a million
// flows) and the memory stays at its peak, like that of the flows' slots.

/// A multimap from 32-bit hashes to slot numbers.
@usableFromInline package struct FlowIndex: ~Copyable {
  /// Where a search stands. Not valid beyond an insertion or removal.
  @usableFromInline package struct Probe: BitwiseCopyable {
    @usableFromInline var position: UInt32
    @usableFromInline let hash: UInt32

    @inlinable init(position: UInt32, hash: UInt32) {
      self.position = position
      self.hash = hash
    }
  }

  @usableFromInline struct Entry: BitwiseCopyable {
    @usableFromInline var hash: UInt32
    @usableFromInline var slot: UInt32  // vacant: no entry

    @inlinable init(hash: UInt32, slot: UInt32) {
      self.hash = hash
      self.slot = slot
    }
  }

  @usableFromInline static var vacant: UInt32 { .max }
  private static let initialEntryCount = 512

  @usableFromInline var entries: UnsafeMutablePointer<Entry>
  @usableFromInline var mask: UInt32  // entries, a power of two, less one
  /// Slots in the index.
  package private(set) var count = 0
  /// The most slots that the index takes.
  package let capacity: Int

  /// - Parameter capacity: flows that it must be able to hold; at most 2^30.
  package init(capacity: Int) {
    precondition(capacity > 0 && capacity <= 1 << 30, "flow index capacity")
    self.capacity = capacity
    entries = Self.allocate(Self.initialEntryCount)
    mask = UInt32(Self.initialEntryCount - 1)
  }

  deinit { entries.deallocate() }

  /// Begins a search for the slots that were inserted with this hash.
  @inlinable package func probe(_ hash: UInt32) -> Probe {
    Probe(position: hash & mask, hash: hash)
  }

  /// The next slot with the probe's hash; nil when there is no other.
  @inlinable package func next(_ probe: inout Probe) -> UInt32? {
    while true {
      let entry = entries[Int(probe.position)]
      if entry.slot == Self.vacant { return nil }
      probe.position = (probe.position &+ 1) & mask
      if entry.hash == probe.hash { return entry.slot }
    }
  }

  /// Inserts a slot that is not in the index.
  ///
  /// - Precondition: `count` is below `capacity`, and `slot` is not `UInt32.max`.
  package mutating func insert(_ hash: UInt32, _ slot: UInt32) {
    precondition(count < capacity && slot != Self.vacant, "flow index")
    if (count + 1) * 2 > Int(mask) + 1 { grow() }
    store(Entry(hash: hash, slot: slot))
    count += 1
  }

  /// Removes a slot under the hash it was inserted with. False when it is not there.
  @discardableResult package mutating func remove(_ hash: UInt32, _ slot: UInt32) -> Bool {
    var hole = hash & mask
    while entries[Int(hole)].slot != slot {
      if entries[Int(hole)].slot == Self.vacant { return false }
      hole = (hole &+ 1) & mask
    }
    // Whatever stands further along this run moves up, unless that were before its home.
    var position = (hole &+ 1) & mask
    while entries[Int(position)].slot != Self.vacant {
      let entry = entries[Int(position)]
      if (position &- entry.hash) & mask >= (position &- hole) & mask {
        entries[Int(hole)] = entry
        hole = position
      }
      position = (position &+ 1) & mask
    }
    entries[Int(hole)].slot = Self.vacant
    count -= 1
    return true
  }

  private func store(_ entry: Entry) {
    var position = entry.hash & mask
    while entries[Int(position)].slot != Self.vacant { position = (position &+ 1) & mask }
    entries[Int(position)] = entry
  }

  private mutating func grow() {
    let old = entries
    let oldCount = Int(mask) + 1
    entries = Self.allocate(oldCount * 2)
    mask = UInt32(oldCount * 2 - 1)
    for position in 0..<oldCount where old[position].slot != Self.vacant { store(old[position]) }
    old.deallocate()
  }

  private static func allocate(_ count: Int) -> UnsafeMutablePointer<Entry> {
    let entries = UnsafeMutablePointer<Entry>.allocate(capacity: count)
    entries.initialize(repeating: Entry(hash: 0, slot: vacant), count: count)
    return entries
  }
}
