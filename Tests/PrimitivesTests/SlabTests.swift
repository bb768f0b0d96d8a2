// Slabs and chunk pools: bounds, reuse, and chains.

import Primitives
import Testing

@Suite("Slab") struct SlabTests {
  @Test("slots come in order, until the capacity is spent") func spends() {
    var slab = Slab<Int>(capacity: 3)
    let taken = (0..<4).map { slab.take($0 * 10) }
    #expect(taken == [0, 1, 2, nil])
    #expect(slab.count == 3)
  }

  @Test("the slot that was freed last is taken first, with the new value") func reuse() {
    var slab = Slab<Int>(capacity: 3)
    for value in 0..<3 { _ = slab.take(value) }
    slab.give(0)
    slab.give(2)
    #expect(slab.count == 1)
    let taken = [slab.take(20), slab.take(21), slab.take(22)]
    #expect(taken == [2, 0, nil])
    let values = (UInt32(0)..<3).map { slab[$0] }
    #expect(values == [21, 1, 20])
  }

  @Test("a value is changed in place") func inPlace() {
    var slab = Slab<(Int, Int)>(capacity: 1)
    let slot = slab.take((1, 2)) ?? 0
    slab[slot].1 = 5
    #expect(slab[slot].0 == 1)
    #expect(slab[slot].1 == 5)
  }
}

@Suite("Chunk pool") struct ChunkPoolTests {
  @Test(
    "a pool holds whole chunks within its octets, and one at least",
    arguments: [
      (0, 1), (1, 1), (ChunkPool.chunkOctets * 2 - 1, 1), (ChunkPool.chunkOctets * 3, 3),
    ])
  func capacity(octets: Int, chunks: Int) {
    var pool = ChunkPool(octets: octets)
    let capacity = pool.capacity
    #expect(Int(capacity) == chunks)
    for _ in 0..<chunks {
      let chunk = pool.take()
      #expect(chunk != nil)
    }
    let beyond = pool.take()
    #expect(beyond == nil)
  }

  @Test("chunks do not overlap and keep what is written to them") func memory() {
    var pool = ChunkPool(octets: ChunkPool.chunkOctets * 4)
    let chunks = (0..<4).compactMap { _ in pool.take() }
    #expect(chunks.count == 4)
    for chunk in chunks {
      pool.address(chunk).initializeMemory(
        as: UInt8.self, repeating: UInt8(chunk), count: ChunkPool.chunkOctets)
    }
    for chunk in chunks {
      let bytes = UnsafeRawBufferPointer(
        start: pool.address(chunk), count: ChunkPool.chunkOctets)
      #expect(bytes.allSatisfy { $0 == UInt8(chunk) })
    }
  }

  @Test("what is given back while the pool holds it counts as taken, and is given to nobody")
  func holds() {
    var pool = ChunkPool(octets: ChunkPool.chunkOctets * 5)
    let taken = (0..<4).compactMap { _ in pool.take() }
    pool.link(taken[0], to: taken[1])
    pool.hold()
    pool.give(taken[3])
    pool.give(chainFrom: taken[0])
    pool.give(taken[2])
    #expect(pool.count == 4 && pool.available == 1 && pool.spareOctets == 0)
    let fresh = [pool.take(), pool.take()]
    #expect(fresh == [4, nil])
    pool.letGo()
    #expect(pool.count == 1 && pool.available == 4)
    let again = (0..<5).compactMap { _ in pool.take() }
    #expect(Set(again) == Set(taken) && again.count == 4)
    for chunk in again { pool.give(chunk) }
    pool.hold()
    pool.letGo()
    pool.give(4)
    #expect(pool.count == 0 && pool.spareOctets == ChunkPool.chunkOctets * 5)
  }

  @Test("a chunk is taken without a link, whatever it was linked to before") func links() {
    var pool = ChunkPool(octets: ChunkPool.chunkOctets * 2)
    guard let first = pool.take(), let second = pool.take() else {
      Issue.record("the pool is empty")
      return
    }
    pool.link(first, to: second)
    let linked = pool.next(first)
    #expect(linked == second)
    pool.give(second)
    pool.give(first)
    let again = pool.take()
    #expect(again == first)
    let link = pool.next(first)
    #expect(link == ChunkPool.none)
    let count = pool.count
    #expect(count == 1)
  }

  @Test("a chain that is given back is taken again in its order, before what was free already")
  func chains() {
    var pool = ChunkPool(octets: ChunkPool.chunkOctets * 5)
    let chunks = (0..<5).compactMap { _ in pool.take() }
    #expect(chunks.count == 5)
    pool.give(chunks[4])
    for (chunk, next) in zip(chunks[0..<3], chunks[1..<4]) { pool.link(chunk, to: next) }
    pool.give(chainFrom: chunks[0])
    let count = pool.count
    #expect(count == 0)
    let again = (0..<5).compactMap { _ in pool.take() }
    #expect(again == chunks)
    pool.give(chainFrom: ChunkPool.none)
    let kept = pool.count
    #expect(kept == 5)
  }

  @Test("memory is spare when no chunk is taken; forgotten, it is as new, up to the bound")
  func spare() {
    var pool = ChunkPool(octets: 3 * ChunkPool.chunkOctets)
    let atFirst = pool.spareOctets
    #expect(atFirst == 0)
    let none = pool.forgetSpare().count
    #expect(none == 0)
    for _ in 0..<2 { _ = pool.take() }
    let used = pool.spareOctets
    #expect(used == 0)
    pool.give(0)
    let taken = pool.forgetSpare().count
    #expect(taken == 0)
    pool.give(1)
    let unused = pool.spareOctets
    #expect(unused == 2 * ChunkPool.chunkOctets)
    let spare = pool.forgetSpare()
    #expect(spare.count == 2 * ChunkPool.chunkOctets)
    let left = pool.spareOctets
    #expect(left == 0)
    let again = (0..<4).map { _ in pool.take() }
    #expect(again == [0, 1, 2, nil])
    let first = pool.address(0)
    #expect(first == spare.baseAddress)
  }
}
