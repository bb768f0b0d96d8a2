import Primitives
import TCP
import Testing
import Wire

// The ACK field in every state: missing, old, acceptable, too new; and the window that comes with it.

@Suite("RFC 9293 §3.10.7.4 fifth, RFC 5961 §5: the ACK field in each state")
struct AcknowledgmentArrivesTests {
  @Test("a segment without ACK is dropped", arguments: Stage.allCases)
  func missing(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P", stage.client...stage.client + 100)
      inject("", stage.client...stage.client)
      expectSilence(stage)
      expectDrop(.badTCPFlags, 2)
      expectTaken(0)
    }
  }

  @Test("of what was never sent: answered and dropped, data and all", arguments: Stage.synchronized)
  func tooNew(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", stage.client...stage.client + 100, ack: stage.server + 1)
      expectTruth(stage)
      inject(".", stage.client...stage.client, ack: stage.server + 70_000)
      expectTruth(stage)
      expectDrop(.badAcknowledgment, 2)
      expectTaken(0)
    }
  }

  @Test("older than the largest window that was offered: the same", arguments: Stage.synchronized)
  func tooOld(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", stage.client...stage.client + 100, ack: stage.acknowledged - 64_001)
      expectTruth(stage)
      expectDrop(.badAcknowledgment, 1)
      expectTaken(0)
    }
  }

  @Test("old, but within that window: the data counts", arguments: Stage.receiving)
  func oldWithData(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("P.", stage.client...stage.client + 100, ack: stage.acknowledged - 64_000)
      expectTaken(100)
      expectState(stage.state)
      advance(by: .milliseconds(40))
      expect(".", stage.server...stage.server, ack: stage.client + 100)
    }
  }

  @Test("said again, it changes nothing and is not answered", arguments: Stage.synchronized)
  func duplicate(stage: Stage) throws {
    try Script.run {
      reach(stage)
      // With a FIN in flight a third one would call it lost.
      for _ in 0..<2 { inject(".", stage.client...stage.client, ack: stage.acknowledged) }
      expectSilence(stage)
    }
  }

  @Test(
    "SYN-RECEIVED: anything but our SYN is refused with a reset", arguments: [-5, 0, 2, 80_000])
  func synReceived(position: Int) throws {
    try Script.run {
      reach(.synReceived)
      inject("P.", 1...101, ack: position)
      expect("R", position...position)
      expectSilence(.synReceived)
      expectDrop(.badAcknowledgment, 1)
      expectTaken(0)
      inject(".", 1...1, ack: 1)
      expectState(.established)
    }
  }

  @Test("FIN-WAIT-1: data alone, then the FIN")
  func finWait1() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      targetFinishes()
      expect("P.", 1...101, ack: 1)
      expect("F.", 101...101, ack: 1)
      inject(".", 1...1, ack: 101)
      expectState(.finWait1)
      inject(".", 1...1, ack: 102)
      expectState(.finWait2)
      expectNothing()
    }
  }

  @Test("CLOSING: data alone, then the FIN")
  func closing() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      targetFinishes()
      expectSome(2)
      inject("F.", 1...1, ack: 101)
      expect(".", 102...102, ack: 2)
      expectState(.closing)
      inject(".", 2...2, ack: 102)
      expectState(.timeWait)
      expectNothing()
    }
  }

  @Test("LAST-ACK: data alone, then the FIN")
  func lastAck() throws {
    try Script.run {
      reach(.closeWait)
      targetSays(100)
      targetFinishes()
      expectSome(2)
      inject(".", 2...2, ack: 101)
      expectState(.lastAck)
      inject(".", 2...2, ack: 102)
      expectState(.closed)
      expectEvent(.closed)
      expectNoEvent(.gone)
    }
  }

  @Test("a flood of bad acknowledgements is answered ten times a second")
  func flood() throws {
    try Script.run {
      reach(.established)
      for _ in 0..<40 { inject(".", 1...1, ack: 5000) }
      expectSome(10)
      expectDrop(.badAcknowledgment, 40)
      expectDrop(.rateLimited, 30)
    }
  }

  @Test("two peers that disagree do not answer each other for ever")
  func acknowledgmentWar() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...2001, ack: 1)
      expect(".", 1...1, ack: 2001)
      for _ in 0..<40 { inject(".", 1000...1000, ack: 1) }
      expectSome(10)
      for _ in 0..<40 { inject(".", 90_000...90_000, ack: 1) }
      expectNothing()
    }
  }
}

@Suite("RFC 9293 §3.10.7.4: SND.WND, SND.WL1, SND.WL2")
struct WindowUpdateTests {
  @Test("the SYN's window counts until the next segment's")
  func first() throws {
    try Script.run {
      inject("S", 0...0, window: 4000, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      expectPeerWindow(4000)
      inject(".", 1...1, ack: 1, window: 3000)
      expectPeerWindow(3000)
    }
  }

  @Test("a newer sequence number or acknowledgement brings a window, an older one does not")
  func order() throws {
    try Script.run {
      reach(.established)
      targetSays(2000)
      expectSome(2)
      inject("P.", 1...101, ack: 1001, window: 5000)
      inject("P.", 101...201, ack: 1001, window: 5500)
      expectPeerWindow(5500)
      inject(".", 1...1, ack: 1001, window: 7000)  // sent before the data
      expectPeerWindow(5500)
      inject(".", 201...201, ack: 2001, window: 6000)
      expectPeerWindow(6000)
      inject(".", 201...201, ack: 1001, window: 9000)
      expectPeerWindow(6000)
      expectAnything()
    }
  }

  @Test(
    "with an acknowledgement that is older than SND.UNA no window comes, however new its number")
  func oldAcknowledgment() throws {
    try Script.run {
      reach(.established)
      targetSays(1000)
      expectSome(1)
      inject(".", 1...1, ack: 1001)
      inject("P.", 1...51, ack: 1001)
      inject("P.", 51...101, ack: 500, window: 10)
      expectPeerWindow(64_000)
      expectTaken(100)
      advance(by: .milliseconds(40))
      expect(".", 1001...1001, ack: 101)
    }
  }

  @Test("an update alone lets data out")
  func update() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(3000)
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1, window: 3000)
      expect(".", 1001...2001, ack: 1)
      expect("P.", 2001...3001, ack: 1)
    }
  }

  @Test("a window of 65 535 is no negative number (MUST-1)")
  func unsigned() throws {
    try Script.run {
      handshake(window: 65_535)
      expectPeerWindow(65_535)
      targetSays(40_000)
      expectSome(10)
    }
  }
}
