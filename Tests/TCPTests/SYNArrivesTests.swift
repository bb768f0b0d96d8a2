import Primitives
import TCP
import Testing
import Wire

// A SYN in every state, and what comes to a SYN that is held.

@Suite("RFC 9293 §3.10.7.4 fourth, RFC 5961 §4: a SYN in each state")
struct SYNArrivesTests {
  @Test("a SYN in the window is challenged, and nothing changes", arguments: Stage.synchronized)
  func inWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      let position = stage == .timeWait ? 1 : 5000
      inject("S", position...position)
      expectTruth(stage)
      expectDrop(.challenged, 1)
    }
  }

  @Test("a SYN before or beyond the window is challenged too", arguments: Stage.synchronized)
  func outOfWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("S", -700_000 ... -700_000)
      expectTruth(stage)
      guard stage != .timeWait else { return }  // there it begins anew
      inject("S", 700_000...700_000)
      expectTruth(stage)
      expectDrop(.challenged, 2)
    }
  }

  @Test("the first SYN once more is challenged", arguments: Stage.synchronized)
  func oldDuplicate(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("S", 0...0, mss: 1000)
      expectTruth(stage)
    }
  }

  @Test("SYN,ACK is challenged, whatever it acknowledges", arguments: Stage.allCases)
  func synAck(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("S.", 3000...3000, ack: stage.server)
      expectTruth(stage)
      inject("S.", 0...0, ack: 99)
      expectTruth(stage)
    }
  }

  @Test("what a SYN carries is never taken", arguments: Stage.receiving)
  func withData(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("S.", 1...101, ack: stage.server)
      expectTruth(stage)
      expectTaken(0)
      inject("P.", 1...11, ack: stage.server)
      expectTaken(10)
    }
  }

  @Test("a SYN's window and segment size mean nothing in a conversation")
  func options() throws {
    try Script.run {
      reach(.established)
      inject("S", 5000...5000, window: 1, mss: 88)
      expectTruth(.established)
      expectPeerWindow(64_000)
      targetSays(1500)
      expect(".", 1...1001, ack: 1)
      expect("P.", 1001...1501, ack: 1)
    }
  }

  @Test("SYN-RECEIVED: another SYN is challenged; its sender's reset then ends the handshake")
  func otherSynInSynReceived() throws {
    try Script.run {
      reach(.synReceived)
      inject("S", 5000...5000)
      expectTruth(.synReceived)
      inject("R", 1...1)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("SYN-RECEIVED: a forged SYN does not keep the true client out")
  func forgedSynInSynReceived() throws {
    try Script.run {
      reach(.synReceived)
      inject("S", 5000...5000)
      expectTruth(.synReceived)
      inject(".", 1...1, ack: 1)
      expectState(.established)
    }
  }

  @Test("a client that has forgotten the connection: challenge, its reset, the end (§3.5.1)")
  func halfOpen() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      inject("S", 90_000...90_000)
      expect(".", 101...101, ack: 1)
      inject("R", 1...1)  // <SEQ=SEG.ACK><CTL=RST>
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("a flood of SYNs is answered ten times a second (RFC 5961 §7)")
  func flood() throws {
    try Script.run {
      reach(.established)
      for position in 0..<30 { inject("S", position...position) }
      expectSome(10)
      expectDrop(.challenged, 30)
      expectDrop(.rateLimited, 20)
      advance(by: .seconds(1))
      inject("S", 77...77)
      expectTruth(.established)
    }
  }
}

@Suite("RFC 9293 §3.10.7.2: what comes while a SYN is held")
struct HeldSYNTests {
  @Test(
    "an acknowledgement is refused with a reset at what it acknowledges", arguments: [".", "S."])
  func acknowledgment(flags: String) throws {
    try Script.run {
      inject("S", 0...0)
      inject(flags, 0...0, ack: 700)
      expect("R", 700...700)
      expectDrop(.badAcknowledgment, 1)
      expectState(.listen)
      targetConnects()
      expect("S.", 0...0, ack: 1)
    }
  }

  @Test("data and FIN without ACK are dropped", arguments: ["P", "F", ""])
  func withoutAck(flags: String) throws {
    try Script.run {
      inject("S", 0...0)
      inject(flags, 1...51)
      expectNothing()
      expectDrop(.badTCPFlags, 1)
      expectState(.listen)
    }
  }

  @Test("a SYN with another number is ignored: the client's reset makes way for the next one")
  func otherNumber() throws {
    try Script.run {
      inject("S", 0...0)
      inject("S", 9000...9000)
      expectNothing()
      expectDrop(.duplicateSYN, 1)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject("R", 1...1)
      expectState(.closed)
    }
  }

  @Test("a reset counts only right behind the SYN", arguments: [-1, 0, 2, 60_000])
  func reset(position: Int) throws {
    try Script.run {
      inject("S", 0...0)
      inject("R", position...position)
      expectNothing()
      expectState(.listen)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("the handshake begins when the target stands, with a timer of its own")
  func timerBeginsWithAnswer() throws {
    try Script.run {
      inject("S", 0...0)
      advance(by: .seconds(9))
      expectNothing()
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .milliseconds(999))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("S.", 0...0, ack: 1)
    }
  }
}

@Suite("RFC 9293 §3.10.7.1: segments for a connection that is closed")
struct ClosedStateTests {
  private func close() {
    reach(.established)
    inject("R", 1...1)
    expectState(.closed)
    expectNothing()
  }

  @Test("with ACK: a reset whose number is what was acknowledged")
  func withAck() throws {
    try Script.run {
      close()
      inject("P.", 1...101, ack: 321)
      expect("R", 321...321)
    }
  }

  @Test("without ACK: a reset that acknowledges all of the segment")
  func withoutAck() throws {
    try Script.run {
      close()
      inject("FP", 1...101)
      expect("R.", 0...0, ack: 102)
    }
  }

  @Test("a reset is never answered", arguments: ["R", "R."])
  func reset(flags: String) throws {
    try Script.run {
      close()
      inject(flags, 1...1, ack: 1)
      expectNothing()
    }
  }

  @Test("a SYN comes again, and then finds the slot free")
  func syn() throws {
    try Script.run {
      close()
      inject("S", 5000...5000)
      expectNothing()
      expectDrop(.duplicateSYN, 1)
    }
  }
}
