import Primitives
import TCP
import Testing
import Wire

// What is lost is sent again: by time-out, by SACK, by duplicate acknowledgements.

@Suite("RFC 6298 and RFC 5681: data out, lost and sent again")
struct RetransmissionTests {
  @Test("unacknowledged data is resent after the time-out, which doubles each time")
  func backoff() throws {
    try Script.run {
      handshake()
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      for milliseconds in [200, 400, 800, 1600] {
        advance(by: .milliseconds(milliseconds - 1))
        expectNothing()
        advance(by: .milliseconds(1))
        expect("P.", 1...101, ack: 1)
      }
      inject(".", 1...1, ack: 101)
      advance(by: .seconds(10))
      expectNothing()
    }
  }

  @Test(
    "an acknowledgement of what was resent is no sample, and leaves the back-off (Karn, §3, §5)")
  func karn() throws {
    try Script.run {
      handshake()
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(200))
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(150))
      inject(".", 1...1, ack: 101)
      targetSays(100)
      expect("P.", 101...201, ack: 1)
      // neither 150 ms nor 350 ms were measured, and the back-off stays until something is
      advance(by: .milliseconds(399))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 101...201, ack: 1)
    }
  }

  @Test("a long round trip lengthens the time-out")
  func longRoundTrip() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .milliseconds(300))
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(899))  // SRTT 300 ms + 4 · 150 ms
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 1...101, ack: 1)
    }
  }

  @Test("after a time-out the window is one segment and grows again")
  func slowStartAfterTimeout() throws {
    try Script.run {
      handshake()
      targetSays(4000)
      expectAnything()
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1001)
      expect(".", 1001...2001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 4001)
      advance(by: .seconds(5))
      expectNothing()
    }
  }

  @Test("and so it is at the next one, before all that was lost is mended")
  func oneSegmentEachTime() throws {
    try Script.run {
      handshake(roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expectSome(2)
      inject(".", 1...1, ack: 3001)
      expectSome(3)
      advance(by: .milliseconds(400))
      expect(".", 3001...4001, ack: 1)
      expectNothing()
    }
  }

  @Test("a peer that never answers again is given up after fifteen time-outs")
  func givenUp() throws {
    try Script.run {
      handshake()
      targetSays(100)
      advance(by: .seconds(20 * 60))
      expectSome(16)
      expectState(.closed)
      expectEvent(.closed)
    }
  }

  @Test("three duplicate acknowledgements resend the first segment at once (RFC 5681 §3.2)")
  func duplicateAcknowledgments() throws {
    try Script.run {
      handshake()
      targetSays(8000)
      expectAnything()
      inject(".", 1...1, ack: 1001)
      inject(".", 1...1, ack: 1001)
      inject(".", 1...1, ack: 1001)
      expectNothing()
      inject(".", 1...1, ack: 1001)
      expect(".", 1001...2001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1001)
      expectNothing()
      inject(".", 1...1, ack: 8001)
      expectNothing()
    }
  }

  @Test("a window update is no duplicate acknowledgement")
  func windowUpdatesAreNoDuplicates() throws {
    try Script.run {
      handshake()
      targetSays(5000)
      expectAnything()
      for window in [60_000, 61_000, 62_000, 63_000] {
        inject(".", 1...1, ack: 1, window: window)
      }
      expectNothing()
    }
  }

  @Test("a partial acknowledgement resends the next gap at once (RFC 6582 §3.2)")
  func partialAcknowledgment() throws {
    try Script.run {
      handshake()
      targetSays(8000)
      expectAnything()
      for _ in 0..<4 { inject(".", 1...1, ack: 1001) }
      expect(".", 1001...2001, ack: 1)
      inject(".", 1...1, ack: 4001)
      expect(".", 4001...5001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 8001)
      expectNothing()
    }
  }

  @Test("a gap that SACK shows is mended as soon as reordering is unlikely (RFC 6675, RFC 8985)")
  func selective() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(8000)
      expectAnything()
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...2001])
      expectNothing()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...3001])
      expectNothing()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...4001])
      expect(".", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 4001)
      expectNothing()
      inject(".", 1...1, ack: 8001)
      expectNothing()
    }
  }

  @Test("a gap that stays is mended when the reordering window has passed (RFC 8985 §6.3)")
  func reorderingWindow() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(8))
      targetSays(8000)
      expectAnything()
      advance(by: .milliseconds(8))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...2001])
      advance(by: .milliseconds(1))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1...1001, ack: 1)
      expectNothing()
    }
  }

  @Test("every gap that SACK shows is mended, nothing else")
  func gaps() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectAnything()
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...2001, 3001...5001, 6001...10_001])
      expect(".", 1...1001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      expect(".", 5001...6001, ack: 1)
      expectNothing()
    }
  }

  @Test("a retransmission that is lost too is found by a later arrival (RFC 8985 §6.2)")
  func lostRetransmission() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectAnything()
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...9001])
      expect(".", 1...1001, ack: 1)
      advance(by: .milliseconds(1))
      targetSays(2000)
      expectSome(2)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...11_001])
      expect(".", 1...1001, ack: 1)
      expectAnything()
    }
  }

  @Test("a tail that is lost is resent by the timer, SACK or not")
  func lostTail() throws {
    try Script.run {
      handshake(sack: true)
      targetSays(2000)
      expectAnything()
      inject(".", 1...1, ack: 1001)
      advance(by: .milliseconds(200))
      expect("P.", 1001...2001, ack: 1)
      inject(".", 1...1, ack: 2001)
    }
  }

  @Test("SACK blocks of what was never sent, or turned round, change nothing")
  func absurdBlocks() throws {
    try Script.run {
      handshake(sack: true)
      targetSays(3000)
      expectAnything()
      inject(".", 1...1, ack: 1, sackBlocks: [5001...9001])
      inject(".", 1...1, ack: 1, sackBlocks: [-5000...2001])
      expectNothing()
      inject(".", 1...1, ack: 3001)
    }
  }
}
