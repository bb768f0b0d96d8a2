import Primitives
import Wire

// What has arrived and cannot go to the target yet: data behind a gap, and data that the target's
// socket had no room for.
//
// The store maps sequence numbers to memory: the octet with sequence number s lies in the chunk
// (s - base) / chunkOctets of a ring of chunks, at (s - base) % chunkOctets. A segment is copied to
// its place once and read from there, so filling a gap moves nothing. Runs in front of a gap are
// kept as sorted intervals, which are the SACK blocks too. The ring is as long as the widest window
// that is ever advertised, so that nothing that was offered room can lack it; the number of
// intervals is bounded, and a segment that would need one more is dropped (the peer has it still).

package struct ReceiveStore: BitwiseCopyable {
  /// Chunks of the ring.
  static let chunksMax = 66
  /// The widest window that the ring can hold wherever in a chunk it begins, octets.
  package static let windowOctetsMax = (chunksMax - 2) * ChunkPool.chunkOctets
  /// Runs in front of a gap that are kept.
  package static let runsMax = 32

  /// The sequence number of the first octet of the ring's first chunk.
  private var base: SequenceNumber
  private var first: Int = 0
  private var chunks: [66 of UInt32]
  private var runs: [32 of SACKBlock]
  /// Runs in front of a gap.
  package private(set) var runCount: Int = 0
  /// The run that the latest arrival extended: the first SACK block (RFC 2018 §4).
  private var latest: SequenceNumber

  package init(base: SequenceNumber) {
    self.base = base
    latest = base
    chunks = InlineArray(repeating: ChunkPool.none)
    runs = InlineArray(repeating: SACKBlock(start: base, end: base))
  }

  package func run(_ index: Int) -> SACKBlock { runs[index] }

  /// The runs as SACK blocks, the latest first.
  package var selectiveAcknowledgment: SACKBlocks {
    var blocks = SACKBlocks()
    var latestIndex = -1
    for i in 0..<runCount
    where runs[i].start.precedesOrEquals(latest) && latest.precedes(runs[i].end) {
      blocks.append(runs[i])
      latestIndex = i
    }
    for i in 0..<runCount where i != latestIndex { blocks.append(runs[i]) }
    return blocks
  }

  /// Copies octets to their place. The caller has cut them to the window.
  /// - Returns: octets copied: fewer than asked for when the pool is spent.
  mutating func write(
    _ start: SequenceNumber, _ octets: UnsafeRawPointer, _ count: Int, pool: inout ChunkPool
  ) -> Int {
    var position = start.distance(from: base)
    precondition(
      position >= 0 && position + count <= Self.chunksMax * ChunkPool.chunkOctets, "window")
    var done = 0
    while done < count {
      let slot = (first + position / ChunkPool.chunkOctets) % Self.chunksMax
      if chunks[slot] == ChunkPool.none {
        guard let chunk = pool.take() else { return done }
        chunks[slot] = chunk
      }
      let at = position % ChunkPool.chunkOctets
      let n = min(count - done, ChunkPool.chunkOctets - at)
      (pool.address(chunks[slot]) + at).copyMemory(from: octets + done, byteCount: n)
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.losesOctetAtChunkBorder) {
          (pool.address(chunks[slot]) + ChunkPool.chunkOctets - 1).storeBytes(of: 0, as: UInt8.self)
        }
      #endif
      done += n
      position += n
    }
    return done
  }

  /// Notes that [start, end) is here. False when that would need one run more than is kept; then
  /// nothing is noted.
  mutating func note(_ start: SequenceNumber, _ end: SequenceNumber) -> Bool {
    #if PLANTED_FAULTS
      let end = PlantedFault.isPlanted(.notesOctetTooMany) ? end + 1 : end
    #endif
    var i = 0
    while i < runCount, runs[i].end.precedes(start) { i += 1 }
    if i == runCount || end.precedes(runs[i].start) {
      guard runCount < Self.runsMax else { return false }
      var j = runCount
      while j > i {
        runs[j] = runs[j - 1]
        j -= 1
      }
      runs[i] = SACKBlock(start: start, end: end)
      runCount += 1
    } else {
      var merged = runs[i]
      if start.precedes(merged.start) { merged.start = start }
      var last = i
      while last + 1 < runCount, runs[last + 1].start.precedesOrEquals(end) { last += 1 }
      merged.end = runs[last].end
      if merged.end.precedes(end) { merged.end = end }
      runs[i] = merged
      removeRuns(i + 1..<last + 1)
    }
    latest = start
    return true
  }

  /// The end of contiguous data when everything before `next` is here: joins runs that touch it.
  mutating func advance(from next: SequenceNumber) -> SequenceNumber {
    var edge = next
    var joined = 0
    while joined < runCount, runs[joined].start.precedesOrEquals(edge) {
      if edge.precedes(runs[joined].end) { edge = runs[joined].end }
      joined += 1
    }
    removeRuns(0..<joined)
    return edge
  }

  /// Adds slices of [start, end), all of it here, to `slices`; says how many it took and how many
  /// octets they span.
  func gather(
    _ start: SequenceNumber, _ end: SequenceNumber, pool: borrowing ChunkPool,
    into slices: UnsafeMutableBufferPointer<Slice>
  ) -> (slices: Int, octets: Int) {
    var position = start.distance(from: base)
    var left = end.distance(from: start)
    var count = 0
    var octets = 0
    while left > 0, count < slices.count {
      let chunk = chunks[(first + position / ChunkPool.chunkOctets) % Self.chunksMax]
      guard chunk != ChunkPool.none else { break }
      let at = position % ChunkPool.chunkOctets
      let n = min(left, ChunkPool.chunkOctets - at)
      slices[count] = Slice(pool.address(chunk) + at, n)
      count += 1
      octets += n
      position += n
      left -= n
    }
    return (count, octets)
  }

  /// Gives back chunks that lie wholly before `edge`.
  mutating func release(before edge: SequenceNumber, pool: inout ChunkPool) {
    var whole = edge.distance(from: base) / ChunkPool.chunkOctets
    while whole > 0 {
      if chunks[first] != ChunkPool.none { pool.give(chunks[first]) }
      chunks[first] = ChunkPool.none
      first = (first + 1) % Self.chunksMax
      base = base + ChunkPool.chunkOctets
      whole -= 1
    }
  }

  /// Gives back every chunk.
  mutating func discard(pool: inout ChunkPool) {
    for slot in 0..<Self.chunksMax where chunks[slot] != ChunkPool.none {
      pool.give(chunks[slot])
      chunks[slot] = ChunkPool.none
    }
    runCount = 0
  }

  private mutating func removeRuns(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    var i = range.lowerBound
    while i + range.count < runCount {
      runs[i] = runs[i + range.count]
      i += 1
    }
    runCount -= range.count
  }
}
