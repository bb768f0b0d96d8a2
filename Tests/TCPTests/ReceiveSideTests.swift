import Primitives
import TCP
import Testing
import Wire

// The receiving half against a model: any order, any cut, any pace of the target.

@Suite("ReceiveSide against a model: any order, any overlap, any appetite")
struct ReceiveSideTests {
  private static let start = SequenceNumber(UInt32.max - 3_000)
  private static let memoryOctets = 16 << 20

  /// Everything the target was given, checked by position.
  private struct Target {
    var taken = 0
    var isRight = true
  }

  private func feed(
    _ side: inout ReceiveSide, _ target: inout Target, appetite: Int, memory: inout TCPMemory
  ) {
    let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 7)
    defer { slices.deallocate() }
    var left = appetite
    while left > 0 {
      let (count, octets) = side.gather(memory: memory, into: slices)
      guard count > 0 else { return }
      let took = min(left, octets)
      var position = 0
      for slice in slices[..<count] {
        for offset in 0..<slice.octets where position < took {
          let actual = slice.base?.load(fromByteOffset: offset, as: UInt8.self)
          let wanted = patternOctet(target.taken + position + 1, fromClient: true)
          target.isRight = target.isRight && actual == wanted
          position += 1
        }
      }
      target.taken += took
      left -= took
      side.took(took, segmentOctets: 1000, roundTrip: .max, at: .zero, memory: &memory)
    }
  }

  @Test("random segments deliver the stream once and in order", arguments: 1...60)
  func permutations(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var memory = TCPMemory(octets: Self.memoryOctets, flows: 4)
    // some streams have a window that the near table of the store cannot hold
    let window: UInt32 = seed % 15 == 0 ? 800_000 : 200_000
    var side = ReceiveSide(
      initial: Self.start, scale: 8, windowOctets: window, windowOctetsMax: window)
    var target = Target()
    let total = random.number(in: 1...2 * Int(window))
    var arrived = [Bool](repeating: false, count: total)
    var known = 0
    var outcome: SegmentOutcome = []
    _ = side.windowField(acknowledgment: side.taken, unscaled: false, segmentOctets: 1000)
    var rounds = 0
    while target.taken < total || !side.finishArrived, rounds < 50_000 {
      rounds += 1
      var buffers: [UnsafeMutableRawBufferPointer] = []
      for _ in 0..<random.number(in: 1...6) {
        let edge = min(total, side.advertised.distance(from: Self.start) - 1)
        let low = max(0, known - 3_000)
        var from = random.number(in: 0...3) > 0 ? known : random.number(in: low...max(low, edge))
        from = min(from, total)
        let count = min(total - from, random.number(in: 0...3) == 0 ? 60_000 : 1_500)
        let octets = count == 0 ? 0 : random.number(in: 1...count)
        let isLast = from + octets == total
        let length = octets + (isLast ? 1 : 0)
        let sequence = Self.start + 1 + from
        guard length > 0, side.accepts(sequence, segmentOctets: length) else { continue }
        let buffer = UnsafeMutableRawBufferPointer.allocate(
          byteCount: max(1, octets), alignment: 1)
        for offset in 0..<octets {
          buffer[offset] = patternOctet(from + 1 + offset, fromClient: true)
        }
        buffers.append(buffer)
        let dropped = memory.drops.total
        outcome.formUnion(
          side.arrive(
            sequence, payload: Slice(buffer.baseAddress, octets), finish: isLast,
            segmentOctets: 1000, at: .zero, memory: &memory))
        if memory.drops.total == dropped {
          for position in from..<min(from + octets, edge) { arrived[position] = true }
        }
        while known < total, arrived[known] { known += 1 }
        #expect(side.next.distance(from: Self.start) - 1 - (side.finishArrived ? 1 : 0) == known)
      }
      let appetite = random.number(in: 0...2) == 0 ? 0 : random.number(in: 0...100_000)
      feed(&side, &target, appetite: appetite, memory: &memory)
      _ = side.settle(memory: &memory)
      for buffer in buffers {
        buffer.initializeMemory(as: UInt8.self, repeating: 0xDB)
        buffer.deallocate()
      }
      let acknowledgment = side.acknowledgment(finishTaken: false)
      _ = side.windowField(
        acknowledgment: acknowledgment, unscaled: false, segmentOctets: 1000)
      side.acknowledged(acknowledgment)
      if random.number(in: 0...20) == 0 {
        feed(&side, &target, appetite: .max, memory: &memory)
        _ = side.windowField(
          acknowledgment: side.acknowledgment(finishTaken: false), unscaled: false,
          segmentOctets: 1000)
      }
    }
    #expect(target.taken == total, "seed \(seed)")
    #expect(target.isRight, "seed \(seed)")
    #expect(outcome.contains(.finished), "seed \(seed)")
    let kept = memory.chunks.count + memory.stores.count + memory.pending.count
    #expect(kept == 0, "seed \(seed)")
  }

  @Test("discarding gives everything back, whatever is kept", arguments: 1...20)
  func discard(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var memory = TCPMemory(octets: Self.memoryOctets, flows: 4)
    var side = ReceiveSide(
      initial: Self.start, scale: 8, windowOctets: 500_000, windowOctetsMax: 500_000)
    _ = side.windowField(acknowledgment: side.taken, unscaled: false, segmentOctets: 1000)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 10_000, alignment: 1)
    defer { buffer.deallocate() }
    buffer.initializeMemory(as: UInt8.self, repeating: 1)
    for _ in 0..<40 {
      let sequence = side.next + random.number(in: 0...300_000)
      guard side.accepts(sequence, segmentOctets: 10_000) else { continue }
      _ = side.arrive(
        sequence, payload: Slice(buffer.baseAddress, 10_000), finish: false, segmentOctets: 1000,
        at: .zero, memory: &memory)
      if random.number(in: 0...3) == 0 { _ = side.settle(memory: &memory) }
    }
    side.discard(memory: &memory)
    let kept = memory.chunks.count + memory.stores.count + memory.pending.count
    #expect(kept == 0)
  }
}
