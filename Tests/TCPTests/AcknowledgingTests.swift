import Primitives
import TCP
import Testing
import Wire

// When acknowledgements go out, and what windows they offer: delay, silly windows, both ends.

@Suite("RFC 9293 §3.8.6.3, RFC 5681 §4.2: delayed acknowledgements")
struct DelayedAcknowledgmentTests {
  @Test("small segments that keep coming do not push the delay on (MUST-40)")
  func notPushedOn() throws {
    try Script.run {
      reach(.established)
      for number in 0..<4 {
        inject("P.", 1 + number * 10...11 + number * 10, ack: 1)
        expectNothing()
        advance(by: .milliseconds(10))
      }
      expect(".", 1...1, ack: 41)
      expectNothing()
    }
  }

  @Test("every second full segment is acknowledged, one that is odd after the delay (SHLD-19)")
  func everySecond() throws {
    try Script.run {
      reach(.established)
      for number in 0..<7 {
        inject(".", 1 + number * 1000...1001 + number * 1000, ack: 1)
        if number % 2 == 1 { expect(".", 1...1, ack: 1001 + number * 1000) }
        expectNothing()
      }
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 7001)
    }
  }

  @Test("once a delay was in vain there is none, until the target answers again")
  func adapts() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...101, ack: 1)
      expectNothing()
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101)
      // a client whose last acknowledgement was lost probes with a lone segment
      inject("P.", 101...201, ack: 1)
      expect(".", 1...1, ack: 201)
      inject("P.", 201...301, ack: 1)
      expect(".", 1...1, ack: 301)
      targetSays(50)
      expect("P.", 1...51, ack: 301)
      inject("P.", 301...401, ack: 51)
      expectNothing()
      targetSays(50)
      expect("P.", 51...101, ack: 401)
    }
  }

  @Test("many segments that come together get one acknowledgement (MUST-58)")
  func aggregated() throws {
    try Script.run {
      reach(.established)
      together {
        for number in 0..<30 {
          inject("P.", 1 + number * 1000...1001 + number * 1000, ack: 1)
        }
      }
      expect(".", 1...1, ack: 30_001)
      expectNothing()
      // One by one they get many.
      for number in 30..<60 { inject("P.", 1 + number * 1000...1001 + number * 1000, ack: 1) }
      expectSome(15)
    }
  }

  @Test("out of order: at once, each of them (MAY-13)")
  func outOfOrder() throws {
    try Script.run {
      reach(.established)
      for number in 1...5 {
        inject(".", 1 + number * 1000...101 + number * 1000, ack: 1)
        expect(".", 1...1, ack: 1)
      }
    }
  }

  @Test("what fills a gap, all of it or a part: at once (RFC 5681 §4.2)")
  func gapFilled() throws {
    try Script.run {
      reach(.established)
      inject(".", 1001...1101, ack: 1)
      expect(".", 1...1, ack: 1)
      inject(".", 1...501, ack: 1)
      expect(".", 1...1, ack: 501)
      inject(".", 501...1001, ack: 1)
      expect(".", 1...1, ack: 1101)
    }
  }

  @Test("everything that is queued counts before the acknowledgement goes (MUST-59)")
  func queueFirst() throws {
    try Script.run {
      reach(.established)
      together {
        for number in [4, 2, 3, 1, 0] {
          inject(".", 1 + number * 500...501 + number * 500, ack: 1)
        }
      }
      expect(".", 1...1, ack: 2501)
      expectNothing()
    }
  }

  @Test("a FIN: with the target's own, which follows at once from most")
  func finish() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...11, ack: 1)
      inject("F.", 11...11, ack: 1)
      expectNothing()
      targetFinishes()
      expect("F.", 1...1, ack: 12)
      expectNothing()
      expectState(.lastAck)
    }
  }

  @Test("a FIN whose target goes on: after 40 ms, or with what the target says")
  func finishAlone() throws {
    for says in [false, true] {
      try Script.run {
        reach(.established)
        inject("F.", 1...1, ack: 1)
        advance(by: .milliseconds(39))
        expectNothing()
        if says {
          targetSays(10)
          expect("P.", 1...11, ack: 2)
        } else {
          advance(by: .milliseconds(1))
          expect(".", 1...1, ack: 2)
        }
        advance(by: .milliseconds(100))
        expectState(.closeWait)
      }
    }
  }

  @Test("a FIN that completes what was missing, or answers our own: at once")
  func finishInNeed() throws {
    try Script.run {
      reach(.established)
      inject("F.", 101...101, ack: 1)
      expect(".", 1...1, ack: 1)
      inject("P.", 1...101, ack: 1)
      expect(".", 1...1, ack: 102)
    }
    try Script.run {
      reach(.finWait2)
      inject("F.", 1...1, ack: 2)
      expect(".", 2...2, ack: 2)
    }
  }

  @Test("a challenge carries what was owed")
  func challengeCarries() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...11, ack: 1)
      inject("S", 500...500)
      expect(".", 1...1, ack: 11)
      advance(by: .seconds(1))
      expectNothing()
    }
  }

  @Test("after the last is acknowledged nothing more is said")
  func quiet() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...11, ack: 1)
      advance(by: .milliseconds(40))
      expectSome(1)
      advance(by: .seconds(3600))
      expectNothing()
    }
  }
}

@Suite("RFC 9293 §3.8.6.2.2: the receiver's silly window avoidance, and its edge")
struct ReceiverSillyWindowTests {
  private func edge(_ segment: TraceSegment) -> Int {
    (segment.acknowledgment ?? 0) + segment.window
  }

  @Test("a target that nibbles does not open the window by less than a segment (MUST-39)")
  func nibbling() throws {
    try Script.run(target: .nothing, window: 10_000) {
      reach(.established)
      inject("P.", 1...10_001, ack: 1)
      expectAnything()
      var edges: [Int] = [10_001]
      for _ in 0..<100 {
        targetTakes(.octets(100))
        advance(by: .milliseconds(40))
        edges += expectAnything().map(edge)
      }
      expectTaken(10_000)
      let steps = zip(edges, edges.dropFirst()).map { $1 - $0 }
      #expect(steps.allSatisfy { $0 == 0 || $0 >= 1000 })
      #expect(edges.last == 20_001)
    }
  }

  @Test("the edge never goes back, whatever the target does (SHLD-14)")
  func neverBack() throws {
    try Script.run(target: .nothing, window: 20_000) {
      reach(.established)
      var next = 1
      for round in 0..<40 {
        let octets = 300 + round * 7
        inject("P.", next...next + octets, ack: 1)
        next += octets
        targetTakes(.octets(round % 3 == 0 ? 900 : 0))
        advance(by: .milliseconds(50))
        expectAnything()  // the script compares every edge with the one before
      }
      targetTakes(.everything)
      expectTaken(next - 1)
      expectAnything()
    }
  }

  @Test("a window that was narrow is opened without delay")
  func opensAtOnce() throws {
    try Script.run(target: .nothing, window: 4000) {
      reach(.established)
      inject("P.", 1...4001, ack: 1)
      expectNothing()
      targetTakes(.everything)
      expect(".", 1...1, ack: 4001, window: 4000)
    }
  }

  @Test("a window of less than a segment opens by halves")
  func halves() throws {
    try Script.run(window: 600) {
      reach(.established)
      inject("P.", 1...201, ack: 1)
      expect(".", 1...1, ack: 201, window: 400)
      inject("P.", 201...301, ack: 1)
      expect(".", 1...1, ack: 301, window: 600)
    }
  }
}

@Suite("RFC 9293 §3.8.6.2.1, §3.7.4: the sender's silly window avoidance, and no Nagle")
struct SenderSillyWindowTests {
  @Test("a window of less than a segment is left alone while something is in flight (MUST-38)")
  func waits() throws {
    try Script.run {
      handshake(window: 1500)
      targetSays(5000)
      expect(".", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1, window: 1900)
      expectNothing()
      inject(".", 1...1, ack: 1001, window: 1500)
      expect(".", 1001...2001, ack: 1)
      expectNothing()
    }
  }

  @Test("half of the largest window is worth sending when nothing is in flight")
  func halfOfLargest() throws {
    try Script.run {
      handshake(window: 600)
      targetSays(5000)
      expect(".", 1...601, ack: 1)
      inject(".", 1...1, ack: 601, window: 300)
      expect(".", 601...901, ack: 1)
      inject(".", 1...1, ack: 901, window: 299)
      expectNothing()
    }
  }

  @Test("what the target says is sent as it says it: small pieces do not wait (SHLD-7)")
  func noNagle() throws {
    try Script.run {
      reach(.established)
      for number in 0..<5 {
        targetSays(10)
        expect("P.", 1 + number * 10...11 + number * 10, ack: 1)
      }
    }
  }

  @Test("an answer in two pieces is whole at the client before it acknowledges the first")
  func answerInPieces() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...101, ack: 1)
      targetSays(200)
      expect("P.", 1...201, ack: 101)
      targetSays(700)
      expect("P.", 201...901, ack: 101)
    }
  }

  @Test("what the target says at once leaves in full segments, PSH on the last (SHLD-28, MUST-61)")
  func fullSegments() throws {
    try Script.run {
      reach(.established)
      targetSays(3500)
      expect(".", 1...1001)
      expect(".", 1001...2001)
      expect(".", 2001...3001)
      expect("P.", 3001...3501)
    }
  }
}

@Suite("RFC 9293 §3.8.6: a client that takes its window back (SHLD-15, -16, -17, MUST-34)")
struct ShrinkingWindowTests {
  @Test("nothing new is sent; what is in flight beyond the edge may be acknowledged")
  func acknowledged() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(8000)
      expectSome(5)
      inject(".", 1...1, ack: 1, window: 2000)
      expectNothing()
      inject(".", 1...1, ack: 5001, window: 2000)
      expect(".", 5001...6001, ack: 1)
      expect(".", 6001...7001, ack: 1)
      expectNothing()
    }
  }

  @Test("what is lost is sent again from the edge's inside, and the connection lives")
  func lost() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(5000)
      expectSome(5)
      inject(".", 1...1, ack: 1, window: 2000)
      advance(by: .seconds(2))
      let again = expectAnything()
      #expect(!again.isEmpty)
      #expect(again.allSatisfy { $0.range.upperBound <= 2001 })
      inject(".", 1...1, ack: 2001, window: 3000)
      expectState(.established)
      expectAnything()
    }
  }

  @Test("what is sent again stops at the edge, within a segment too (MAY-7)")
  func cutAtEdge() throws {
    try Script.run {
      handshake(sack: true, window: 5000, roundTrip: .milliseconds(10))
      inject("P.", 1...2001, ack: 1, window: 5000)
      targetSays(5000)
      expectAnything()
      inject(".", 2001...2001, ack: 1, window: 500)
      advance(by: .milliseconds(100))
      expectNothing()  // no tail probe: it lies beyond
      advance(by: .milliseconds(100))
      expect(".", 1...501, ack: 2001)
      expectNothing()
      inject(".", 2001...2001, ack: 501, window: 1000)
      expect(".", 501...1501, ack: 2001)
      expectNothing()
      inject(".", 2001...2001, ack: 1501, window: 200)
      expect(".", 1501...1701, ack: 2001)
      expectNothing()
    }
  }

  @Test("so does a tail probe, and it goes out only if the last segment begins before the edge")
  func probeAtEdge() throws {
    for window in [4000, 4700] {
      try Script.run {
        handshake(sack: true, window: 5000, roundTrip: .milliseconds(10))
        inject("P.", 1...2001, ack: 1, window: 5000)
        targetSays(5000)
        expectAnything()
        inject(".", 2001...2001, ack: 1, window: window)
        advance(by: .milliseconds(100))
        if window == 4700 { expect(".", 4001...4701, ack: 2001) }
        expectNothing()
      }
    }
  }

  @Test("shut and opened again upon what is in flight: that is not lost, and nothing is sent again")
  func shutAndOpened() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(5000)
      expectSome(5)
      for _ in 0..<10 {
        inject(".", 1...1, ack: 1, window: 0)
        inject(".", 1...1, ack: 1, window: 5000)
      }
      expectNothing()
      inject(".", 1...1, ack: 5001, window: 5000)
      expectNothing()
    }
  }

  @Test("nor is the retransmission timer put off by it")
  func shutAndOpenedForLong() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(5000)
      expectSome(5)
      for _ in 0..<3 {
        advance(by: .milliseconds(50))
        inject(".", 1...1, ack: 1, window: 0)
        inject(".", 1...1, ack: 1, window: 5000)
      }
      advance(by: .milliseconds(30))
      expectNothing()
      advance(by: .milliseconds(20))
      expect(".", 1...1001, ack: 1)
    }
  }

  @Test("what was sent into a shut window is sent again when it opens, once")
  func probedAndOpened() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(5000)
      expectSome(5)
      inject(".", 1...1, ack: 1, window: 0)
      advance(by: .milliseconds(200))
      expect(".", 1...2, ack: 1)
      inject(".", 1...1, ack: 1, window: 0)
      expectNothing()
      inject(".", 1...1, ack: 1, window: 5000)
      let again = expectAnything()
      #expect(again.map(\.range.count).reduce(0) { $0 + $1 - 1 } == 5000)
      for _ in 0..<10 {
        inject(".", 1...1, ack: 1, window: 0)
        inject(".", 1...1, ack: 1, window: 5000)
      }
      expectNothing()
    }
  }

  @Test("an acknowledgement that goes out meanwhile has a number inside the window")
  func acceptableNumber() throws {
    try Script.run {
      handshake(window: 5000)
      targetSays(5000)
      expectSome(5)
      inject("P.", 1...2001, ack: 1, window: 2000)
      expect(".", 2001...2001, ack: 2001)
    }
  }
}
