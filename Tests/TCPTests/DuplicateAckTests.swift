import Primitives
import TCP
import Testing
import Wire

// Peers without SACK: what duplicate acknowledgements tell, and what recovery makes of it.

@Suite("RFC 3042: limited transmit")
struct LimitedTransmitTests {
  @Test("the first two duplicates let a new segment out each, the third the missing one")
  func newData() throws {
    try Script.run {
      handshake()
      targetSays(40_000)
      expectSome(10)
      inject(".", 1...1, ack: 1)
      expect(".", 10_001...11_001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1)
      expect(".", 11_001...12_001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1)
      expect(".", 1...1001, ack: 1)
      expectNothing()
    }
  }

  @Test("not beyond the peer's window")
  func window() throws {
    try Script.run {
      handshake(window: 10_000)
      targetSays(40_000)
      expectSome(10)
      for _ in 0..<2 { inject(".", 1...1, ack: 1, window: 10_000) }
      expectNothing()
      inject(".", 1...1, ack: 1, window: 10_000)
      expect(".", 1...1001, ack: 1)
    }
  }

  @Test("a segment with data is no duplicate (RFC 5681 §2)")
  func carriesData() throws {
    try Script.run {
      handshake()
      targetSays(40_000)
      expectSome(10)
      inject(".", 1...101, ack: 1)
      expectNothing()
    }
  }

  @Test("an acknowledgement that is older is none")
  func older() throws {
    try Script.run {
      handshake()
      targetSays(40_000)
      expectSome(10)
      inject(".", 1...1, ack: 2001)
      expectSome(4)
      for _ in 0..<5 { inject(".", 1...1, ack: 1001) }
      expectNothing()
    }
  }

  @Test("with SACK a duplicate that tells nothing new lets nothing out")
  func selectiveWithoutNews() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(40_000)
      expectSome(10)
      for _ in 0..<5 { inject(".", 1...1, ack: 1) }
      expectNothing()
    }
  }

  @Test("with SACK each segment that has arrived lets one out")
  func selective() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(40_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...2001])
      expect(".", 10_001...11_001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...3001])
      expect(".", 11_001...12_001, ack: 1)
      expectNothing()
    }
  }

  @Test("the threshold is half of the window, not of what was sent beyond it (RFC 5681 §3.2)")
  func threshold() throws {
    try Script.run {
      handshake()
      targetSays(40_000)
      expectSome(10)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expectSome(3)
      inject(".", 1...1, ack: 12_001)
      expectSome(5)
    }
  }
}

@Suite("RFC 5681 §3.2, RFC 9937: fast recovery without SACK")
struct RenoRecoveryTests {
  @Test("further duplicates let new data out at the pace of β")
  func paced() throws {
    try Script.run {
      handshake()
      targetSays(40_000)
      expectSome(10)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expectSome(3)
      var sent: [Int] = []
      for _ in 0..<7 {
        inject(".", 1...1, ack: 1)
        sent.append(expectAnything().count)
      }
      // eight have arrived since recovery began: half of that is the missing segment and three new
      #expect(sent.reduce(0, +) == 3)
      #expect(sent.allSatisfy { $0 <= 1 })
    }
  }

  @Test("recovery ends with the acknowledgement of all that was in flight, at the threshold")
  func ends() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      for _ in 0..<9 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 10_001)
      targetSays(40_000)
      expectSome(5)
    }
  }

  @Test("duplicates beyond the segments that were in flight let nothing out (§3.2, step 4)")
  func dishonest() throws {
    try Script.run {
      handshake()
      targetSays(60_000)
      expectSome(10)
      for _ in 0..<200 { inject(".", 1...1, ack: 1) }
      let sent = expectAnything()
      #expect((sent.last?.range.upperBound ?? 0) <= 17_001)
    }
  }

  @Test("the window never grows by duplicates (RFC 5681 §3.2)")
  func noGrowth() throws {
    try Script.run {
      handshake()
      targetSays(60_000)
      expectSome(10)
      for _ in 0..<2 { inject(".", 1...1, ack: 1) }
      expectSome(2)
      inject(".", 1...1, ack: 1001)
      // the acknowledged segment and the window's growth in slow start, less the two ahead
      expectNothing()
      inject(".", 1...1, ack: 12_001)
      targetSays(1)
      expectSome()
    }
  }
}

@Suite("RFC 6582: NewReno's partial acknowledgements")
struct PartialAcknowledgmentTests {
  @Test("each one sends the next hole at once, until all that was in flight is acknowledged")
  func holes() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      for _ in 0..<4 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 3001)
      expect(".", 3001...4001, ack: 1)
      inject(".", 1...1, ack: 7001)
      expect(".", 7001...8001, ack: 1)
      inject(".", 1...1, ack: 10_001)
      advance(by: .seconds(5))
      expectNothing()
    }
  }

  @Test("only the first moves the timer (§3.2: impatient)")
  func timer() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      advance(by: .milliseconds(100))
      inject(".", 1...1, ack: 4001)
      expect(".", 4001...5001, ack: 1)
      advance(by: .milliseconds(100))
      inject(".", 1...1, ack: 6001)
      expect(".", 6001...7001, ack: 1)
      advance(by: .milliseconds(99))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 6001...7001, ack: 1)
      expectNothing()
    }
  }

  @Test("duplicates that recovery itself caused begin no other (§3.2, step 2)")
  func noSecondRecovery() throws {
    try Script.run {
      handshake()
      targetSays(8000)
      expectSome(8)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 8001)
      targetSays(4000)
      expectSome(4)
      for _ in 0..<5 { inject(".", 1...1, ack: 8001) }
      expectNothing()
    }
  }

  @Test("once something after it is acknowledged, three duplicates count again")
  func laterRecovery() throws {
    try Script.run {
      handshake()
      targetSays(8000)
      expectSome(8)
      for _ in 0..<3 { inject(".", 1...1, ack: 1) }
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 8001)
      targetSays(4000)
      expectSome(4)
      inject(".", 1...1, ack: 9001)
      for _ in 0..<2 { inject(".", 1...1, ack: 9001) }
      expect(".", 9001...10_001, ack: 1)  // three in flight: two are enough (RFC 5827)
    }
  }

  @Test("after a time-out duplicates of the old window begin no fast recovery (§4)")
  func afterTimeout() throws {
    try Script.run {
      handshake()
      targetSays(8000)
      expectSome(8)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      for _ in 0..<6 { inject(".", 1...1, ack: 1) }
      expectNothing()
      inject(".", 1...1, ack: 8001)
      expectNothing()
    }
  }
}

@Suite("RFC 5827: early retransmit without SACK")
struct EarlyRetransmitTests {
  @Test("of two segments in flight one duplicate is enough, of three two, of four still three")
  func thresholds() throws {
    for (segments, duplicates) in [(2, 1), (3, 2), (4, 3), (5, 3)] {
      try Script.run {
        handshake()
        targetSays(segments * 1000)
        expectSome(segments)
        for _ in 1..<duplicates { inject(".", 1...1, ack: 1) }
        expectNothing()
        inject(".", 1...1, ack: 1)
        expect(".", 1...1001, ack: 1)
        inject(".", 1...1, ack: segments * 1000 + 1)
      }
    }
  }

  @Test("small segments count as segments (§3.2)")
  func smallSegments() throws {
    try Script.run {
      handshake()
      for _ in 0..<3 { targetSays(100) }
      expectSome(3)
      inject(".", 1...1, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1)
      expect(".", 1...101, ack: 1)
    }
  }

  @Test("a lone segment has nothing behind it that could make duplicates")
  func loneSegment() throws {
    try Script.run {
      handshake()
      targetSays(1000)
      expectSome(1)
      for _ in 0..<2 { inject(".", 1...1, ack: 1) }
      expectNothing()
    }
  }

  @Test("data that the peer's window holds back cannot make duplicates either (§3, condition b)")
  func heldBack() throws {
    try Script.run {
      handshake(window: 2000)
      targetSays(5000)
      expectSome(2)
      inject(".", 1...1, ack: 1, window: 2000)
      expect(".", 1...1001, ack: 1)
    }
  }

  @Test("while new data may be sent, that is sent (limited transmit), and three are needed")
  func newDataFirst() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 10_001)  // window: two segments
      targetSays(20_000)
      expectSome(2)
      inject(".", 1...1, ack: 11_001)
      expectSome(2)
      inject(".", 1...1, ack: 11_001)
      expect(".", 14_001...15_001, ack: 1)
      inject(".", 1...1, ack: 11_001)
      expect(".", 15_001...16_001, ack: 1)
      inject(".", 1...1, ack: 11_001)
      expect(".", 11_001...12_001, ack: 1)
    }
  }
}
