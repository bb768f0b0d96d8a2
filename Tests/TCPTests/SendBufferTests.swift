import Primitives
import TCP
import Testing
import Wire

// The send buffer against a byte array; chunks go back to the pool.

@Suite("SendBuffer")
struct SendBufferTests {
  /// What the target says, octet by octet.
  private func octet(_ position: Int) -> UInt8 { patternOctet(position, fromClient: false) }

  @Test(
    "random room, commit, append and release agree with an array; chunks go back", arguments: 1...12
  )
  func model(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var pool = ChunkPool(octets: 12 * ChunkPool.chunkOctets)
    var buffer = SendBuffer()
    var frames = FrameQueue()
    var first = 0
    var end = 0
    let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 8)
    defer { slices.deallocate() }
    for _ in 0..<400 {
      switch random.number(in: 0...3) {
      case 0:
        let limit = random.number(in: 1...70_000)
        let window = UnsafeMutableBufferPointer(rebasing: slices[..<random.number(in: 1...8)])
        let count = buffer.room(limit: limit, pool: &pool, slices: window)
        let opened = window[..<count].reduce(0) { $0 + $1.octets }
        #expect(opened <= limit)
        let kept = random.number(in: 0...3) == 0 ? 0 : random.number(in: 0...opened)
        var written = 0
        for slice in window[..<count] {
          for offset in 0..<slice.octets {
            slice.base?.storeBytes(
              of: written < kept ? octet(end + written) : 0xEE, toByteOffset: offset,
              as: UInt8.self)
            written += 1
          }
        }
        buffer.commit(kept, pool: &pool)
        end += kept
      case 1 where end > first:
        let count = random.number(in: 1...end - first)
        buffer.release(count, pool: &pool)
        first += count
      default:
        guard end > first else { continue }
        let offset = random.number(in: 0...end - first - 1)
        let count = random.number(in: 1...end - first - offset)
        _ = frames.reserve(headerOctets: 16)
        buffer.append(offset: offset, count: count, pool: pool, to: &frames)
        frames.commit(headerOctets: 0)
        var position = first + offset
        var isRight = true
        for slice in frames.slices(of: 0) {
          for octetOffset in 0..<slice.octets {
            // the ends of every slice, and samples between
            if octetOffset % 61 == 0 || octetOffset == slice.octets - 1 {
              let actual = slice.base?.load(fromByteOffset: octetOffset, as: UInt8.self)
              isRight = isRight && actual == octet(position)
            }
            position += 1
          }
        }
        #expect(isRight && position == first + offset + count, "seed \(seed)")
        frames.removeAll()
      }
      #expect(Int(buffer.octets) == end - first)
      let chunks = Int(pool.count)
      #expect(chunks <= (end - first) / ChunkPool.chunkOctets + 2, "seed \(seed)")
      if end == first { #expect(chunks == 0) }
    }
    buffer.discard(pool: &pool)
    let left = pool.count
    #expect(left == 0)
  }

  @Test("room that is not used is given back, and asking again changes nothing")
  func unusedRoom() {
    var pool = ChunkPool(octets: 4 * ChunkPool.chunkOctets)
    var buffer = SendBuffer()
    let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 8)
    defer { slices.deallocate() }
    for _ in 0..<100 {
      let count = buffer.room(limit: 1 << 20, pool: &pool, slices: slices)
      #expect(count == 4)
      buffer.commit(0, pool: &pool)
      let taken = pool.count
      #expect(taken == 0)
    }
  }
}
