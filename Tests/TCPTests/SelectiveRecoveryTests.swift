import Primitives
import TCP
import Testing
import Wire

// Selective acknowledgements: believed as far as they go, and no further.

@Suite("RFC 2018 §8: a peer that gives up what it said had arrived")
struct RenegingTests {
  /// Of four segments the first is missing, and resent.
  private func gap() {
    handshake(sack: true, roundTrip: .milliseconds(10))
    targetSays(4000)
    expectSome(4)
    advance(by: .milliseconds(10))
    inject(".", 1...1, ack: 1, sackBlocks: [1001...4001])
    expect(".", 1...1001, ack: 1)
  }

  @Test("after a time-out nothing that was told counts: all is sent again")
  func timeout() throws {
    try Script.run {
      gap()
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expect(".", 1001...2001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      inject(".", 1...1, ack: 3001)
      expect("P.", 3001...4001, ack: 1)
    }
  }

  @Test("an acknowledgement that stops in front of what had arrived brings the timer nearer")
  func stopsShort() throws {
    try Script.run {
      gap()
      inject(".", 1...1, ack: 1001)
      advance(by: .milliseconds(9))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1001...2001, ack: 1)
    }
  }

  @Test("unless its successor comes")
  func overtaken() throws {
    try Script.run {
      gap()
      inject(".", 1...1, ack: 1001)
      advance(by: .milliseconds(5))
      inject(".", 1...1, ack: 4001)
      advance(by: .seconds(5))
      expectNothing()
    }
  }

  @Test("the first segment is sent again by the timer, also when it was told to have arrived")
  func leftEdge() throws {
    try Script.run {
      gap()
      inject(".", 1...1, ack: 1001)
      advance(by: .milliseconds(10))
      expect(".", 1001...2001, ack: 1)
      advance(by: .milliseconds(400))
      expect(".", 1001...2001, ack: 1)
    }
  }
}

@Suite("RFC 2018, RFC 2883: blocks that we send")
struct BlocksSentTests {
  @Test("a segment that overlaps what was taken is told as far as it does (RFC 2883 §4.1)")
  func partOfSegment() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1...1001, ack: 1)
      inject(".", 501...1501, ack: 1)
      expect(".", 1...1, ack: 1501, sackBlocks: [501...1001])
    }
  }

  @Test("each duplicate is told once: the next acknowledgement is bare (RFC 2883 §4)")
  func once() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1...2001, ack: 1)
      expect(".", 1...1, ack: 2001)
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001, sackBlocks: [1...1001])
      inject(".", 2001...4001, ack: 1)
      expect(".", 1...1, ack: 4001)
    }
  }

  @Test("a duplicate comes before the runs behind a gap (RFC 2883 §4.2)")
  func beforeRuns() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1...2001, ack: 1)
      inject(".", 3001...4001, ack: 1)
      expectAnything()
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001, sackBlocks: [1...1001, 3001...4001])
    }
  }

  @Test("nothing is told to a peer that did not ask (RFC 2018 §2)")
  func notPermitted() throws {
    try Script.run {
      handshake()
      inject(".", 1...2001, ack: 1)
      expectAnything()
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001)
      inject(".", 3001...4001, ack: 1)
      expect(".", 1...1, ack: 2001)
    }
  }
}

@Suite("RFC 8985 §6.2: the reordering window")
struct ReorderingWindowTests {
  /// Eight segments, of which the first arrives after the second: the path reorders.
  private func reordered() {
    handshake(sack: true, roundTrip: .milliseconds(8))
    targetSays(8000)
    expectSome(8)
    advance(by: .milliseconds(8))
    inject(".", 1...1, ack: 1, sackBlocks: [1001...2001])
    inject(".", 1...1, ack: 2001)
    expectNothing()
  }

  @Test("on a path that was seen to reorder, a quarter of the round trip is waited, always")
  func waits() throws {
    try Script.run {
      reordered()
      inject(".", 1...1, ack: 2001, sackBlocks: [3001...8001])
      advance(by: .milliseconds(1))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 2001...3001, ack: 1)
      expectNothing()
    }
  }

  @Test("what arrives meanwhile is not resent, and the window is not reduced")
  func arrivesLate() throws {
    try Script.run {
      reordered()
      inject(".", 1...1, ack: 2001, sackBlocks: [3001...8001])
      advance(by: .milliseconds(1))
      inject(".", 1...1, ack: 8001)
      targetSays(40_000)
      expectSome(10)
    }
  }

  @Test("each D-SACK widens it by another quarter, once a round trip (§6.2, step 4)")
  func widened() throws {
    try Script.run {
      reordered()
      inject(".", 1...1, ack: 2001, sackBlocks: [1...1001])
      inject(".", 1...1, ack: 2001, sackBlocks: [3001...8001])
      advance(by: .milliseconds(3))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 2001...3001, ack: 1)
    }
  }
}

@Suite("RFC 9937 §5.2: PRR")
struct ProportionalRateTests {
  @Test("with next to nothing left in flight one segment goes, then as many as arrive and one more")
  func slowStart() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [9001...10_001])
      advance(by: .milliseconds(3))  // the reordering window: all nine before it are lost
      expect(".", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1001, sackBlocks: [9001...10_001])
      expect(".", 1001...2001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 3001, sackBlocks: [9001...10_001])
      expect(".", 3001...4001, ack: 1)
      expect(".", 4001...5001, ack: 1)
      expect(".", 5001...6001, ack: 1)
      expectNothing()
    }
  }

  @Test("never more in flight than the threshold")
  func threshold() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(40_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [7001...10_001])
      // three have arrived, seven are lost: the pipe is empty, half of ten is allowed in the end
      var inFlight = expectAnything().count
      #expect(inFlight == 3)  // as many as were delivered
      for last in 1...4 {
        inject(".", 1...1, ack: last * 1000 + 1, sackBlocks: [7001...10_001])
        inFlight += expectAnything().count - 1
        #expect(inFlight <= 5)
      }
    }
  }

  @Test("at its end the window is the threshold")
  func end() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [1001...10_001])
      expectSome(1)
      inject(".", 1...1, ack: 10_001)
      targetSays(40_000)
      expectSome(5)
    }
  }
}

@Suite("RFC 3465, RFC 5681: acknowledgements that want too much, windows that waited")
struct DishonestAcknowledgmentTests {
  @Test("a segment acknowledged in ten pieces counts as one (ACK division)")
  func division() throws {
    try Script.run {
      handshake()
      targetSays(60_000)
      expectSome(10)
      for piece in 1...10 { inject(".", 1...1, ack: 1 + piece * 100) }
      expectSome(2)
    }
  }

  @Test("what was never sent cannot be acknowledged (RFC 9293 §3.10.7.4)")
  func optimistic() throws {
    try Script.run {
      handshake()
      targetSays(60_000)
      expectSome(10)
      inject(".", 1...1, ack: 10_002)
      expect(".", 10_001...10_001, ack: 1)
      expectDrop(.badAcknowledgment, 1)
      inject(".", 1...1, ack: 1001)
      expectSome(2)
    }
  }

  @Test("nor selectively: such blocks let nothing out")
  func optimisticBlocks() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(60_000)
      expectSome(10)
      inject(".", 1...1, ack: 1, sackBlocks: [5001...20_001])
      expectNothing()
    }
  }

  @Test("a peer that asks for tiny segments gets 88 octets each, and ten of those")
  func tinySegments() throws {
    try Script.run {
      handshake(mss: 1)
      targetSays(5000)
      let sent = expectAnything()
      #expect(sent.count == 10 && sent.allSatisfy { $0.octets == 88 })
    }
  }

  @Test("after a pause longer than the RTO the initial window goes out, not the old one (§4.1)")
  func restart() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      inject(".", 1...1, ack: 10_001)
      advance(by: .milliseconds(201))
      targetSays(60_000)
      expectSome(10)
    }
  }

  @Test("after a shorter one the window stands")
  func shortPause() throws {
    try Script.run {
      handshake()
      targetSays(10_000)
      expectSome(10)
      inject(".", 1...1, ack: 10_001)
      advance(by: .milliseconds(199))
      targetSays(60_000)
      expectSome(20)
    }
  }
}
