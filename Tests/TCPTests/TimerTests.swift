import Primitives
import TCP
import Testing
import Wire

// The retransmission timer, what it is computed from, and the persist timer.

@Suite("RFC 6298 §5: the retransmission timer")
struct RetransmissionTimerTests {
  @Test("it doubles with each expiry, up to a minute (§5.5)")
  func backoff() throws {
    try Script.run {
      handshake()
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      for interval in [
        200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
      ] {
        advance(by: .milliseconds(interval - 1))
        expectNothing()
        advance(by: .milliseconds(1))
        expect("P.", 1...101, ack: 1)
      }
    }
  }

  @Test("an acknowledgement of new data starts it anew (§5.3)")
  func restarted() throws {
    try Script.run {
      handshake(roundTrip: .milliseconds(100))
      targetSays(3000)
      expectSome(3)
      advance(by: .milliseconds(100))
      inject(".", 1...1, ack: 1001)
      // two samples a round trip are expected: RTTVAR = 50 - 50/8 = 43.75, RTO = 100 + 175
      advance(by: .milliseconds(274))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1001...2001, ack: 1)
    }
  }

  @Test("only the earliest segment is sent again (§5.4)")
  func earliest() throws {
    try Script.run {
      handshake()
      targetSays(9000)
      expectSome(9)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      expectNothing()
    }
  }

  @Test("the back-off ends with a measurement of new data (§5)")
  func collapses() throws {
    try Script.run {
      handshake()
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(600))
      expectSome(2)
      inject(".", 1...1, ack: 101)
      targetSays(100)
      expect("P.", 101...201, ack: 1)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 201)
      targetSays(100)
      expect("P.", 201...301, ack: 1)
      advance(by: .milliseconds(200))
      expect("P.", 201...301, ack: 1)
    }
  }

  @Test("repeated expiries in one window leave the threshold alone (RFC 5681 §3.1)")
  func thresholdOnce() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(200 + 400 + 800))
      expectSome(3)
      inject(".", 1...1, ack: 10_001)
      targetSays(60_000)
      var acknowledged = 10_001
      var flights: [Int] = []
      for _ in 0..<4 {
        let sent = expectAnything()
        flights.append(sent.count)
        for segment in sent {
          acknowledged = segment.range.upperBound
          inject(".", 1...1, ack: acknowledged)
        }
      }
      expectAnything()
      // slow start from two up to five, half of what was in flight at the first; then linear
      #expect(flights == [2, 4, 5, 6])
    }
  }
}

@Suite("RFC 7323 §4: round trips by timestamps")
struct TimestampRoundTripTests {
  /// A segment, sent again after 200 ms.
  private func resent() -> (original: UInt32, again: UInt32) {
    handshake(mss: 1012, ts: true, roundTrip: .milliseconds(10))
    targetSays(100)
    let original = expectAnything().first?.options.timestamp?.value ?? 0
    advance(by: .milliseconds(200))
    return (original, expectAnything().first?.options.timestamp?.value ?? 0)
  }

  @Test("what was sent twice is measured from the transmission that is echoed: the second")
  func second() throws {
    try Script.run(mss: 1012) {
      let stamps = resent()
      advance(by: .milliseconds(150))
      inject(".", 1...1, ack: 101, echo: stamps.again)
      targetSays(100)
      expectSome(1)
      // SRTT = 10 + 140/8 = 27.5, RTTVAR = 5 + 135/4 = 38.75: below the least, and no back-off
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expectSome(1)
    }
  }

  @Test("or the first, however long ago")
  func first() throws {
    try Script.run(mss: 1012) {
      let stamps = resent()
      advance(by: .milliseconds(150))
      inject(".", 1...1, ack: 101, echo: stamps.original)
      targetSays(100)
      expectSome(1)
      // 350 ms: SRTT = 10 + 340/8 = 52.5, RTTVAR = 5 + 335/4 = 88.75
      advance(by: .milliseconds(407))
      expectNothing()
      advance(by: .milliseconds(1))
      expectSome(1)
    }
  }

  @Test("a timestamp that was never sent measures nothing")
  func invented() throws {
    for offset in [100_000 as UInt32, 0 &- 100_000, 1 << 31] {
      try Script.run(mss: 1012) {
        let stamps = resent()
        advance(by: .milliseconds(150))
        inject(".", 1...1, ack: 101, echo: stamps.again &+ offset)
        targetSays(100)
        expectSome(1)
        advance(by: .milliseconds(399))  // still backed off
        expectNothing()
        advance(by: .milliseconds(1))
        expectSome(1)
      }
    }
  }

  @Test("a handshake that was repeated is measured by them: no three seconds (RFC 6298 §5.7)")
  func handshakeRepeated() throws {
    try Script.run(mss: 1012) {
      inject("S", 0...0, mss: 1012, ts: true)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .seconds(1))
      expect("S.", 0...0, ack: 1)
      advance(by: .milliseconds(50))
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 1...101, ack: 1)
    }
  }
}

@Suite("RFC 9293 §3.8.6.1: probes of a closed window")
struct PersistTests {
  private func closedWindow() {
    handshake(window: 1000)
    targetSays(5000)
    expect(".", 1...1001, ack: 1)
    inject(".", 1...1, ack: 1001, window: 0)
  }

  @Test("the first after an RTO, then with doubled pauses up to a minute")
  func backoff() throws {
    try Script.run {
      closedWindow()
      for interval in [
        200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
      ] {
        advance(by: .milliseconds(interval - 1))
        expectNothing()
        advance(by: .milliseconds(1))
        expect(".", 1001...1002, ack: 1)
        inject(".", 1...1, ack: 1001, window: 0)
      }
    }
  }

  @Test("as long as they are answered it goes on: for a day")
  func answered() throws {
    try Script.run {
      closedWindow()
      for _ in 0..<24 * 60 {
        advance(by: .seconds(60))
        expectSome()
        inject(".", 1...1, ack: 1001, window: 0)
      }
      expectState(.established)
      inject(".", 1...1, ack: 1001, window: 8000)
      expectSome(5)
    }
  }

  @Test("fifteen without any answer are the end")
  func silence() throws {
    try Script.run {
      closedWindow()
      advance(by: .seconds(20 * 60))
      expectSome(15)
      expectState(.closed)
    }
  }

  @Test("one answer in between is enough to go on")
  func rareAnswers() throws {
    try Script.run {
      closedWindow()
      for _ in 0..<10 {
        advance(by: .seconds(8 * 60))
        expectSome()
        inject(".", 1...1, ack: 1001, window: 0)
      }
      expectState(.established)
    }
  }

  @Test("the answer to a probe tells of a window update that was lost")
  func lostUpdate() throws {
    try Script.run {
      closedWindow()
      advance(by: .milliseconds(200))
      expect(".", 1001...1002, ack: 1)
      inject(".", 1...1, ack: 1002, window: 2000)
      expect(".", 1002...2002, ack: 1)
      expect(".", 2002...3002, ack: 1)
      expectNothing()
    }
  }

  @Test("a closed window is no congestion: what follows is sent at once, as much as before")
  func noCongestion() throws {
    try Script.run {
      handshake()
      targetSays(20_000)
      expectSome(10)
      inject(".", 1...1, ack: 10_001, window: 0)
      advance(by: .seconds(10))
      expectSome()
      inject(".", 1...1, ack: 10_001, window: 64_000)
      expectSome(11)  // the probe's octet again, and ten segments
    }
  }
}
