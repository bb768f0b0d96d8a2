import Primitives
import TCP
import Testing
import Wire

// What is sent: bursts, windows, probes of closed windows, FIN.

@Suite("RFC 9293 §3.8.6: the client's window")
struct WindowTests {
  @Test("nothing is sent beyond it, and what follows waits for a segment's worth")
  func bounded() throws {
    try Script.run {
      handshake(window: 2500)
      targetSays(6000)
      expect(".", 1...1001, ack: 1)
      expect(".", 1001...2001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 2001, window: 2500)
      expect(".", 2001...3001, ack: 1)
      expect(".", 3001...4001, ack: 1)
      expectNothing()
    }
  }

  @Test("a closed window is probed with back-off, for ever while the probes are answered")
  func persist() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(5000)
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1001...1002, ack: 1)
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .milliseconds(399))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1001...1002, ack: 1)
      inject(".", 1...1, ack: 1001, window: 0)
      for _ in 0..<60 {
        advance(by: .seconds(60))
        expectSome()
        inject(".", 1...1, ack: 1001, window: 0)
      }
      expectState(.established)
    }
  }

  @Test("a window that closes upon octets in flight is probed by one at a time-out, not by each")
  func closesUponFlight() throws {
    try Script.run {
      handshake()
      targetSays(5000)
      expectSome(5)
      inject(".", 1...1, ack: 1, window: 0)
      advance(by: .milliseconds(200))
      expect(".", 1...2, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, window: 0)
      expectNothing()
      advance(by: .milliseconds(400))
      expect(".", 1...2, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, window: 60_000)
      expectSome()
    }
  }

  @Test("an old acknowledgement's window is not counted from a newer one")
  func oldWindow() throws {
    try Script.run {
      handshake()
      targetSays(3000)
      expectSome(3)
      inject(".", 1001...1001, ack: 1, window: 5000)  // overtakes the octets before it
      inject("P.", 1...1001, ack: 3001, window: 1000)
      expectAnything()
      inject(".", 1001...1001, ack: 1, window: 5000)  // late
      targetSays(3000)
      expect(".", 3001...4001, ack: 1001)
      expectNothing()
    }
  }

  @Test("a window that opens again lets data out at once, the probe's octet first")
  func reopening() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(3000)
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .milliseconds(600))
      expect(".", 1001...1002, ack: 1)
      expect(".", 1001...1002, ack: 1)
      inject(".", 1...1, ack: 1001, window: 4000)
      expect(".", 1001...1002, ack: 1)
      expect(".", 1002...2002, ack: 1)
      expect("P.", 2002...3001, ack: 1)
      inject(".", 1...1, ack: 3001)
      advance(by: .seconds(10))
      expectNothing()
    }
  }

  @Test("a probe that was taken opens the way for the rest")
  func probeTaken() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(3000)
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .milliseconds(200))
      expect(".", 1001...1002, ack: 1)
      inject(".", 1...1, ack: 1002, window: 4000)
      expect(".", 1002...2002, ack: 1)
      expect("P.", 2002...3001, ack: 1)
    }
  }

  @Test("probes without any answer are given up in the end")
  func probesUnanswered() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(3000)
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .seconds(30 * 60))
      expectAnything()
      expectState(.closed)
    }
  }

  @Test("a tiny window is used after a time-out, whole (RFC 1122 §4.2.3.4)")
  func tinyWindow() throws {
    try Script.run {
      handshake(window: 4000)
      targetSays(5000)
      expectAnything()
      inject(".", 1...1, ack: 4001, window: 100)
      expectNothing()
      advance(by: .milliseconds(200))
      expect(".", 4001...4101, ack: 1)
    }
  }

  @Test("an older segment does not change the window")
  func oldUpdate() throws {
    try Script.run {
      handshake()
      inject(".", 1...1001, ack: 1, window: 1000)
      inject(".", 1001...2001, ack: 1, window: 1000)
      expect(".", 1...1, ack: 2001)
      inject(".", 1...1001, ack: 1, window: 64_000)
      expect(".", 1...1, ack: 2001)
      targetSays(2000)
      expect(".", 1...1001, ack: 2001)
      expectNothing()
      inject(".", 2001...2001, ack: 1001)
      expect("P.", 1001...2001, ack: 2001)
    }
  }

  @Test("FIN in front of a closed window is sent, and heard when it opens")
  func finAndClosedWindow() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(1000)
      targetFinishes()
      expectAnything()
      inject(".", 1...1, ack: 1001, window: 0)
      advance(by: .seconds(1))
      let fins = expectAnything()
      #expect(fins.allSatisfy { $0.range == 1001...1001 && $0.flags.contains(.fin) })
      inject(".", 1...1, ack: 1002, window: 0)
      expectState(.finWait2)
    }
  }
}

@Suite("RFC 5681, RFC 6928: the congestion window, and super-packets")
struct BurstTests {
  @Test("the first flight is ten segments; each acknowledgement in slow start adds what it covers")
  func initialWindow() throws {
    try Script.run {
      handshake(wscale: 7, window: 60_000)
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(100_000)
      expectSome(10)
      inject(".", 1...1, ack: 2001, window: 1_000_064)
      expectSome(4)
    }
  }

  @Test("a super-packet is cut in segments, holds whole ones but for the last, and one PSH")
  func superPackets() throws {
    try Script.run(offload: true) {
      handshake(wscale: 7, window: 60_000)
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(8500)
      expect("P.", 1...8501, ack: 1, pieces: 1000)
      targetSays(700)
      expect("P.", 8501...9201, ack: 1, pieces: 0)
      inject(".", 1...1, ack: 9201, window: 1_000_064)
      targetSays(100_000)
      expect(".", 9201...28_201, ack: 1, pieces: 1000)
      expectNothing()
    }
  }

  @Test("super-packets stop at the client's window, at whole segments")
  func superPacketsAndWindow() throws {
    try Script.run(offload: true) {
      handshake(window: 3500)
      targetSays(9000)
      expect(".", 1...3001, ack: 1, pieces: 1000)
      expectNothing()
      inject(".", 1...1, ack: 3001, window: 3500)
      expect(".", 3001...6001, ack: 1, pieces: 1000)
    }
  }

  @Test("no frame is longer than an IP packet may be")
  func frameBound() throws {
    for isIPv4 in [true, false] {
      try Script.run(mss: 1460, isIPv4: isIPv4, offload: true) {
        handshake(mss: 1460, sack: true, wscale: 7, ts: true)
        inject(".", 1...1, ack: 1, window: 8_000_000)
        let mss = 1448
        var acknowledged = 1
        var longest = 0
        for _ in 0..<12 {
          targetSays(200_000)
          let frames = expectAnything()
          #expect(
            frames.allSatisfy {
              $0.octets <= 65_400 && ($0.octets % mss == 0 || $0.flags.contains(.psh))
            })
          longest = max(longest, frames.map(\.octets).max() ?? 0)
          acknowledged = frames.last?.range.upperBound ?? acknowledged
          inject(".", 1...1, ack: acknowledged, window: 8_000_000)
        }
        expectAnything()
        #expect(longest == 65_400 / mss * mss)
      }
    }
  }

  @Test("segments as long as an IP packet leave room for every option")
  func longestSegments() throws {
    try Script.run(mss: 65_495) {
      handshake(mss: 65_495, sack: true, wscale: 7, ts: true)
      inject(".", 2001...3001, ack: 1, window: 8_000_000)
      inject(".", 4001...5001, ack: 1, window: 8_000_000)
      inject(".", 6001...7001, ack: 1, window: 8_000_000)
      expectAnything()
      targetSays(65_483)
      expect("P.", 1...65_484, ack: 1)
    }
  }

  @Test("three duplicates for a super-packet resend one segment of it")
  func oneSegmentOfASuperPacket() throws {
    try Script.run(offload: true) {
      handshake()
      targetSays(8000)
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      expectNothing()
    }
  }

  @Test("one loss in a full window halves it (NewReno) or takes three tenths (CUBIC)")
  func reduction() throws {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      try Script.run(algorithm: algorithm) {
        handshake(sack: true, wscale: 7, window: 60_000, roundTrip: .milliseconds(10))
        inject(".", 1...1, ack: 1, window: 1_000_064)
        targetSays(10_000)
        expectAnything()
        advance(by: .milliseconds(10))
        inject(".", 1...1, ack: 1, window: 1_000_064, sackBlocks: [1001...10_001])
        expect(".", 1...1001, ack: 1)
        advance(by: .milliseconds(5))
        inject(".", 1...1, ack: 10_001, window: 1_000_064)
        targetSays(100_000)
        expectSome(algorithm == .newReno ? 5 : 7)
      }
    }
  }
}

@Suite("Memory that others have spent")
struct SpentMemoryTests {
  @Test("a time-out that finds no record to split sends the whole record again")
  func noRecords() throws {
    try Script.run(offload: true) {
      handshake()
      targetSays(8000)
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      let script = try #require(Script.current)
      var taken: [UInt32] = []
      let other = SentRecord(
        start: SequenceNumber(0), end: SequenceNumber(1), sentAt: .zero, next: 0, previous: 0,
        marks: [])
      while let slot = script.memory.sent.take(other, held: 0) { taken.append(slot) }
      advance(by: .milliseconds(200))
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      for slot in taken { script.memory.sent.give(slot, held: 0) }
      inject(".", 1...1, ack: 8001)
      expectNothing()
    }
  }

  @Test("a client that takes nothing leaves half of the pool to others")
  func fairShare() throws {
    try Script.run(memoryOctets: 12 * ChunkPool.chunkOctets) {
      handshake(wscale: 7, window: 60_000)
      var said = 0
      for _ in 0..<20 { said += targetSays(16_384) }
      #expect(said > 0 && said <= 6 * ChunkPool.chunkOctets)
      let script = try #require(Script.current)
      let available = script.memory.chunks.available
      #expect(available >= 6)
      expectAnything()
    }
  }

  @Test("what the target says waits when the pool is spent, and is not lost")
  func noChunks() throws {
    try Script.run(memoryOctets: 6 * ChunkPool.chunkOctets) {
      handshake(wscale: 7, window: 60_000)
      inject(".", 1...1, ack: 1, window: 1_000_064)
      let said = targetSays(1 << 20)
      #expect(said > 0 && said <= 6 * ChunkPool.chunkOctets)
      expectSome(10)
      inject(".", 1...1, ack: 10_001, window: 1_000_064)
      expectSome(20)
    }
  }
}
