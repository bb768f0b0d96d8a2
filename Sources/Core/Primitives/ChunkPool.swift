// Payload memory: equal chunks, pooled, linked into chains by index.
//
// Everything a flow has to keep (bytes towards the client until they are acknowledged, bytes
// towards the target that its socket could not take yet, segments that arrived out of order) lies in
// chunks of one pool per worker. An idle flow holds none. The pool's size is the bound on what all
// peers together can pin; `take` says nil beyond it and the caller counts a drop or stops reading.
// Chunks are taken last in, first out, so that a busy worker stays in cache and an idle one never
// touches (commits) more memory than its peak; and the peak can be forgotten when none is taken.

package struct ChunkPool: ~Copyable {
  /// Octets in a chunk: four make a 64 KiB segmentation-offload frame.
  package static let chunkOctets = 16 * 1024
  /// The chunk index that stands for none.
  package static let none = UInt32.max

  private let base: UnsafeMutableRawPointer
  private let links: UnsafeMutablePointer<UInt32>
  private var freeHead = ChunkPool.none
  private var touched: UInt32 = 0
  /// What was given back while the pool holds what it is given, and the chain's last.
  private var isHolding = false
  private var heldHead = ChunkPool.none
  private var heldTail = ChunkPool.none
  private var heldCount: UInt32 = 0
  package let capacity: UInt32
  /// Chunks taken now, and held.
  package private(set) var count: UInt32 = 0
  /// Chunks that can be taken.
  package var available: Int { Int(capacity - count) }

  /// - Parameter octets: the bound; rounded down to whole chunks, at least one.
  package init(octets: Int) {
    capacity = UInt32(max(1, min(octets / Self.chunkOctets, Int(UInt32.max - 1))))
    base = .allocate(byteCount: Int(capacity) * Self.chunkOctets, alignment: 4096)
    links = .allocate(capacity: Int(capacity))
  }

  deinit {
    base.deallocate()
    links.deallocate()
  }

  /// Takes a chunk whose link is `none`; nil when the pool is spent.
  package mutating func take() -> UInt32? {
    let index: UInt32
    if freeHead != Self.none {
      index = freeHead
      freeHead = links[Int(index)]
    } else if touched < capacity {
      index = touched
      touched += 1
    } else {
      return nil
    }
    links[Int(index)] = Self.none
    count += 1
    return index
  }

  /// Octets that were touched and that nothing lies in: all of them, or none.
  package var spareOctets: Int { count == 0 ? Int(touched) * Self.chunkOctets : 0 }

  /// Begins anew. What the memory holds is not wanted any more: the caller may give its pages back to the
  /// kernel.
  /// - Returns: the memory of `spareOctets`.
  package mutating func forgetSpare() -> UnsafeMutableRawBufferPointer {
    let spare = UnsafeMutableRawBufferPointer(start: base, count: spareOctets)
    if count == 0 {
      touched = 0
      freeHead = Self.none
    }
    return spare
  }

  package mutating func give(_ index: UInt32) {
    precondition(index < touched && count > 0, "chunk")
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.leaksChunk), index % 4 == 1 { return }
    #endif
    give(chunks: 1, from: index, to: index)
  }

  /// From now on, what is given back stays as it is, and counts as taken, until `letGo`: somebody else
  /// still reads it.
  package mutating func hold() { isHolding = true }

  /// Nobody reads any more what was given back.
  package mutating func letGo() {
    isHolding = false
    guard heldCount > 0 else { return }
    let (head, tail, chunks) = (heldHead, heldTail, heldCount)
    heldHead = Self.none
    heldTail = Self.none
    heldCount = 0
    give(chunks: chunks, from: head, to: tail)
  }

  private mutating func give(chunks: UInt32, from first: UInt32, to last: UInt32) {
    if isHolding {
      links[Int(last)] = heldHead
      if heldHead == Self.none { heldTail = last }
      heldHead = first
      heldCount += chunks
    } else {
      links[Int(last)] = freeHead
      freeHead = first
      count -= chunks
    }
  }

  /// Gives a chain back as a whole: the next to be taken are its chunks from `first` on, in its order, so
  /// that who takes many and needs few gets the same few again.
  package mutating func give(chainFrom first: UInt32) {
    guard first != Self.none else { return }
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.leaksChunk) { return giveOneByOne(chainFrom: first) }
    #endif
    var last = first
    var chunks: UInt32 = 1
    while next(last) != Self.none {
      last = next(last)
      chunks += 1
    }
    precondition(chunks <= count, "chunk")
    give(chunks: chunks, from: first, to: last)
  }

  #if PLANTED_FAULTS
    private mutating func giveOneByOne(chainFrom first: UInt32) {
      var chunk = first
      while chunk != Self.none {
        let next = next(chunk)
        give(chunk)
        chunk = next
      }
    }
  #endif

  package func address(_ index: UInt32) -> UnsafeMutableRawPointer {
    precondition(index < touched, "chunk")
    return base + Int(index) * Self.chunkOctets
  }

  /// The chunk that follows `index` in its chain.
  package func next(_ index: UInt32) -> UInt32 {
    precondition(index < touched, "chunk")
    return links[Int(index)]
  }

  package mutating func link(_ index: UInt32, to next: UInt32) {
    precondition(index < touched, "chunk")
    links[Int(index)] = next
  }
}
