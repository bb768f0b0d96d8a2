import Primitives

// The records of what one worker's flows have in flight, shared out so that no flow goes without.
//
// Half of them is set aside evenly: so many any flow may hold at any time, whatever others do, and
// two at least, so that what is in flight can always be cut. Of the other half a flow gets what it asks
// for, as long as that is no more than a part of what others leave. Clients that acknowledge nothing,
// or that have what is in flight cut to pieces, take from it, and never all.

/// Records for a bounded number of flows.
package struct SentRecordPool: ~Copyable {
  /// Records for few flows: what several bulk flows without segmentation offload need.
  static let recordsLeast = 8 * 1024
  /// Records for many flows, unless that is less than four each.
  static let recordsUsual = 1 << 18
  /// What a flow may hold of the shared half, as a part of what is left of it.
  private static let sharedPart: UInt32 = 4

  private var records: Slab<SentRecord>
  /// Records that each flow may hold whatever others do.
  package let guaranteed: UInt32
  /// Records beyond what is set aside, and how many of them are in use.
  private let sharedMax: UInt32
  private var shared: UInt32 = 0

  /// - Parameter flows: that may exist at once.
  package init(flows: Int) {
    let many = max(Self.recordsUsual, flows * 4)
    self.init(capacity: max(Self.recordsLeast, min(flows * 8, many)), flows: flows)
  }

  package init(capacity: Int, flows: Int) {
    records = Slab(capacity: capacity)
    guaranteed = UInt32(max(2, capacity / 2 / flows))
    sharedMax = UInt32(max(0, capacity - Int(guaranteed) * flows))
  }

  /// Records taken now.
  package var count: UInt32 { records.count }

  /// Takes a record for a flow that holds so many.
  package mutating func take(_ record: SentRecord, held: UInt32) -> UInt32? {
    if held >= guaranteed {
      guard held - guaranteed < (sharedMax - shared) / Self.sharedPart else { return nil }
    }
    guard let slot = records.take(record) else { return nil }
    if held >= guaranteed { shared += 1 }
    return slot
  }

  /// Gives one back, of so many that the flow held.
  package mutating func give(_ slot: UInt32, held: UInt32) {
    records.give(slot)
    if held > guaranteed { shared -= 1 }
  }

  package subscript(slot: UInt32) -> SentRecord {
    unsafeAddress { UnsafePointer(records.pointer(slot)) }
    nonmutating unsafeMutableAddress { records.pointer(slot) }
  }
}
