import Primitives
import TCP
import Testing
import Wire

// Explicit congestion notification of what we send: which packets may be marked, what marks do.

@Suite("RFC 3168 §6.1.4–6.1.6: what is sent as ECT")
struct CapableTransportTests {
  @Test("an acknowledgement alone is not, nor a FIN alone")
  func bare() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...1001, ack: 1)
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 2001, capable: false)
      targetFinishes()
      expect("F.", 1...1, capable: false)
      inject(".", 2001...2001, ack: 2)
    }
  }

  @Test("what the timer sends again is not (§6.1.5)")
  func timeout() throws {
    try Script.run {
      handshake(ecn: true)
      targetSays(100)
      expect("P.", 1...101, capable: true)
      advance(by: .milliseconds(200))
      expect("P.", 1...101, capable: false)
    }
  }

  @Test("what a fast retransmission sends again is not, new data beside it is")
  func fastRetransmission() throws {
    try Script.run {
      handshake(ecn: true)
      targetSays(20_000)
      expectSome(10)
      inject(".", 1...1, ack: 1)
      expect(".", 10_001...11_001, capable: true)
      inject(".", 1...1, ack: 1)
      expect(".", 11_001...12_001, capable: true)
      inject(".", 1...1, ack: 1)
      expect(".", 1...1001, capable: false)
    }
  }

  @Test("a tail probe that repeats is not, one of new data is (RFC 8985 §7.3)")
  func tailProbe() throws {
    try Script.run {
      handshake(sack: true, ecn: true, roundTrip: .milliseconds(10))
      targetSays(3000)
      expectSome(3)
      advance(by: .milliseconds(22))
      expect("P.", 2001...3001, capable: false)
    }
  }

  @Test("a window probe is not, and carries no CWR (§6.1.6)")
  func windowProbe() throws {
    try Script.run {
      handshake(ecn: true, window: 2000)
      targetSays(4000)
      expectSome(2)
      inject(".E", 1...1, ack: 2001, window: 0)
      advance(by: .milliseconds(200))
      expect(".", 2001...2002, capable: false)
      inject(".", 1...1, ack: 2002, window: 2000)
      expect(".W", 2002...3002, capable: true)
      expectSome(1)
    }
  }
}

@Suite("RFC 3168 §6.1.2: echoes that arrive reduce the window")
struct NotificationReactionTests {
  /// Ten segments in flight, and more to say.
  private func flight(_ algorithm: CongestionControl.Algorithm = .newReno) {
    handshake(sack: true, wscale: 7, ecn: true, window: 60_000)
    inject(".", 1...1, ack: 1, window: 1_000_064)
    targetSays(100_000)
    expectSome(10)
  }

  @Test("by half (NewReno) or three tenths (CUBIC); the next new data says so, once")
  func once() throws {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      try Script.run(algorithm: algorithm) {
        flight()
        let window = algorithm == .newReno ? 5000 : 7000
        inject(".E", 1...1, ack: 1001, window: 1_000_064)
        inject(".E", 1...1, ack: 10_001 - window, window: 1_000_064)
        expectNothing()
        inject(".E", 1...1, ack: 11_001 - window, window: 1_000_064)
        expect(".W", 10_001...11_001, capable: true)
        inject(".E", 1...1, ack: 12_001 - window, window: 1_000_064)
        expect(".", 11_001...12_001, capable: true)
        expectNothing()
      }
    }
  }

  @Test("an echo from the next window of data reduces it again")
  func nextWindow() throws {
    try Script.run {
      flight()
      inject(".E", 1...1, ack: 1001, window: 1_000_064)
      inject(".", 1...1, ack: 10_001, window: 1_000_064)
      let sent = expectAnything()
      #expect(sent.first?.flags.contains(.cwr) == true)
      let next = sent.last?.range.upperBound ?? 0
      inject(".E", 1...1, ack: 11_001, window: 1_000_064)
      expectNothing()
      inject(".", 1...1, ack: next, window: 1_000_064)
      let segments = expectAnything()
      #expect(segments.first?.flags.contains(.cwr) == true)
      #expect(segments.count < sent.count)
    }
  }

  @Test("acknowledgements with an echo let nothing grow")
  func noGrowth() throws {
    try Script.run {
      flight()
      inject(".E", 1...1, ack: 5001, window: 1_000_064)
      inject(".E", 1...1, ack: 10_001, window: 1_000_064)
      expectSome(5)
    }
  }

  @Test("never below two segments")
  func least() throws {
    try Script.run {
      handshake(ecn: true)
      targetSays(1000)
      expectSome(1)
      inject(".E", 1...1, ack: 1001)
      targetSays(10_000)
      expect(".W", 1001...2001)
      expect(".", 2001...3001)
      expectNothing()
    }
  }

  @Test("a loss in the same window is not paid for twice, and says CWR as well")
  func lossAndMark() throws {
    try Script.run {
      handshake(sack: true, wscale: 7, ecn: true, window: 60_000, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".E", 1...1, ack: 1, window: 1_000_064, sackBlocks: [1001...10_001])
      expect(".", 1...1001, capable: false)
      advance(by: .milliseconds(5))
      inject(".E", 1...1, ack: 10_001, window: 1_000_064)
      targetSays(100_000)
      expect(".W", 10_001...11_001)
      expectSome(4)
    }
  }

  @Test("nor is a loss that comes behind the mark: it is mended, and no CWR is said again")
  func markAndLoss() throws {
    try Script.run {
      handshake(sack: true, wscale: 7, ecn: true, window: 60_000, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(40_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".E", 1...1, ack: 8001, window: 1_000_064)  // five segments from now on
      expect(".W", 10_001...11_001, capable: true)
      expectSome(2)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 8001, window: 1_000_064, sackBlocks: [9001...13_001])
      expect(".", 8001...9001, capable: false)
      let sent = expectAnything()
      #expect(!sent.isEmpty && sent.allSatisfy { !$0.flags.contains(.cwr) })
    }
  }

  @Test("after a time-out the first new data says CWR, what is sent again does not")
  func timeout() throws {
    try Script.run {
      handshake(ecn: true)
      targetSays(2000)
      expectSome(2)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, capable: false)
      inject(".", 1...1, ack: 2001)
      targetSays(1000)
      expect("P.W", 2001...3001, capable: true)
    }
  }

  @Test("an echo while nothing is in flight means nothing: it is an old one")
  func nothingInFlight() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".E", 1...1001, ack: 1)
      inject(".E", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 2001)
      targetSays(20_000)
      expectSome(10)
    }
  }

  @Test("an echo without an agreement means nothing")
  func notAgreed() throws {
    try Script.run {
      handshake()
      targetSays(20_000)
      expectSome(10)
      inject(".E", 1...1, ack: 1001)
      expect(".", 10_001...11_001, capable: false)
      expect(".", 11_001...12_001, capable: false)
    }
  }

  @Test(
    "of a super-packet the device leaves CWR on the first segment; if it cannot, one goes alone")
  func superPackets() throws {
    for cutsReduced in [true, false] {
      try Script.run(offload: true, cutsReduced: cutsReduced) {
        handshake(wscale: 7, ecn: true, window: 60_000)
        inject(".", 1...1, ack: 1, window: 1_000_064)
        targetSays(100_000)
        expect(".", 1...10_001, pieces: 1000, capable: true)
        inject(".E", 1...1, ack: 10_001, window: 1_000_064)
        if cutsReduced {
          #expect(Script.current?.outbox.first?.cutsReduced == true)
          expect(".W", 10_001...12_001, pieces: 1000, capable: true)
          expect(".", 12_001...14_001, pieces: 1000, capable: true)
          expect(".", 14_001...15_001, capable: true)
        } else {
          expect(".W", 10_001...11_001, pieces: 0, capable: true)
          expect(".", 11_001...13_001, pieces: 1000, capable: true)
          expect(".", 13_001...15_001, pieces: 1000, capable: true)
        }
        expectNothing()
      }
    }
  }
}
