import Primitives
import TCP
import Testing
import Wire

// The ends of connections: half-close both ways, simultaneous close, resets, TIME-WAIT.

@Suite("RFC 9293 §3.6: closing, from either side and both")
struct ClosingTests {
  @Test("the client finishes first; the target may go on, then finishes")
  func clientFirst() throws {
    try Script.run {
      handshake()
      inject("FP.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 102)
      expectState(.closeWait)
      expectEvent(.finished)
      advance(by: .seconds(30))
      targetSays(500)
      expect("P.", 1...501, ack: 102)
      inject(".", 102...102, ack: 501)
      targetFinishes()
      expect("F.", 501...501, ack: 102)
      expectState(.lastAck)
      inject(".", 102...102, ack: 502)
      expectState(.closed)
      expectEvent(.closed)
      expectNothing()
    }
  }

  @Test("the target finishes first; the client may go on, then finishes; TIME-WAIT ends")
  func targetFirst() throws {
    try Script.run {
      handshake()
      targetSays(500)
      targetFinishes()
      expect("P.", 1...501, ack: 1)
      expect("F.", 501...501, ack: 1)
      expectState(.finWait1)
      inject(".", 1...1, ack: 502)
      expectState(.finWait2)
      advance(by: .seconds(60))
      inject("P.", 1...2001, ack: 502)
      expect(".", 502...502, ack: 2001)
      inject("F.", 2001...2001, ack: 502)
      expect(".", 502...502, ack: 2002)
      expectState(.timeWait)
      expectEvent(.timeWait)
      advance(by: .milliseconds(59_999))
      expectState(.timeWait)
      advance(by: .milliseconds(1))
      expectState(.closed)
      expectEvent(.closed)
      expectNothing()
    }
  }

  @Test("both finish at once: CLOSING, then TIME-WAIT")
  func simultaneous() throws {
    try Script.run {
      handshake()
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("F.", 1...1, ack: 1)
      expect(".", 2...2, ack: 2)
      expectState(.closing)
      inject(".", 2...2, ack: 2)
      expectState(.timeWait)
    }
  }

  @Test("a FIN that acknowledges ours leads to TIME-WAIT at once")
  func finAcknowledgesFin() throws {
    try Script.run {
      handshake()
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("F.", 1...1, ack: 2)
      expect(".", 2...2, ack: 2)
      expectState(.timeWait)
    }
  }

  @Test("a FIN ahead of missing data waits for it")
  func finOutOfOrder() throws {
    try Script.run {
      handshake(sack: true)
      inject("FP.", 1001...1501, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...1501])
      expectState(.established)
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 1502)
      expectState(.closeWait)
      expectTaken(1500)
    }
  }

  @Test("a bare FIN ahead of missing data waits too")
  func bareFinOutOfOrder() throws {
    try Script.run {
      handshake()
      inject("F.", 501...501, ack: 1)
      expect(".", 1...1, ack: 1)
      expectState(.established)
      inject("P.", 1...501, ack: 1)
      expect(".", 1...1, ack: 502)
      expectState(.closeWait)
    }
  }

  @Test("octets behind a FIN are never delivered")
  func dataBehindFin() throws {
    try Script.run {
      handshake()
      inject("FP.", 1...101, ack: 1)
      inject("P.", 102...202, ack: 1)
      inject("P.", 101...301, ack: 1)
      expectTaken(100)
      expectAnything()
      expectState(.closeWait)
    }
  }

  @Test("a FIN is acknowledged only when the target has everything before it")
  func finWaitsForTarget() throws {
    try Script.run(target: .nothing) {
      handshake()
      inject("FP.", 1...101, ack: 1)
      expectState(.closeWait)
      advance(by: .seconds(1))
      expectNothing()
      targetTakes(.everything)
      expect(".", 1...1, ack: 102)
    }
  }

  @Test("a FIN right behind a full window is heard, and a reset after it too")
  func finAtTheEdge() throws {
    try Script.run(target: .nothing, window: 1000) {
      handshake()
      inject("FP.", 1...1001, ack: 1)
      expectState(.closeWait)
      inject(".", 1002...1002, ack: 1)
      expectNothing()
      inject("R", 1002...1002)
      expectState(.closed)
    }
  }

  @Test("our FIN acknowledged while the client's last octets wait for the target: they reach it")
  func slowTargetThatFinished() throws {
    try Script.run(target: .nothing) {
      handshake()
      inject("FP.", 1...101, ack: 1)
      expectState(.closeWait)
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject(".", 102...102, ack: 2)
      advance(by: .seconds(300))  // longer than TIME-WAIT
      expectNothing()
      targetTakes(.everything)
      expectTaken(100)
      expect(".", 2...2, ack: 102)
      expectState(.timeWait)
      advance(by: .seconds(60))
      expectState(.closed)
    }
  }

  @Test("our FIN crossed the client's: its acknowledgement leads to TIME-WAIT, which answers again")
  func crossingLate() throws {
    try Script.run(target: .nothing) {
      handshake()
      inject("FP.", 1...101, ack: 1)
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      targetTakes(.everything)
      expect(".", 2...2, ack: 102)  // and is lost
      expectState(.lastAck)
      inject(".", 102...102, ack: 2)
      expectState(.timeWait)
      inject("FP.", 1...101, ack: 2)
      expect(".", 2...2, ack: 102)
      advance(by: .seconds(60))
      expectState(.closed)
    }
  }

  @Test("TIME-WAIT does not begin while the client's last octets wait for the target")
  func timeWaitWaitsForTarget() throws {
    try Script.run(target: .nothing) {
      handshake()
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("FP.", 1...101, ack: 2)
      advance(by: .seconds(200))
      inject("FP.", 1...101, ack: 2)  // the client sends again
      expect(".", 2...2, ack: 1)
      targetTakes(.everything)
      expect(".", 2...2, ack: 102)
      expectTaken(100)
      advance(by: .seconds(60))
      expectState(.closed)
    }
  }

  @Test("the client is reset while TIME-WAIT still owes it acknowledgements, and not afterwards")
  func resetBeforeTimeWait() throws {
    try Script.run(target: .nothing) {
      handshake()
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("FP.", 1...101, ack: 2)
      expectState(.timeWait)
      let script = try #require(Script.current)
      #expect(script.endpoint?.reset(path: script.path, frames: &script.frames) == true)
      let count = script.frames.count
      #expect(count == 1)
      script.frames.removeAll()
      targetTakes(.everything)
      expect(".", 2...2, ack: 102)
      #expect(script.endpoint?.reset(path: script.path, frames: &script.frames) == true)
      let countThen = script.frames.count
      #expect(countThen == 0)
    }
  }

  @Test("our FIN is resent until it is acknowledged")
  func finLost() throws {
    try Script.run {
      handshake()
      targetSays(100)
      targetFinishes()
      expect("P.", 1...101, ack: 1)
      expect("F.", 101...101, ack: 1)
      inject(".", 1...1, ack: 101)
      advance(by: .milliseconds(200))
      expect("F.", 101...101, ack: 1)
      inject(".", 1...1, ack: 102)
      expectState(.finWait2)
    }
  }

  @Test("FIN rides on the last octets when it is known in time")
  func finWithData() throws {
    try Script.run {
      handshake(window: 1000)
      targetSays(1500)
      expect(".", 1...1001, ack: 1)
      targetFinishes()
      expectNothing()
      inject(".", 1...1, ack: 1001, window: 1000)
      expect("FP.", 1001...1501, ack: 1)
    }
  }
}

@Suite("RFC 9293 §3.6.1, RFC 6191: TIME-WAIT")
struct TimeWaitTests {
  private func enter(ts: Bool = false) {
    handshake(ts: ts)
    targetFinishes()
    expect("F.", 1...1, ack: 1)
    inject("F.", 1...1, ack: 2)
    expect(".", 2...2, ack: 2)
    expectState(.timeWait)
  }

  @Test("a FIN that comes again is acknowledged again and starts the wait anew")
  func finAgain() throws {
    try Script.run {
      enter()
      advance(by: .seconds(50))
      inject("F.", 1...1, ack: 2)
      expect(".", 2...2, ack: 2)
      advance(by: .seconds(50))
      expectState(.timeWait)
      advance(by: .seconds(10))
      expectState(.closed)
    }
  }

  @Test("a SYN beyond what was received begins a new incarnation")
  func reincarnation() throws {
    try Script.run {
      enter()
      inject("S", 1...1)
      expectEvent(.transmit)
      expectState(.timeWait)
      expectAnything()
      inject("S", 50_000...50_000)
      expectEvent(.reincarnated)
    }
  }

  @Test("with timestamps the later one decides")
  func reincarnationByTimestamp() throws {
    try Script.run {
      enter(ts: true)
      advance(by: .milliseconds(10))
      inject("S", 0...0, ts: true)
      expectEvent(.reincarnated)
    }
  }

  @Test("a SYN,ACK opens nothing")
  func synAck() throws {
    try Script.run {
      enter()
      inject("S.", 50_000...50_000, ack: 2)
      expect(".", 2...2, ack: 2)
      expectState(.timeWait)
    }
  }
}

@Suite("RFC 5961, RFC 7323 §5: blind attacks and old segments")
struct HostileSegmentTests {
  @Test("a reset counts at RCV.NXT; elsewhere in the window it is challenged, outside dropped")
  func resets() throws {
    try Script.run {
      handshake()
      inject("R", 2...2)
      expect(".", 1...1, ack: 1)
      inject("R", 90_000...90_000)
      expectNothing()
      expectDrop(.outOfWindow, 1)
      expectState(.established)
      inject("R", 1...1)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("a reset at what was acknowledged last counts while the target has not taken the rest")
  func resetOfForgetfulClient() throws {
    try Script.run(target: .nothing) {
      handshake()
      inject("P.", 1...501, ack: 1)
      targetSays(10)
      expect("P.", 1...11, ack: 1)
      inject("R", 200...200)
      expectState(.established)
      inject("R", 1...1)  // the answer of a client that knows nothing any more to "ack 1"
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("a SYN in a conversation is challenged (§4.2)")
  func syn() throws {
    try Script.run {
      handshake()
      inject("S", 5000...5000)
      expect(".", 1...1, ack: 1)
      expectState(.established)
    }
  }

  @Test("an ACK of what was never sent, or of long ago, is challenged (§5.2)")
  func acknowledgments() throws {
    try Script.run {
      handshake()
      inject("P.", 1...101, ack: 2)
      expect(".", 1...1, ack: 1)
      expectDrop(.badAcknowledgment, 1)
      inject("P.", 1...101, ack: -70_000)
      expect(".", 1...1, ack: 1)
      expectDrop(.badAcknowledgment, 2)
      expectTaken(0)
      inject("P.", 1...101, ack: 1)
      expectTaken(100)
    }
  }

  @Test("a segment with an old timestamp is answered and dropped (PAWS)")
  func paws() throws {
    try Script.run {
      handshake(ts: true)
      advance(by: .seconds(1))
      inject("P.", 1...101, ack: 1)
      expectTaken(100)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101, ts: true, echo: 0xFFFF_FF00 &+ 1000)
      inject("P.", 101...201, ack: 1, timestamp: 0xFFFF_FF00 &+ 999)
      expect(".", 1...1, ack: 101)
      expectDrop(.pawsRejected, 1)
      expectTaken(100)
      inject("R", 101...101, timestamp: 0)  // not for resets
      expectState(.closed)
    }
  }

  @Test("a keep-alive is answered with an acknowledgement")
  func keepAlive() throws {
    try Script.run {
      handshake()
      inject("P.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101)
      inject(".", 100...100, ack: 1)
      expect(".", 1...1, ack: 101)
      inject(".", 100...101, ack: 1)
      expect(".", 1...1, ack: 101)
    }
  }

  @Test("bare acknowledgements are not answered")
  func noAcknowledgmentOfAcknowledgments() throws {
    try Script.run {
      handshake()
      for _ in 0..<5 { inject(".", 1...1, ack: 1) }
      expectNothing()
      advance(by: .seconds(10))
      expectNothing()
    }
  }
}
