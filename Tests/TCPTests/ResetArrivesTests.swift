import Primitives
import TCP
import Testing
import Wire

// RST in every state: exact, in the window, outside.

@Suite("RFC 9293 §3.10.7.4 second, RFC 5961 §3: a reset in each state")
struct ResetArrivesTests {
  @Test("at RCV.NXT it ends the connection", arguments: Stage.resettable)
  func exact(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("R", stage.client...stage.client)
      expectNothing()
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("RST,ACK does the same, whatever it acknowledges", arguments: Stage.resettable)
  func exactWithAck(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("R.", stage.client...stage.client, ack: 12_345)
      expectNothing()
      expectState(.closed)
    }
  }

  @Test("a reset may carry data, which is not looked at (SHLD-2)", arguments: Stage.resettable)
  func withData(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("R.", stage.client...stage.client + 50, ack: stage.acknowledgment)
      expectNothing()
      expectState(.closed)
      expectTaken(0)
    }
  }

  @Test("elsewhere in the window it is challenged", arguments: Stage.resettable)
  func inWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("R", stage.client + 1...stage.client + 1)
      expectTruth(stage)
      inject("R", 60_000...60_000)
      expectTruth(stage)
      expectDrop(.challenged, 2)
    }
  }

  @Test("before and beyond the window it is dropped in silence", arguments: Stage.resettable)
  func outOfWindow(stage: Stage) throws {
    try Script.run {
      reach(stage)
      inject("R", stage.client - 2...stage.client - 2)
      inject("R", 65_536...65_536)
      inject("R", -90_000 ... -90_000)
      inject("R", 90_000...90_000)
      expectSilence(stage)
      expectDrop(.outOfWindow, 4)
    }
  }

  @Test("at the number of its FIN it counts too: macOS names that when a program dies")
  func atFinish() throws {
    try Script.run {
      reach(.established)
      inject("FP.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 102)
      inject("R", 100...100)
      expectDrop(.outOfWindow, 1)
      expectState(.closeWait)
      inject("R", 101...101)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("so it does while the target has yet to take what was before the FIN")
  func atUntakenFinish() throws {
    try Script.run(target: .nothing) {
      reach(.established)
      inject("FP.", 1...101, ack: 1)
      inject("R", 101...101)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("without a FIN the number in front of RCV.NXT is outside")
  func beforeNext() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101)
      inject("R", 100...100)
      expectNothing()
      expectState(.established)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("the window's last octet is in, the next is out")
  func edge() throws {
    try Script.run(window: 10_000) {
      reach(.established)
      inject("R", 10_001...10_001)
      expectSilence(.established)
      inject("R", 10_000...10_000)
      expectTruth(.established)
    }
  }

  @Test("data that reaches into the window does not bring the reset in")
  func overlapping() throws {
    try Script.run {
      reach(.established)
      inject("R", -9...51)
      expectSilence(.established)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("with a closed window it counts at RCV.NXT alone (MUST-66)")
  func closedWindow() throws {
    try Script.run(target: .nothing, window: 1000) {
      reach(.established)
      inject("P.", 1...1001, ack: 1)
      inject("R", 1002...1002)
      expectSilence(.established)
      inject("R", 1001...1001)
      expectState(.closed)
    }
  }

  @Test("with FIN set as well it is a reset")
  func withFin() throws {
    try Script.run {
      reach(.established)
      inject("RF", 1...1)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("behind a gap the number that counts is still the gap's beginning")
  func behindGap() throws {
    try Script.run {
      reach(.established)
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1)
      inject("R", 2001...2001)
      expectTruth(.established)
      inject("R", 1...1)
      expectState(.closed)
    }
  }

  @Test("TIME-WAIT outlives every reset (RFC 1337)", arguments: [1, 2, 3, 60_000])
  func timeWait(position: Int) throws {
    try Script.run {
      reach(.timeWait)
      inject("R", position...position)
      inject("R.", position...position, ack: 2)
      expectSilence(.timeWait)
      expectDrop(.resetInTimeWait, 2)
      advance(by: .milliseconds(59_999))
      expectState(.timeWait)
      advance(by: .milliseconds(1))
      expectState(.closed)
      expectNoEvent(.reset)
    }
  }

  @Test("while the target has yet to take the client's last octets, a reset still counts")
  func untakenTimeWait() throws {
    try Script.run(target: .nothing) {
      reach(.established)
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("FP.", 1...101, ack: 2)
      expectState(.timeWait)
      inject("R", 102...102)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("a flood of resets in the window is answered ten times a second (RFC 5961 §7)")
  func flood() throws {
    try Script.run {
      reach(.established)
      for position in 100..<150 { inject("R", position...position) }
      expectSome(10)
      expectDrop(.rateLimited, 40)
      expectState(.established)
    }
  }
}
