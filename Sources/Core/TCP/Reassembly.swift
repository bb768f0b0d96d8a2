import Primitives
import Wire

// What has arrived and cannot go to the target yet: data behind a gap, and data that the target's
// socket had no room for.
//
// The store maps sequence numbers to memory: the octet with sequence number s lies in the chunk
// (s - base) / chunkOctets of a ring of chunks, at (s - base) % chunkOctets. A segment is copied to
// its place once and read from there, so filling a gap moves nothing. Runs in front of a gap are
// kept as sorted intervals, which are the SACK blocks too. The ring's table is short and in the store;
// when the data spans more, it moves to a chunk of the pool. It is then as long as the widest window
// that is ever advertised, so that nothing that was offered room can lack it. The number of
// intervals is bounded, and a segment that would need one more is dropped (the peer has it still).

package struct ReceiveStore: BitwiseCopyable {
  /// Chunks of the ring while its table lies in the store itself.
  static let nearChunks = 20
  /// Chunks of the ring once its table has a chunk of its own.
  static let farChunks = 1026
  /// The widest window that the ring can hold wherever in a chunk it begins, octets.
  package static let windowOctetsMax = (farChunks - 2) * ChunkPool.chunkOctets
  /// Runs in front of a gap that are kept.
  package static let runsMax = 128

  /// The sequence number of the first octet of the ring's first chunk.
  private var base: SequenceNumber
  private var first: Int = 0
  private var chunks: [20 of UInt32]
  /// The chunk that holds the ring's table, when it is far.
  private var table = ChunkPool.none
  private var runs: [128 of SACKBlock]
  /// Runs in front of a gap.
  package private(set) var runCount: Int = 0
  /// Chunks of payload that are held.
  private(set) var chunkCount = 0
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
      position >= 0 && position + count <= Self.farChunks * ChunkPool.chunkOctets, "window")
    if position + count > ringChunks * ChunkPool.chunkOctets {
      guard moveTable(pool: &pool) else { return 0 }
    }
    var done = 0
    while done < count {
      let index = position / ChunkPool.chunkOctets
      var chunk = chunk(index, pool: pool)
      if chunk == ChunkPool.none {
        guard let taken = pool.take() else { return done }
        chunk = taken
        chunkCount += 1
        setChunk(index, taken, pool: pool)
      }
      let at = position % ChunkPool.chunkOctets
      let n = min(count - done, ChunkPool.chunkOctets - at)
      (pool.address(chunk) + at).copyMemory(from: octets + done, byteCount: n)
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.losesOctetAtChunkBorder) {
          (pool.address(chunk) + ChunkPool.chunkOctets - 1).storeBytes(of: 0, as: UInt8.self)
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

  /// The first octets of [start, end) that a run holds already (RFC 2883 §4: the first contiguous ones
  /// are told).
  func known(_ start: SequenceNumber, _ end: SequenceNumber) -> SACKBlock? {
    for i in 0..<runCount where start.precedes(runs[i].end) {
      guard runs[i].start.precedes(end) else { return nil }
      return SACKBlock(
        start: start.precedes(runs[i].start) ? runs[i].start : start,
        end: end.precedes(runs[i].end) ? end : runs[i].end)
    }
    return nil
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
      let chunk = chunk(position / ChunkPool.chunkOctets, pool: pool)
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
      let chunk = chunk(0, pool: pool)
      if chunk != ChunkPool.none {
        pool.give(chunk)
        chunkCount -= 1
      }
      setChunk(0, ChunkPool.none, pool: pool)
      first = first + 1 == ringChunks ? 0 : first + 1
      base = base + ChunkPool.chunkOctets
      whole -= 1
    }
  }

  /// Gives back every chunk.
  mutating func discard(pool: inout ChunkPool) {
    for index in 0..<ringChunks {
      let chunk = chunk(index, pool: pool)
      guard chunk != ChunkPool.none else { continue }
      pool.give(chunk)
      setChunk(index, ChunkPool.none, pool: pool)
    }
    if table != ChunkPool.none { pool.give(table) }
    table = ChunkPool.none
    first = 0
    runCount = 0
    chunkCount = 0
  }

  // MARK: The ring

  private var ringChunks: Int { table == ChunkPool.none ? Self.nearChunks : Self.farChunks }

  /// Where in the table the ring's chunk number `index` is noted.
  private func slot(_ index: Int) -> Int {
    let slot = first + index
    return slot >= ringChunks ? slot - ringChunks : slot
  }

  private func chunk(_ index: Int, pool: borrowing ChunkPool) -> UInt32 {
    guard table != ChunkPool.none else { return chunks[slot(index)] }
    return pool.address(table).load(fromByteOffset: slot(index) * 4, as: UInt32.self)
  }

  private mutating func setChunk(_ index: Int, _ chunk: UInt32, pool: borrowing ChunkPool) {
    guard table != ChunkPool.none else {
      chunks[slot(index)] = chunk
      return
    }
    pool.address(table).storeBytes(of: chunk, toByteOffset: slot(index) * 4, as: UInt32.self)
  }

  /// Moves the table into a chunk of its own. False when the pool is spent.
  private mutating func moveTable(pool: inout ChunkPool) -> Bool {
    guard table == ChunkPool.none, let taken = pool.take() else { return false }
    let memory = pool.address(taken)
    for index in 0..<Self.farChunks {
      let chunk = index < Self.nearChunks ? chunks[slot(index)] : ChunkPool.none
      memory.storeBytes(of: chunk, toByteOffset: index * 4, as: UInt32.self)
    }
    table = taken
    first = 0
    return true
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
