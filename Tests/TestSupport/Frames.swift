// Frames as a device would see them, and payload for them to point at.

import Wire

/// The octets of a frame, gathered.
package func frameOctets(_ frames: borrowing FrameQueue, _ index: Int = 0) -> [UInt8] {
  frames.slices(of: index).flatMap { slice in
    Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
  }
}

/// Memory that payload slices can point at for the length of a test.
package final class Payload {
  package let memory: UnsafeMutableRawPointer
  package let octets: [UInt8]

  package init(_ octets: [UInt8]) {
    self.octets = octets
    memory = .allocate(byteCount: max(octets.count, 1), alignment: 1)
    memory.copyMemory(from: octets, byteCount: octets.count)
  }

  deinit { memory.deallocate() }

  /// All of it.
  package var slice: Slice { Slice(memory, octets.count) }

  /// The payload in slices that end at `cuts`.
  package func slices(cuts: [Int] = []) -> [Slice] {
    let ends = cuts.filter { $0 < octets.count }.sorted() + [octets.count]
    return zip([0] + ends, ends).map { start, end in Slice(memory + start, end - start) }
  }
}
