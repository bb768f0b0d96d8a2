import Primitives
import Wire

// What endpoints borrow while they have something to keep, and give back when they do not.
//
// An endpoint is a plain struct of fixed size. Whatever varies lies here, in pools that one worker
// shares among all its flows: payload in chunks, one record per transmission that is not yet
// acknowledged, one store per flow that holds data in front of a gap or a full target. Each pool is
// bounded; an endpoint that gets nothing does without (sends later, drops what it can ask for
// again) and says so.

package struct TCPMemory: ~Copyable {
  package var chunks: ChunkPool
  package var sent: SentRecordPool
  package var stores: Slab<ReceiveStore>
  package var pending: Slab<PendingSlice>
  package var drops = DropCounters()
  /// What clients may be offered, while the device's queue overflows.
  package var windowCap = WindowCap()
  /// Clients that send in bulk, and targets.
  var uploads = BulkCensus()
  package var downloads = BulkCensus()
  package var company = Company()
  /// Chunks that keeping all pending slices could take.
  var pendingChunks = 0
  /// Never read. A type with such a field lies in memory only, and so does what holds it: the compiler passes
  /// its address. Else it takes a copy, of two KiB of a whole stack, for calls that change nothing.
  private let inMemory: any Sendable = ()

  /// - Parameters:
  ///   - octets: the bound on payload kept by all flows together.
  ///   - flows: endpoints that may exist at once.
  package init(octets: Int, flows: Int) {
    chunks = ChunkPool(octets: octets)
    sent = SentRecordPool(flows: flows)
    // One per flow, and one held free for each slice of a turn, which may come to need it.
    stores = Slab(
      capacity: max(16, min(flows, octets / ChunkPool.chunkOctets)) + Self.pendingMax)
    pending = Slab(capacity: Self.pendingMax)
  }

  /// The turn's slices are all written, kept or dropped: what was set aside for keeping them is free
  /// again.
  package mutating func turnEnded() {
    assert(pending.count == 0, "every slice was written, kept or dropped")
    if pending.count == 0 { pendingChunks = 0 }
  }

  /// Slices of one turn, over all flows; a segment beyond is copied to the flow's store.
  static let pendingMax = 4096
}

/// Payload that still lies where the device's read put it; valid until the turn ends.
package struct PendingSlice: BitwiseCopyable {
  package var slice: Slice
  package var next: UInt32
  /// Of UDP: the length of each datagram but the last; 0: it is one.
  package var segmentOctets: UInt32

  package init(_ slice: Slice, segmentOctets: Int = 0) {
    self.slice = slice
    self.segmentOctets = UInt32(segmentOctets)
    next = noSlot
  }
}

/// The index that stands for no slot of a slab.
@usableFromInline let noSlot = UInt32.max
