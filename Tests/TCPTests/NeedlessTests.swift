import Primitives
import TCP
import Testing
import Wire

// Retransmissions that were needless: found out, and taken back.

@Suite("RFC 3522, RFC 4015: Eifel, by timestamps")
struct EifelTests {
  @Test(
    "a time-out whose acknowledgement echoes the original is taken back: nothing else is resent")
  func timeout() throws {
    try Script.run(mss: 1012) {
      handshake(mss: 1012, ts: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      let original = expectAnything().first?.options.timestamp?.value
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001, echo: original)
      expectNothing()
      inject(".", 1...1, ack: 4001, echo: original)
      targetSays(40_000)
      expectSome(7)  // 3000 in flight and 1000 acknowledged, and slow start with the next 3000
    }
  }

  @Test("one that echoes the retransmission is not")
  func neededTimeout() throws {
    try Script.run(mss: 1012) {
      handshake(mss: 1012, ts: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      expectSome(4)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expect(".", 1001...2001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      expectNothing()
    }
  }

  @Test("only the first acknowledgement after it counts (RFC 3522 §3.2, step 5)")
  func firstOnly() throws {
    try Script.run(mss: 1012) {
      handshake(mss: 1012, ts: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      let original = expectAnything().first?.options.timestamp?.value
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expectSome(2)
      inject(".", 1...1, ack: 2001, echo: original)
      expect("P.", 3001...4001, ack: 1)
    }
  }

  @Test("a fast retransmission for what was only late: window and threshold as before")
  func fastRetransmission() throws {
    try Script.run(mss: 1012) {
      handshake(mss: 1012, sack: true, wscale: 7, ts: true, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(8000)
      let original = expectAnything().first?.options.timestamp?.value
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064, sackBlocks: [1001...4001])
      expect(".", 1...1001, ack: 1)
      advance(by: .milliseconds(2))
      inject(".", 1...1, ack: 4001, window: 1_000_064, echo: original)
      expectNothing()
      inject(".", 1...1, ack: 8001, window: 1_000_064)
      targetSays(40_000)
      expectSome(10)
    }
  }

  @Test("and CWR that is owed for it is not said: nothing was reduced", arguments: [true, false])
  func reducedNotice(isNeedless: Bool) throws {
    try Script.run(mss: 1012) {
      handshake(
        mss: 1012, sack: true, wscale: 7, ts: true, ecn: true, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(8000)
      let original = expectAnything().first?.options.timestamp?.value
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064, sackBlocks: [1001...4001])
      expect(".", 1...1001, ack: 1, capable: false)
      advance(by: .milliseconds(2))
      inject(".", 1...1, ack: 4001, window: 1_000_064, echo: isNeedless ? original : nil)
      inject(".", 1...1, ack: 8001, window: 1_000_064)
      targetSays(1000)
      expect(isNeedless ? "P." : "P.W", 8001...9001, ack: 1, capable: true)
    }
  }

  @Test("without timestamps nothing is taken back by an acknowledgement")
  func noTimestamps() throws {
    try Script.run {
      handshake(roundTrip: .milliseconds(10))
      targetSays(4000)
      expectSome(4)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expectSome(2)
    }
  }
}

@Suite("RFC 2883, RFC 3708: needless by D-SACK")
struct DuplicateUndoTests {
  /// Eight segments of ten, the first one resent and all acknowledged: the window is four segments.
  private func recovered(_ blocks: [ClosedRange<Int>], resent: Int) {
    handshake(sack: true, wscale: 7, window: 60_000, roundTrip: .milliseconds(10))
    inject(".", 1...1, ack: 1, window: 1_000_064)
    targetSays(8000)
    expectSome(8)
    advance(by: .milliseconds(10))
    inject(".", 1...1, ack: 1, window: 1_000_064, sackBlocks: blocks)
    expectSome(resent)
    inject(".", 1...1, ack: 8001, window: 1_000_064)
  }

  @Test("all that was sent again came twice: the window is as before")
  func restored() throws {
    try Script.run {
      recovered([1001...8001], resent: 1)
      inject(".", 1...1, ack: 8001, window: 1_000_064, sackBlocks: [1...1001])
      targetSays(40_000)
      expectSome(10)
    }
  }

  @Test("without such a report it stays at half of the flight")
  func reduced() throws {
    try Script.run {
      recovered([1001...8001], resent: 1)
      targetSays(40_000)
      expectSome(4)
    }
  }

  @Test("one of two retransmissions was needless: the other was not")
  func half() throws {
    try Script.run {
      recovered([1001...2001, 3001...8001], resent: 2)
      inject(".", 1...1, ack: 8001, window: 1_000_064, sackBlocks: [1...1001])
      targetSays(40_000)
      expectSome(4)
    }
  }

  @Test("both were, told one after the other")
  func both() throws {
    try Script.run {
      recovered([1001...2001, 3001...8001], resent: 2)
      inject(".", 1...1, ack: 8001, window: 1_000_064, sackBlocks: [1...1001])
      inject(".", 1...1, ack: 8001, window: 1_000_064, sackBlocks: [2001...3001])
      targetSays(40_000)
      expectSome(10)
    }
  }

  @Test("a duplicate from before the recovery proves nothing about it")
  func older() throws {
    try Script.run {
      handshake(sack: true, wscale: 7, window: 60_000, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(9000)
      expectSome(9)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1001, window: 1_000_064)
      inject(".", 1...1, ack: 1001, window: 1_000_064, sackBlocks: [2001...9001])
      expectSome(1)
      inject(".", 1...1, ack: 9001, window: 1_000_064, sackBlocks: [1...1001])
      targetSays(40_000)
      expectSome(4)
    }
  }

  @Test("a time-out whose retransmission came twice is taken back: the rest is not resent")
  func timeout() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      expectSome(4)
      advance(by: .milliseconds(22))
      expect("P.", 3001...4001, ack: 1)  // the tail probe
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001, sackBlocks: [1...1001])
      expectNothing()
      inject(".", 1...1, ack: 4001)
      expectNothing()
    }
  }

  @Test("a mark of congestion since then stands (RFC 3168)")
  func marked() throws {
    try Script.run {
      handshake(sack: true, wscale: 7, ecn: true, window: 60_000, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(8000)
      expectSome(8)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064, sackBlocks: [1001...8001])
      expectSome(1)
      inject(".", 1...1, ack: 8001, window: 1_000_064)
      targetSays(4000)
      expectSome(4)
      inject(".E", 1...1, ack: 9001, window: 1_000_064)
      inject(".", 1...1, ack: 12_001, window: 1_000_064, sackBlocks: [1...1001])
      targetSays(40_000)
      expectSome(3)  // half of four, and one for the window acknowledged since
    }
  }

  @Test("a duplicate acknowledgement that only tells of a duplicate is no sign of loss")
  func noSignOfLoss() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      expectSome(4)
      inject(".", 1...1, ack: 2001)
      for _ in 0..<4 { inject(".", 1...1, ack: 2001, sackBlocks: [1...1001]) }
      expectNothing()
    }
  }
}
