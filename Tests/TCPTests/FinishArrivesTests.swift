import Primitives
import TCP
import Testing
import Wire

// A FIN in every state; half-closed connections; TIME-WAIT.

@Suite("RFC 9293 §3.10.7.4 eighth: a FIN in each state")
struct FinishArrivesTests {
  @Test(
    "it leads on",
    arguments: [
      (Stage.synReceived, 1, TCPState.closeWait), (.established, 1, .closeWait),
      (.finWait1, 1, .closing), (.finWait1, 2, .timeWait), (.finWait2, 2, .timeWait),
    ])
  func leadsOn(stage: Stage, acknowledging: Int, state: TCPState) throws {
    try Script.run {
      reach(stage)
      inject("F.", 1...1, ack: acknowledging)
      advance(by: .milliseconds(40))
      expect(".", stage.server...stage.server, ack: 2)
      expectState(state)
      expectEvent(.finished)
    }
  }

  @Test("with data", arguments: Stage.receiving)
  func withData(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("FP.", 1...301, ack: stage.acknowledged)
      advance(by: .milliseconds(40))
      expect(".", stage.server...stage.server, ack: 302)
      expectTaken(300)
      expectEvent(.finished)
    }
  }

  @Test("that comes again is acknowledged again, each time", arguments: Stage.finished)
  func again(stage: Stage) throws {
    try Script.run {
      reach(stage)
      for _ in 0..<20 {
        inject("F.", 1...1, ack: stage.acknowledged)
        expectTruth(stage)
      }
    }
  }

  @Test("without ACK it is not heard", arguments: Stage.allCases)
  func withoutAck(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("F", stage.client...stage.client)
      expectSilence(stage)
      expectDrop(.badTCPFlags, 1)
    }
  }

  @Test("beyond the window it is not heard", arguments: Stage.receiving)
  func beyondWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("F.", 65_536...65_536, ack: stage.acknowledged)
      expectTruth(stage)
      expectNoEvent(.finished)
    }
  }

  @Test("before the window it is not heard", arguments: Stage.receiving)
  func beforeWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("F.", 0...0, ack: stage.acknowledged)
      expectTruth(stage)
      expectNoEvent(.finished)
    }
  }

  @Test(
    "with an acknowledgement of what was never sent it is not heard", arguments: Stage.receiving)
  func badAcknowledgment(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("F.", 1...1, ack: stage.server + 5)
      expectTruth(stage)
      expectNoEvent(.finished)
    }
  }

  @Test("sent again with more in front of it, each octet counts once")
  func retransmittedWithData() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...101, ack: 1)
      inject("FP.", 51...201, ack: 1)
      expect(".", 1...1, ack: 202)
      expectTaken(200)
      expectState(.closeWait)
      inject("FP.", 1...201, ack: 1)
      expect(".", 1...1, ack: 202)
      expectTaken(200)
    }
  }

  @Test("in front of several gaps it waits for the last to close")
  func behindGaps() throws {
    try Script.run {
      handshake(sack: true)
      inject("F.", 4001...4001, ack: 1)
      expect(".", 1...1, ack: 1)
      inject(".", 3001...4001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [3001...4001])
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...2001, 3001...4001])
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001, sackBlocks: [3001...4001])
      expectState(.established)
      inject(".", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 4002)
      expectState(.closeWait)
      expectTaken(4000)
    }
  }

  @Test("that octets behind it contradict, it is forgotten; the true one counts")
  func contradicted() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1001...2001, ack: 1)
      inject("F.", 1001...1001, ack: 1)
      expectAnything()
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001)
      expectState(.established)
      expectTaken(2000)
      inject("F.", 2001...2001, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 2002)
      expectState(.closeWait)
    }
  }

  @Test("LAST-ACK: the client's FIN again with the acknowledgement of ours ends it")
  func lastAckCompleted() throws {
    try Script.run {
      reach(.lastAck)
      inject("F.", 1...1, ack: 2)
      expectState(.closed)
      expectEvent(.closed)
    }
  }

  @Test("CLOSING: the same leads to TIME-WAIT, and is acknowledged")
  func closingCompleted() throws {
    try Script.run {
      reach(.closing)
      inject("F.", 1...1, ack: 2)
      expect(".", 2...2, ack: 2)
      expectState(.timeWait)
    }
  }
}

@Suite("RFC 9293 §3.6: half-closed either way")
struct HalfCloseTests {
  @Test("CLOSE-WAIT: the target says a great deal more, then finishes")
  func targetGoesOn() throws {
    try Script.run {
      reach(.closeWait)
      var next = 1
      for _ in 0..<20 {
        targetSays(1000)
        expect("P.", next...next + 1000, ack: 2)
        next += 1000
        inject(".", 2...2, ack: next)
        advance(by: .seconds(100))
      }
      targetFinishes()
      expect("F.", next...next, ack: 2)
      inject(".", 2...2, ack: next + 1)
      expectState(.closed)
    }
  }

  @Test("FIN-WAIT-2: the client says a great deal more, then finishes")
  func clientGoesOn() throws {
    try Script.run {
      reach(.finWait2)
      var next = 1
      for _ in 0..<20 {
        inject("P.", next...next + 1001, ack: 2)
        next += 1001
        expect(".", 2...2, ack: next)
        advance(by: .seconds(100))
      }
      inject("F.", next...next, ack: 2)
      expect(".", 2...2, ack: next + 1)
      expectState(.timeWait)
      expectTaken(20_020)
    }
  }

  @Test("FIN-WAIT-1: data crosses our FIN, and is taken")
  func dataCrossesFin() throws {
    try Script.run {
      reach(.finWait1)
      inject("P.", 1...1501, ack: 1)
      expect(".", 2...2, ack: 1501)
      inject("P.", 1501...1601, ack: 2)
      expectState(.finWait2)
      expectTaken(1600)
      advance(by: .milliseconds(40))
      expect(".", 2...2, ack: 1601)
    }
  }

  @Test("our FIN counts in the window: it waits behind data that fills it, then goes with the rest")
  func finInWindow() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(1000)
      targetFinishes()
      expect("P.", 1...1001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1001, window: 1000)
      expect("F.", 1001...1001, ack: 1)
    }
  }

  @Test("CLOSE-WAIT: a window update is heard, a probe answered")
  func closeWaitGoesOn() throws {
    try Script.run {
      reach(.closeWait)
      inject(".", 2...2, ack: 1, window: 2000)
      expectPeerWindow(2000)
      inject(".", 1...1, ack: 1, window: 2000)  // keep-alive
      expectTruth(.closeWait)
    }
  }
}
