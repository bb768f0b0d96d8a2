// Packets out, as descriptions: what Core hands to whoever owns the TUN.
//
// A frame is a gather list: first the octets the stack wrote itself (virtio-net header, IP header,
// transport header, quoted packets), which lie in the queue's arena, then slices of payload that
// stay where they are, in chunks or receive buffers. A `Slice` has the layout of `struct iovec`, and
// a frame's slices are contiguous: the owner of the device hands them to `writev` as they are.
// Frames must be drained before anything that a slice points into is used for something else: chunks of
// frames that are lent to another thread are held (`ChunkPool.hold`).

/// A run of octets elsewhere; the layout of `struct iovec`.
@usableFromInline package struct Slice: BitwiseCopyable {
  @usableFromInline package var base: UnsafeMutableRawPointer?
  @usableFromInline package var octets: Int

  @inlinable package init(_ base: UnsafeMutableRawPointer?, _ octets: Int) {
    self.base = base
    self.octets = octets
  }
}

@usableFromInline package struct FrameQueue: ~Copyable {
  /// Frames a queue holds.
  package static let framesMax = 256
  /// Octets of header arena.
  package static let arenaOctets = 128 * 1024
  /// Slices of all frames together.
  package static let slicesMax = 4096

  package struct Frame: BitwiseCopyable {
    package var firstSlice: Int
    package var sliceCount: Int
  }

  private let arena: UnsafeMutableRawPointer
  private let slices: UnsafeMutablePointer<Slice>
  private let frames: UnsafeMutablePointer<Frame>
  private var arenaUsed = 0
  private var slicesUsed = 0
  /// Frames waiting to be written.
  @usableFromInline package private(set) var count = 0

  package init() {
    arena = .allocate(byteCount: Self.arenaOctets, alignment: 64)
    slices = .allocate(capacity: Self.slicesMax)
    frames = .allocate(capacity: Self.framesMax)
  }

  deinit {
    arena.deallocate()
    slices.deallocate()
    frames.deallocate()
  }

  @usableFromInline package var isEmpty: Bool { count == 0 }

  /// Whether it is to be drained before another packet is taken in: what answers one, 64 KiB and headers at
  /// most, might not fit any more.
  package var shouldDrain: Bool { count > Self.framesMax / 2 || arenaUsed > Self.arenaOctets / 3 }

  /// Whether a frame of this many arena octets and payload slices still fits.
  package func fits(frames: Int = 1, headerOctets: Int, payloadSlices: Int) -> Bool {
    count + frames <= Self.framesMax && arenaUsed + frames * headerOctets <= Self.arenaOctets
      && slicesUsed + payloadSlices + frames <= Self.slicesMax
  }

  /// Opens a frame: memory for its first octets. Close it with `commit`. The caller has asked
  /// `fits` before.
  package mutating func reserve(headerOctets: Int) -> UnsafeMutableRawPointer {
    precondition(count < Self.framesMax && arenaUsed + headerOctets <= Self.arenaOctets, "fits")
    frames[count] = Frame(firstSlice: slicesUsed, sliceCount: 1)
    slices[slicesUsed] = Slice(arena + arenaUsed, 0)
    slicesUsed += 1
    return arena + arenaUsed
  }

  /// Adds payload to the open frame.
  package mutating func append(_ slice: Slice) {
    precondition(slicesUsed < Self.slicesMax, "fits")
    slices[slicesUsed] = slice
    slicesUsed += 1
    frames[count].sliceCount += 1
  }

  /// The open frame's payload slices, for a checksum over them.
  package var openPayload: UnsafeBufferPointer<Slice> {
    UnsafeBufferPointer(
      start: slices + frames[count].firstSlice + 1, count: frames[count].sliceCount - 1)
  }

  /// Closes the open frame, whose arena part turned out to be this long.
  package mutating func commit(headerOctets: Int) {
    slices[frames[count].firstSlice].octets = headerOctets
    arenaUsed += (headerOctets + 15) & ~15
    count += 1
  }

  /// Drops the open frame.
  package mutating func abandon() { slicesUsed = frames[count].firstSlice }

  /// A frame's gather list, header first.
  @usableFromInline package func slices(of index: Int) -> UnsafeMutableBufferPointer<Slice> {
    precondition(index < count, "frame")
    return UnsafeMutableBufferPointer(
      start: slices + frames[index].firstSlice, count: frames[index].sliceCount)
  }

  /// Octets of all frames, headers included.
  package var octets: Int {
    var octets = 0
    for index in 0..<slicesUsed { octets += slices[index].octets }
    return octets
  }

  @usableFromInline package mutating func removeAll() {
    arenaUsed = 0
    slicesUsed = 0
    count = 0
  }
}
