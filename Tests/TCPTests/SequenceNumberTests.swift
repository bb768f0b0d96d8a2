import Primitives
import TCP
import Testing
import Wire

// Whether a segment's octets lie in the window, in every state, and what becomes of those that do.

@Suite("RFC 9293 §3.10.7.4 first and seventh: sequence numbers and data in each state")
struct SequenceNumberTests {
  @Test("data in order is taken", arguments: Stage.receiving)
  func inOrder(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", 1...2001, ack: stage.acknowledged)
      expect(".", stage.server...stage.server, ack: 2001)
      expectTaken(2000)
      expectState(stage.state)
    }
  }

  @Test("in SYN-RECEIVED it is taken with the acknowledgement of our SYN, and not before")
  func inSynReceived() throws {
    try Script.run {
      reach(.synReceived)
      inject("P", 1...101)
      expectTaken(0)
      inject("P.", 1...101, ack: 1)
      expectTaken(100)
      expectState(.established)
    }
  }

  @Test("behind the client's FIN it is answered, and never taken", arguments: Stage.finished)
  func behindFin(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", 2...102, ack: stage.acknowledged)
      expectTruth(stage)
      inject("P.", 1...102, ack: stage.acknowledged)
      expectTruth(stage)
      expectTaken(0)
    }
  }

  @Test("behind a FIN it does not prolong TIME-WAIT")
  func behindFinInTimeWait() throws {
    try Script.run {
      reach(.timeWait)
      advance(by: .seconds(30))
      inject("P.", 2...102, ack: 2)
      expectTruth(.timeWait)
      advance(by: .seconds(30))
      expectState(.closed)
    }
  }

  @Test("beyond the window it is answered and dropped", arguments: Stage.allCases)
  func beyond(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", 65_536...65_636, ack: stage.acknowledgment)
      expectTruth(stage)
      inject(".", 70_000...70_000, ack: stage.acknowledgment)
      expectTruth(stage)
      expectDrop(.outOfWindow, 2)
    }
  }

  @Test("all of it before the window: answered at once", arguments: Stage.synchronized)
  func before(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", -99...1, ack: stage.acknowledged)
      expectTruth(stage)
      expectTaken(0)
    }
  }

  @Test("an old duplicate before the handshake's end is answered and dropped")
  func beforeInSynReceived() throws {
    try Script.run {
      reach(.synReceived)
      inject("P.", -99...1, ack: 1)
      expectTruth(.synReceived)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("far before the window it is answered, but what it acknowledges is not heard")
  func longBefore() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      expectSome(1)
      inject("P.", -2_000_000 ... -1_999_900, ack: 101, window: 5)
      expect(".", 101...101, ack: 1)
      expectPeerWindow(64_000)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("across the left edge: what is new is taken")
  func acrossLeftEdge() throws {
    try Script.run {
      reach(.established)
      inject("P.", -49...51, ack: 1)
      expect(".", 1...1, ack: 51)
      expectTaken(50)
    }
  }

  @Test("across the right edge: what fits is taken, the FIN behind it not heard")
  func acrossRightEdge() throws {
    try Script.run(window: 2000) {
      reach(.established)
      inject("FP.", 1...2501, ack: 1)
      expect(".", 1...1, ack: 2001)
      expectTaken(2000)
      expectState(.established)
      inject("FP.", 2001...2501, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 2502)
      expectState(.closeWait)
    }
  }

  @Test("the window's last octet is in, the first beyond is out")
  func lastOctet() throws {
    try Script.run(window: 2000) {
      handshake(sack: true)
      inject(".", 2001...2002, ack: 1)
      expect(".", 1...1, ack: 1)
      expectDrop(.outOfWindow, 1)
      inject(".", 2000...2001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [2000...2001])
    }
  }

  @Test("an acknowledgement at the right edge is heard: its client has filled the window")
  func acknowledgmentAtEdge() throws {
    try Script.run(window: 2000) {
      handshake(sack: true)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      inject(".", 1001...2001, ack: 1)
      expect(".", 101...101, ack: 1, sackBlocks: [1001...2001])
      inject(".", 2001...2001, ack: 101, window: 500)
      expectNothing()
      expectPeerWindow(500)
      expectDrop(.outOfWindow, 0)
      inject(".", 2002...2002, ack: 101, window: 600)
      expect(".", 101...101, ack: 1, sackBlocks: [1001...2001])
      expectPeerWindow(500)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("a closed window: data is refused, its acknowledgement and window are heard")
  func closedWindow() throws {
    try Script.run(target: .nothing, window: 1000) {
      handshake(window: 2000)
      inject("P.", 1...1001, ack: 1, window: 2000)
      targetSays(2000)
      expectSome(2)
      inject("P.", 1001...1101, ack: 1001, window: 3000)
      expect(".", 2001...2001, ack: 1)
      expectPeerWindow(3000)
      inject(".", 1001...1001, ack: 2001, window: 4000)
      expectNothing()
      expectPeerWindow(4000)
      targetTakes(.everything)
      expectTaken(1000)
      expect(".", 2001...2001, ack: 1001)
    }
  }

  @Test("a probe of a closed window is answered each time")
  func probes() throws {
    try Script.run(target: .nothing, window: 1000) {
      reach(.established)
      inject("P.", 1...1001, ack: 1)
      for _ in 0..<20 {
        advance(by: .seconds(1))
        inject(".", 1001...1002, ack: 1)
        expect(".", 1...1, ack: 1)
      }
      expectState(.established)
    }
  }

  @Test("numbers wrap: a stream that crosses zero is one stream")
  func wrap() throws {
    try Script.run {
      reach(.established)  // both numbers begin a thousand or two before zero
      for start in stride(from: 1, to: 8001, by: 1000) {
        inject(".", start...start + 1000, ack: 1)
      }
      expectTaken(8000)
      expectAnything()
      targetSays(8000)
      expectSome(8)
      inject(".", 8001...8001, ack: 8001)
      expectNothing()
    }
  }
}

@Suite("RFC 9293 §3.8.5, RFC 6093: urgent data stays in the stream")
struct UrgentDataTests {
  @Test("urgent octets are octets in order, wherever the pointer points")
  func inLine() throws {
    try Script.run {
      reach(.established)
      inject("U.", 1...101, ack: 1)
      inject("PU.", 101...2101, ack: 1)
      expect(".", 1...1, ack: 2101)
      expectTaken(2100)
    }
  }

  @Test("urgent octets out of order wait for their place")
  func outOfOrder() throws {
    try Script.run {
      handshake(sack: true)
      inject("PU.", 101...111, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [101...111])
      expectTaken(0)
      inject("P.", 1...101, ack: 1)
      expect(".", 1...1, ack: 111)
      expectTaken(110)
    }
  }

  @Test("an urgent mark without data is an acknowledgement, with a closed window too (MUST-66)")
  func bare() throws {
    try Script.run(target: .nothing, window: 1000) {
      reach(.established)
      inject("U.", 1...1, ack: 1)
      inject("P.", 1...1001, ack: 1)
      inject("U.", 1001...1001, ack: 1, window: 5000)
      expectSilence(.established)
      expectPeerWindow(5000)
    }
  }

  @Test("nothing that goes out is urgent: a relay has no mark to set (SHLD-13)")
  func neverSent() throws {
    try Script.run {
      reach(.established)
      targetSays(3000)
      let sent = expectAnything()
      #expect(sent.count == 3)
      #expect(sent.allSatisfy { !$0.flags.contains(.urg) })
    }
  }
}
