import Primitives
import TCP
import Testing
import Wire

// Connections that are given up, and what TIME-WAIT makes way for.

@Suite("RFC 9293 §3.8.3: when a connection is given up")
struct GivingUpTests {
  @Test("data without an answer: after more than 100 s (SHLD-11)")
  func data() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      expectSome(1)
      advance(by: .seconds(100))
      expectState(.established)
      expectSome()
      advance(by: .seconds(3600))
      expectSome()
      expectState(.closed)
      expectEvent([.closed, .gone])
    }
  }

  @Test("a FIN without an answer: the same", arguments: [Stage.finWait1, .closing, .lastAck])
  func finish(stage: Stage) throws {
    try Script.run {
      reach(stage)
      advance(by: .seconds(100))
      expectState(stage.state)
      expectSome()
      advance(by: .seconds(3600))
      expectSome()
      expectState(.closed)
      expectEvent([.closed, .gone])
    }
  }

  @Test("any acceptable answer begins the count anew")
  func answered() throws {
    try Script.run {
      reach(.established)
      targetSays(100)
      expectSome(1)
      for _ in 0..<100 {
        advance(by: .seconds(60))
        expectAnything()
        inject(".", 1...1, ack: 1)
      }
      expectState(.established)
      inject(".", 1...1, ack: 101)
      expectNothing()
    }
  }

  @Test("a SYN-ACK without an answer: after five more")
  func synAck() throws {
    try Script.run {
      reach(.synReceived)
      advance(by: .seconds(62))
      expectSome(5)
      expectState(.synReceived)
      advance(by: .seconds(10))
      expectState(.closed)
      expectEvent([.closed, .gone])
    }
  }
}

@Suite("RFC 6191, RFC 1122 §4.2.2.13: a new connection out of TIME-WAIT")
struct ReincarnationTests {
  private func rest(ts: Bool) {
    reach(.timeWait, ts: ts)
    advance(by: .seconds(1))
  }

  @Test("timestamps before, a later one now: yes, whatever the number", arguments: [-9, 2, 90_000])
  func laterTimestamp(position: Int) throws {
    try Script.run {
      rest(ts: true)
      inject("S", position...position, ts: true)
      expectEvent(.reincarnated)
      expectNothing()
    }
  }

  @Test("the same timestamp: the number decides")
  func sameTimestamp() throws {
    try Script.run {
      rest(ts: true)
      inject("S", 1...1, ts: true, timestamp: Script.clientClock)
      expectTruth(.timeWait)
      expectNoEvent(.reincarnated)
      inject("S", 3...3, ts: true, timestamp: Script.clientClock)
      expectEvent(.reincarnated)
    }
  }

  @Test("an earlier timestamp: no, however late the number")
  func earlierTimestamp() throws {
    try Script.run {
      rest(ts: true)
      inject("S", 90_000...90_000, ts: true, timestamp: Script.clientClock &- 1)
      expectTruth(.timeWait)
      expectNoEvent(.reincarnated)
    }
  }

  @Test("timestamps before, none now: the number decides")
  func noneNow() throws {
    try Script.run {
      rest(ts: true)
      inject("S", 1...1)
      expectTruth(.timeWait)
      expectNoEvent(.reincarnated)
      inject("S", 3...3)
      expectEvent(.reincarnated)
    }
  }

  @Test("none before, timestamps now: yes, whatever the number", arguments: [-9, 1, 90_000])
  func noneBefore(position: Int) throws {
    try Script.run {
      rest(ts: false)
      inject("S", position...position, ts: true, timestamp: Script.clientClock)
      expectEvent(.reincarnated)
    }
  }

  @Test(
    "none before, none now: the number decides", arguments: [(1, false), (2, false), (3, true)])
  func neither(position: Int, begins: Bool) throws {
    try Script.run {
      rest(ts: false)
      inject("S", position...position)
      if begins { expectEvent(.reincarnated) } else { expectTruth(.timeWait) }
    }
  }

  @Test("not before the target was told of the client's end")
  func untaken() throws {
    try Script.run(target: .nothing) {
      reach(.established)
      targetFinishes()
      expect("F.", 1...1, ack: 1)
      inject("FP.", 1...101, ack: 2)
      expectState(.timeWait)
      inject("S", 90_000...90_000)
      expectNoEvent(.reincarnated)
      expect(".", 2...2, ack: 1)
      targetTakes(.everything)
      expectTaken(100)
      expectSome(1)
    }
  }

  @Test("each FIN that comes again begins the wait anew, nothing else does")
  func restarts() throws {
    try Script.run {
      reach(.timeWait)
      advance(by: .seconds(59))
      inject("F.", 1...1, ack: 2)
      expectTruth(.timeWait)
      advance(by: .seconds(59))
      inject(".", 2...2, ack: 2)
      inject(".", 1...1, ack: 2)
      expectTruth(.timeWait)
      inject("S", 0...0)
      expectTruth(.timeWait)
      inject("R", 2...2)
      advance(by: .milliseconds(999))
      expectState(.timeWait)
      advance(by: .milliseconds(1))
      expectState(.closed)
    }
  }
}
