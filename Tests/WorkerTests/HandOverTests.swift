// Packets between workers: copied, in order, bounded, and no wake-up too many or too few.

import Configuration
import Glibc
import Kernel
import Primitives
import Stack
import Testing
import Worker

@Suite("Hand-over between workers", .timeLimit(.minutes(1))) struct HandOverTests {
  private func isReadable(_ handOver: HandOver) throws -> Bool {
    var epoll = try Epoll()
    try epoll.add(handOver.number, token: 1, interests: .readable)
    let now = MonotonicClock.now()
    return try epoll.wait(until: now, now: now) == 1
  }

  /// Puts a frame of so many octets, all of one value; the original is overwritten afterwards.
  private func put(_ value: UInt8, octets: Int = 100, into handOver: HandOver) -> Bool {
    var frame = [UInt8](repeating: value, count: octets)
    return frame.withUnsafeMutableBytes { memory in
      defer { memory.initializeMemory(as: UInt8.self, repeating: 0xDB) }
      return handOver.put(
        Stray(worker: 0, frame: UnsafeRawBufferPointer(memory), wasFragmented: value == 7))
    }
  }

  @Test("frames come out once, as they were put, in their order") func order() throws {
    let handOver = try HandOver()
    var reader = HandOver.Reader(handOver)
    #expect(try !isReadable(handOver))
    for value in UInt8(5)...8 { #expect(put(value, octets: Int(value) * 13, into: handOver)) }
    #expect(try isReadable(handOver))
    reader.take()
    #expect(try !isReadable(handOver))
    // What comes meanwhile does not touch what was taken.
    #expect(put(9, octets: 65_545, into: handOver))
    for value in UInt8(5)...8 {
      let next = reader.next()
      let octets = next.map { Array($0.frame) }
      #expect(octets == [UInt8](repeating: value, count: Int(value) * 13))
      #expect(next?.wasFragmented == (value == 7))
    }
    #expect(reader.next() == nil)
    reader.take()
    #expect(reader.next()?.frame.count == 65_545)
    #expect(reader.next() == nil)
    reader.take()
    #expect(reader.next() == nil)
  }

  @Test("too many frames, and too many octets, are refused until the reader has taken them")
  func bounds() throws {
    let handOver = try HandOver()
    var reader = HandOver.Reader(handOver)
    for _ in 0..<2 {
      for _ in 0..<HandOver.packetsMax { #expect(put(1, into: handOver)) }
      #expect(!put(1, into: handOver))
      reader.take()
      var count = 0
      while reader.next() != nil { count += 1 }
      #expect(count == HandOver.packetsMax)
    }
    var octets = 0
    while put(2, octets: 60_000, into: handOver) { octets += 60_000 }
    #expect(octets <= HandOver.octetsMax && octets > HandOver.octetsMax - 2 * 60_064)
    #expect(put(2, octets: 64, into: handOver))
    reader.take()
    #expect(put(2, octets: 60_000, into: handOver))
  }

  @Test("a worker that has ended takes nothing") func closes() throws {
    let handOver = try HandOver()
    let reader = HandOver.Reader(handOver)
    reader.close()
    #expect(!put(1, into: handOver))
  }

  @Test("from several threads at once, each frame arrives whole and once") func threads() throws {
    let handOver = try HandOver()
    var reader = HandOver.Reader(handOver)
    for number in UInt8(1)...4 {
      _ = try Thread.spawn(name: "writer-\(number)") {
        let frame = [UInt8](repeating: number, count: 500)
        for _ in 0..<2000 {
          frame.withUnsafeBytes { memory in
            let stray = Stray(worker: 0, frame: memory, wasFragmented: false)
            while !handOver.put(stray) { usleep(100) }
          }
        }
      }
    }
    var counts = [Int](repeating: 0, count: 5)
    var epoll = try Epoll()
    try epoll.add(handOver.number, token: 1, interests: .readable)
    while counts.reduce(0, +) < 8000 {
      _ = try epoll.wait(until: nil, now: MonotonicClock.now())
      reader.take()
      while let next = reader.next() {
        let first = next.frame[0]
        #expect(next.frame.allSatisfy { $0 == first })
        counts[Int(first)] += 1
      }
    }
    #expect(counts == [0, 2000, 2000, 2000, 2000])
    reader.take()
    #expect(reader.next() == nil)
  }
}

@Suite("Counts of all workers together") struct SharedCountTests {
  @Test("a count is never beyond its bound, whoever adds") func isExact() async throws {
    var rule = ForwardRule(
      name: "web", listen: [], target: Target(host: .original, port: .same))
    rule.maxConnections = 500
    let shared = SharedRule(rule, isShared: true)
    let count = try #require(shared.count)
    let added = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask { (0..<1000).count { _ in count.add(within: 500) } }
      }
      return await group.reduce(0, +)
    }
    #expect(added == 500)
    #expect(count.value == 500)
    count.subtract()
    #expect(count.add(within: 500) && !count.add(within: 500))
  }
}
