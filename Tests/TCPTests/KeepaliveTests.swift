import Primitives
import TCP
import Testing
import Wire

// Keep-alive: a silent client is asked, or asks.

@Suite("RFC 9293 §3.8.4: keep-alive")
struct KeepaliveTests {
  @Test("it is off unless asked for (MUST-25)", arguments: Stage.receiving)
  func off(stage: Stage) throws {
    try Script.run {
      reach(stage)
      if stage == .finWait1 {
        inject(".", 1...1, ack: 2)
      }
      advance(by: .seconds(30 * 86_400))
      expectNothing()
    }
  }

  @Test("a client that was silent for the interval is asked, without data (MUST-26, SHLD-12)")
  func asks() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      advance(by: .milliseconds(74_999))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 0...0, ack: 1)
      expectNothing()
    }
  }

  @Test("an answer starts the interval anew")
  func answered() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      for _ in 0..<30 {
        advance(by: .seconds(75))
        expect(".", 0...0, ack: 1)
        inject(".", 1...1, ack: 1)
      }
      expectState(.established)
    }
  }

  @Test("data, and an acknowledgement of data, put it off")
  func putOff() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      advance(by: .seconds(70))
      inject("P.", 1...2001, ack: 1)
      expectSome(1)
      advance(by: .seconds(70))
      targetSays(10)
      expectSome(1)
      inject(".", 2001...2001, ack: 11)
      advance(by: .milliseconds(74_999))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 10...10, ack: 2001)
    }
  }

  @Test("nine questions without an answer, a fifth of the interval apart, are the end (MUST-29)")
  func gone() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      advance(by: .seconds(75))
      for _ in 0..<8 {
        expect(".", 0...0, ack: 1)
        advance(by: .milliseconds(14_999))
        expectNothing()
        advance(by: .milliseconds(1))
      }
      expect(".", 0...0, ack: 1)
      advance(by: .milliseconds(14_999))
      expectState(.established)
      advance(by: .milliseconds(1))
      expectState(.closed)
      expectEvent([.closed, .gone])
      expectNothing()
    }
  }

  @Test("one answer among lost ones is enough")
  func lostAnswers() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      for _ in 0..<5 {
        advance(by: .seconds(75))
        advance(by: .seconds(15 * 8))
        expectSome(9)
        inject(".", 1...1, ack: 1)
      }
      expectState(.established)
    }
  }

  @Test("an answer that is not acceptable is none")
  func strangers() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      for _ in 0..<20 {
        advance(by: .seconds(15))
        inject("P.", 1...2, ack: 900_000)
        inject("R", 500...500)
        expectAnything()
      }
      expectState(.closed)
      expectEvent(.gone)
    }
  }

  @Test("a client that has forgotten the connection answers with a reset")
  func reset() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established)
      advance(by: .seconds(75))
      expect(".", 0...0, ack: 1)
      inject("R", 1...1)
      expectState(.closed)
      expectEvent(.reset)
      expectNoEvent(.gone)
    }
  }

  @Test("half-closed connections are asked after too", arguments: [Stage.finWait2, .closeWait])
  func halfClosed(stage: Stage) throws {
    try Script.run(keepalive: .seconds(10)) {
      reach(stage)
      advance(by: .seconds(10))
      expect(".", stage.server - 1...stage.server - 1, ack: stage.client)
      inject(".", stage.client...stage.client, ack: stage.server)
      advance(by: .seconds(10))
      for _ in 0..<9 {
        expect(".", stage.server - 1...stage.server - 1, ack: stage.client)
        advance(by: .seconds(2))
      }
      expectState(.closed)
      expectEvent(.gone)
    }
  }

  @Test("while something is in flight its own timer asks, and no keep-alive (MUST-26)")
  func inFlight() throws {
    try Script.run(keepalive: .seconds(1)) {
      reach(.established)
      targetSays(100)
      expectSome(1)
      advance(by: .seconds(30))
      let again = expectAnything()
      #expect(!again.isEmpty)
      #expect(again.allSatisfy { $0.octets == 100 })
    }
  }

  @Test("a closed window is probed, not asked after, and not given up for that")
  func closedWindow() throws {
    try Script.run(keepalive: .seconds(1)) {
      handshake(window: 0)
      targetSays(100)
      for _ in 0..<40 {
        advance(by: .seconds(60))
        let probes = expectAnything()
        #expect(probes.allSatisfy { $0.octets == 1 })
        if !probes.isEmpty { inject(".", 1...1, ack: 1, window: 0) }
      }
      expectState(.established)
    }
  }

  @Test("TIME-WAIT lasts as long as it does without")
  func timeWait() throws {
    try Script.run(keepalive: .seconds(1)) {
      reach(.timeWait)
      advance(by: .milliseconds(59_999))
      expectSilence(.timeWait)
      advance(by: .milliseconds(1))
      expectState(.closed)
      expectNoEvent(.gone)
    }
  }

  @Test("a handshake that is not complete is not asked after")
  func synReceived() throws {
    try Script.run(keepalive: .milliseconds(100)) {
      reach(.synReceived)
      advance(by: .milliseconds(999))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("S.", 0...0, ack: 1)
    }
  }

  @Test("timestamps ride along, and an answer that acknowledges nothing new measures nothing")
  func timestamps() throws {
    try Script.run(keepalive: .seconds(75)) {
      reach(.established, ts: true)
      advance(by: .seconds(75))
      expect(".", 0...0, ack: 1, ts: true)
      advance(by: .seconds(3))
      inject(".", 1...1, ack: 1)
      expectSilence(.established)
      // The retransmission timer is still that of the handshake's round trip.
      targetSays(100)
      expectSome(1)
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 1...101, ack: 1)
    }
  }

  @Test(
    "the client's own questions are answered, with a garbage octet or without", arguments: [0, 1])
  func answers(octets: Int) throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...2001, ack: 1)
      expectSome(1)
      for _ in 0..<20 {
        advance(by: .seconds(75))
        inject(".", 2000...2000 + octets, ack: 1)
        expect(".", 1...1, ack: 2001)
      }
      expectTaken(2000)
    }
  }
}
