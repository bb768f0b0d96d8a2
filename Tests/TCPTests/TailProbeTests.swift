import Primitives
import TCP
import Testing
import Wire

// Tails that are lost, duplicates that are told of, recovery at a measured pace.

@Suite("Tail loss probe (RFC 8985 §7)")
struct TailProbeTests {
  @Test("a silent tail is resent after two round trips, long before the timer (§7.2)")
  func probesTail() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(3000)
      expectAnything()
      advance(by: .milliseconds(21))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 2001...3001, ack: 1)
      expectNothing()
    }
  }

  @Test("the probe shows what is lost, and that is mended by SACK (§7.3)")
  func probeShowsLoss() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(3000)
      expectAnything()
      advance(by: .milliseconds(22))
      expect("P.", 2001...3001, ack: 1)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [2001...3001])
      expect(".", 1...1001, ack: 1)
      expectAnything()
      inject(".", 1...1, ack: 3001)
      expectNothing()
    }
  }

  @Test("new data is the better probe; a second segment keeps the answer from delay (§7.3)")
  func probesWithNewData() throws {
    try Script.run {
      handshake(sack: true, window: 64_000, roundTrip: .milliseconds(10))
      targetSays(20_000)
      expectSome(10)
      advance(by: .milliseconds(22))
      expect(".", 10_001...11_001, ack: 1)
      expect(".", 11_001...12_001, ack: 1)
      expectNothing()
    }
  }

  @Test("of new data that is short, or does not fit the window, as much as may go")
  func probesWithShortData() throws {
    for (window, octets) in [(64_000, 400), (11_000, 5000)] {
      try Script.run {
        handshake(sack: true, window: window, roundTrip: .milliseconds(10))
        targetSays(10_000)
        expectSome(10)
        targetSays(octets)
        advance(by: .milliseconds(22))
        expect(octets == 400 ? "P." : ".", 10_001...10_001 + min(octets, 1000), ack: 1)
        expectNothing()
      }
    }
  }

  @Test("a probe with the beginning of the rest does not carry the FIN of its end")
  func probeBeforeFinish() throws {
    try Script.run {
      handshake(sack: true, window: 64_000, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      targetSays(3000)
      targetFinishes()
      advance(by: .milliseconds(22))
      expect(".", 10_001...11_001, ack: 1)
      expect(".", 11_001...12_001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 12_001)
      expect("FP.", 12_001...13_001, ack: 1)
    }
  }

  @Test("a lone segment waits for the peer's delayed acknowledgement: the timer comes first (§7.2)")
  func loneSegment() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(500)
      expectAnything()
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 1...501, ack: 1)
    }
  }

  @Test("no probe without SACK, and none while recovery goes on")
  func noProbe() throws {
    try Script.run {
      handshake(roundTrip: .milliseconds(10))
      targetSays(3000)
      expectAnything()
      advance(by: .milliseconds(199))
      expectNothing()
    }
  }

  @Test("an acknowledgement moves the probe")
  func probeMoves() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      expectAnything()
      advance(by: .milliseconds(15))
      inject(".", 1...1, ack: 1001)
      advance(by: .milliseconds(15))
      expectNothing()
      advance(by: .milliseconds(20))
      expect("P.", 3001...4001, ack: 1)
    }
  }
}

@Suite("Duplicates told by SACK (RFC 2883)")
struct DuplicateReportTests {
  @Test("a segment that came again is told once, first of the blocks (§4)")
  func told() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1...1001, ack: 1)
      targetTakes(.everything)
      expectAnything()
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 1001, sackBlocks: [1...1001])
      inject(".", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 1001, sackBlocks: [2001...3001])
    }
  }

  @Test("what the target has not taken is no duplicate in the peer's eyes")
  func notTold() throws {
    try Script.run {
      handshake(sack: true)
      targetTakes(.nothing)
      inject(".", 1...1001, ack: 1)
      expectAnything()
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 1)
    }
  }
}

@Suite("Pace of recovery (RFC 9937)")
struct RecoveryPaceTests {
  @Test("while more is in flight than allowed, less is sent than is delivered")
  func proportional() throws {
    try Script.run(algorithm: .newReno) {
      handshake(sack: true, window: 64_000, roundTrip: .milliseconds(10))
      targetSays(40_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...4001])
      expect(".", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...5001])
      expect(".", 10_001...11_001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...6001])
      expectNothing()
    }
  }
}

@Suite("Limits on what a stranger can make us say")
struct ChallengeTests {
  @Test("challenge ACKs are bounded in number, for each connection by itself (RFC 5961 §7)")
  func bounded() throws {
    try Script.run {
      handshake()
      for _ in 0..<10 {
        inject("S", 5000...5000, window: 1000)
        expect(".", 1...1, ack: 1)
      }
      inject("S", 5000...5000, window: 1000)
      expectNothing()
      expectDrop(.rateLimited, 1)
      advance(by: .seconds(1))
      inject("S", 5000...5000, window: 1000)
      expect(".", 1...1, ack: 1)
    }
  }
}
