import Primitives
import Wire

// Octets towards the peer, from SND.UNA to the end of what the target has said so far.
//
// A chain of pool chunks, packed but for the last: the octet at distance d from SND.UNA lies in
// chunk (headOffset + d) / chunkOctets of the chain. A cursor remembers the chunk of the last look
// so that sending forward never walks the chain. Acknowledged chunks go back at once: a buffer
// whose octets are all acknowledged holds none.

package struct SendBuffer: BitwiseCopyable {
  private var head = ChunkPool.none
  private var tail = ChunkPool.none
  private var cursor = ChunkPool.none
  /// Octets of the chain before the cursor's chunk.
  private var cursorStart: UInt32 = 0
  /// Octets of the head chunk that are acknowledged already.
  private var headOffset: UInt32 = 0
  /// Octets held.
  package private(set) var octets: UInt32 = 0

  package init() {}

  /// Opens room behind the last octet: fills `slices` with writable memory of at most `limit`
  /// octets, and says how many slices that took. What is not committed is taken back by `commit`.
  package mutating func room(
    limit: Int, pool: inout ChunkPool, slices: UnsafeMutableBufferPointer<Slice>
  ) -> Int {
    var left = limit
    var count = 0
    let used = Int(headOffset) + Int(octets)
    let tailUsed = tail == ChunkPool.none ? ChunkPool.chunkOctets : used - chainOctetsBeforeTail
    if tailUsed < ChunkPool.chunkOctets, left > 0, slices.count > 0 {
      let n = min(left, ChunkPool.chunkOctets - tailUsed)
      slices[0] = Slice(pool.address(tail) + tailUsed, n)
      left -= n
      count = 1
    }
    var last = tail
    while left > 0, count < slices.count, let chunk = pool.take() {
      if last == ChunkPool.none { head = chunk } else { pool.link(last, to: chunk) }
      last = chunk
      let n = min(left, ChunkPool.chunkOctets)
      slices[count] = Slice(pool.address(chunk), n)
      left -= n
      count += 1
    }
    return count
  }

  /// Keeps the first `count` octets of the memory that `room` opened and gives the rest back.
  package mutating func commit(_ count: Int, pool: inout ChunkPool) {
    octets += UInt32(count)
    guard head != ChunkPool.none else { return }
    let used = Int(headOffset) + Int(octets)
    if used == 0 || octets == 0 {
      pool.give(chainFrom: head)
      reset()
      return
    }
    var chunk = tail
    var before = tail == ChunkPool.none ? 0 : chainOctetsBeforeTail(tailAt: used - count)
    if chunk == ChunkPool.none { chunk = head }
    while used - before > ChunkPool.chunkOctets {
      chunk = pool.next(chunk)
      before += ChunkPool.chunkOctets
    }
    let surplus = pool.next(chunk)
    if surplus != ChunkPool.none {
      pool.give(chainFrom: surplus)
      pool.link(chunk, to: ChunkPool.none)
    }
    tail = chunk
  }

  /// Adds the slices of `count` octets that begin `offset` octets behind SND.UNA to the open frame.
  package mutating func append(
    offset: Int, count: Int, pool: borrowing ChunkPool, to frames: inout FrameQueue
  ) {
    precondition(offset + count <= Int(octets), "within the buffer")
    var position = Int(headOffset) + offset
    if cursor == ChunkPool.none || Int(cursorStart) > position {
      cursor = head
      cursorStart = 0
    }
    while position - Int(cursorStart) >= ChunkPool.chunkOctets {
      cursor = pool.next(cursor)
      cursorStart += UInt32(ChunkPool.chunkOctets)
    }
    var chunk = cursor
    var start = Int(cursorStart)
    var left = count
    while left > 0 {
      let at = position - start
      let n = min(left, ChunkPool.chunkOctets - at)
      frames.append(Slice(pool.address(chunk) + at, n))
      left -= n
      position += n
      if left > 0 {
        chunk = pool.next(chunk)
        start += ChunkPool.chunkOctets
      }
    }
  }

  /// Gives back the first `count` octets, which the peer has acknowledged.
  package mutating func release(_ count: Int, pool: inout ChunkPool) {
    precondition(count <= Int(octets), "within the buffer")
    octets -= UInt32(count)
    if octets == 0 {
      pool.give(chainFrom: head)
      reset()
      return
    }
    headOffset += UInt32(count)
    while Int(headOffset) >= ChunkPool.chunkOctets {
      let next = pool.next(head)
      if cursor == head {
        cursor = next
        cursorStart = UInt32(ChunkPool.chunkOctets)
      }
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.givesChunkTwice) { pool.give(head) }
      #endif
      pool.give(head)
      head = next
      headOffset -= UInt32(ChunkPool.chunkOctets)
      cursorStart = cursorStart &- UInt32(ChunkPool.chunkOctets)
    }
    if cursor == ChunkPool.none { cursorStart = 0 }
  }

  /// Gives everything back.
  package mutating func discard(pool: inout ChunkPool) {
    pool.give(chainFrom: head)
    reset()
  }

  /// Octets of the chain before its last chunk, when `used` octets lie in the chain.
  private func chainOctetsBeforeTail(tailAt used: Int) -> Int {
    max(0, used - 1) / ChunkPool.chunkOctets * ChunkPool.chunkOctets
  }

  private var chainOctetsBeforeTail: Int {
    chainOctetsBeforeTail(tailAt: Int(headOffset) + Int(octets))
  }

  private mutating func reset() {
    head = ChunkPool.none
    tail = ChunkPool.none
    cursor = ChunkPool.none
    cursorStart = 0
    headOffset = 0
    octets = 0
  }
}
