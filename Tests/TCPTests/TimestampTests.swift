import Primitives
import TCP
import Testing
import Wire

// Timestamps (RFC 7323 §3 to §5): agreed on or not, echoed, and old ones refused. The client's clock
// begins a quarter of a second before its wrap.

private func clock(_ milliseconds: Int) -> UInt32 {
  Script.clientClock &+ UInt32(truncatingIfNeeded: milliseconds)
}

@Suite("RFC 7323 §3, §4: timestamps are agreed on, sent always, and echoed")
struct TimestampTests {
  @Test("without an offer none is sent, and one that comes all the same is not looked at")
  func notOffered() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...101, ack: 1, ts: true)
      inject("P.", 101...201, ack: 1, ts: true, timestamp: 5)
      expectTaken(200)
      targetSays(100)
      expect("P.", 1...101, ack: 201, ts: false)
    }
  }

  @Test("with one, every segment has it: SYN-ACK, data, FIN, acknowledgements")
  func always() throws {
    try Script.run {
      inject("S", 0...0, ts: true)
      targetConnects()
      expect("S.", 0...0, ack: 1, ts: true, echo: clock(0))
      inject("S", 0...0, ts: true)
      expect("S.", 0...0, ack: 1, ts: true)
      inject(".", 1...1, ack: 1)
      targetSays(10)
      expect("P.", 1...11, ts: true)
      inject("P.", 1...2001, ack: 11)
      expect(".", 11...11, ack: 2001, ts: true)
      inject("S", 9...9, ts: true)
      expect(".", 11...11, ack: 2001, ts: true)
      targetFinishes()
      expect("F.", 11...11, ts: true)
      inject("F.", 2001...2001, ack: 12)
      expect(".", 12...12, ack: 2002, ts: true)
    }
  }

  @Test("a segment that lacks it is dropped in silence, and the connection goes on (§3.2)")
  func missing() throws {
    try Script.run {
      handshake(ts: true)
      inject("P.", 1...101, ack: 1, unstamped: true)
      expectSilence(.established)
      expectDrop(.pawsRejected, 1)
      expectTaken(0)
      inject("P.", 1...101, ack: 1)
      expectTaken(100)
    }
  }

  @Test("a reset that lacks it counts")
  func resetWithout() throws {
    try Script.run {
      handshake(ts: true)
      inject("R", 1...1, unstamped: true)
      expectState(.closed)
    }
  }

  @Test("ours count milliseconds from a number of the connection's own (§5.4, §7.1)")
  func clockRate() throws {
    try Script.run {
      inject("S", 0...0, ts: true)
      targetConnects()
      let first = expectAnything().first?.options.timestamp?.value ?? 0
      inject(".", 1...1, ack: 1)
      advance(by: .milliseconds(123))
      targetSays(10)
      let second = expectAnything().first?.options.timestamp?.value ?? 0
      #expect(second &- first == 123)
    }
  }

  @Test("a delayed acknowledgement echoes the first segment that it covers (§4.3)")
  func delayed() throws {
    try Script.run {
      handshake(ts: true)
      advance(by: .milliseconds(100))
      inject("P.", 1...101, ack: 1)
      advance(by: .milliseconds(20))
      inject("P.", 101...201, ack: 1)
      advance(by: .milliseconds(20))
      expect(".", 1...1, ack: 201, echo: clock(100))
      advance(by: .milliseconds(10))
      inject("P.", 201...301, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 301, echo: clock(150))
    }
  }

  @Test("behind a gap the echo stays; what fills the gap brings its own (§4.3)")
  func gap() throws {
    try Script.run {
      handshake(ts: true)
      advance(by: .milliseconds(10))
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1, echo: clock(0))
      advance(by: .milliseconds(10))
      inject(".", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 1, echo: clock(0))
      advance(by: .milliseconds(10))
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 3001, echo: clock(30))
    }
  }

  @Test("an old segment that comes again does not turn the echo back")
  func retransmission() throws {
    try Script.run {
      handshake(ts: true)
      advance(by: .milliseconds(50))
      inject("P.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101, echo: clock(50))
      inject("P.", 1...101, ack: 1, timestamp: clock(50))
      expect(".", 1...1, ack: 101, echo: clock(50))
    }
  }

  @Test("segments are shorter by what the option takes (RFC 6691 §3)")
  func shorter() throws {
    try Script.run {
      handshake(ts: true)
      targetSays(2000)
      expect(".", 1...989, ts: true)
      expect(".", 989...1977, ts: true)
      expect("P.", 1977...2001, ts: true)
    }
  }
}

@Suite("RFC 7323 §5: PAWS")
struct PAWSTests {
  private func open() {
    handshake(ts: true)
    advance(by: .seconds(1))
    inject("P.", 1...2001, ack: 1)
    expect(".", 1...1, ack: 2001, echo: clock(1000))
  }

  @Test("older than the last in order: answered, dropped, nothing of it counts")
  func old() throws {
    try Script.run {
      open()
      targetSays(10)
      expectSome(1)
      inject("FP.", 2001...2101, ack: 11, window: 3, timestamp: clock(999))
      expect(".", 11...11, ack: 2001, echo: clock(1000))
      expectDrop(.pawsRejected, 1)
      expectTaken(2000)
      expectPeerWindow(64_000)
      expectNoEvent(.finished)
    }
  }

  @Test("equal is not older")
  func equal() throws {
    try Script.run {
      open()
      inject("P.", 2001...2101, ack: 1, timestamp: clock(1000))
      expectTaken(2100)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 2101)
    }
  }

  @Test("the clock may wrap")
  func wrap() throws {
    try Script.run {
      handshake(ts: true)
      for turn in 0..<10 {
        advance(by: .milliseconds(100))
        inject("P.", 1 + turn * 2000...2001 + turn * 2000, ack: 1)
        expect(".", 1...1, ack: 2001 + turn * 2000, echo: clock(100 + turn * 100))
      }
      expectTaken(20_000)
    }
  }

  @Test("half a round of the clock ahead is older")
  func halfRound() throws {
    try Script.run {
      open()
      inject("P.", 2001...2101, ack: 1, timestamp: clock(1000) &+ 0x8000_0000)
      expect(".", 1...1, ack: 2001)
      expectDrop(.pawsRejected, 1)
      inject("P.", 2001...2101, ack: 1, timestamp: clock(1000) &+ 0x7FFF_FFFF)
      expectTaken(2100)
      expectAnything()
    }
  }

  @Test("after 24 days of silence any clock is right (§5.5)")
  func outdated() throws {
    try Script.run {
      open()
      advance(by: .seconds(24 * 86_400 + 2))
      inject("P.", 2001...2101, ack: 1, timestamp: clock(5))
      expectTaken(2100)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 2101, echo: clock(5))
    }
  }

  @Test("a reset is judged without it (§5.2)")
  func reset() throws {
    try Script.run {
      open()
      inject("R", 2001...2001, timestamp: clock(1))
      expectState(.closed)
    }
  }

  @Test("a SYN is challenged, old timestamp or new (RFC 5961 §4)")
  func syn() throws {
    try Script.run {
      open()
      inject("S", 2001...2001, ts: true, timestamp: clock(1))
      expect(".", 1...1, ack: 2001)
      expectDrop(.challenged, 1)
      expectDrop(.pawsRejected, 0)
    }
  }

  @Test("answers to old segments are bounded in number")
  func flood() throws {
    try Script.run {
      open()
      for _ in 0..<50 { inject(".", 2001...2001, ack: 1, timestamp: clock(3)) }
      expectSome(10)
      expectDrop(.pawsRejected, 50)
    }
  }

  @Test("before the window it does not matter how new a timestamp is: it is not kept")
  func notKept() throws {
    try Script.run {
      open()
      inject("P.", 1...101, ack: 1, timestamp: clock(9000))
      expect(".", 1...1, ack: 2001, echo: clock(1000))
      inject("P.", 2001...2101, ack: 1)
      expectTaken(2100)
      advance(by: .milliseconds(40))
      expectSome(1)
    }
  }
}
