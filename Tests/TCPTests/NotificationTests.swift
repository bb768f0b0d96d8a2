import Primitives
import TCP
import Testing
import Wire

// Explicit congestion notification: agreed on, and marks that arrive echoed.

@Suite("RFC 3168 §6.1.1: ECN is agreed on, or not")
struct NotificationHandshakeTests {
  @Test("a SYN with ECE and CWR is answered with ECE alone, and not as ECT")
  func agreed() throws {
    try Script.run {
      inject("SEW", 0...0, mss: 1000)
      targetConnects()
      expect("S.E", 0...0, ack: 1, capable: false)
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1, capable: true)
    }
  }

  @Test("a SYN with neither, or with one of both, is no offer", arguments: ["S", "SE", "SW"])
  func notOffered(flags: String) throws {
    try Script.run {
      inject(flags, 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1, capable: false)
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1, capable: false)
    }
  }

  @Test("a SYN that comes again without the offer withdraws it, while it is held")
  func withdrawnWhileHeld() throws {
    try Script.run {
      inject("SEW", 0...0, mss: 1000)
      inject("S", 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1, capable: false)
    }
  }

  @Test("and after the SYN-ACK, which then comes again without ECE")
  func withdrawnAfterAnswer() throws {
    try Script.run {
      inject("SEW", 0...0, mss: 1000)
      targetConnects()
      expect("S.E", 0...0, ack: 1)
      inject("S", 0...0, mss: 1000)
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1, capable: false)
    }
  }

  @Test("an offer that comes after a SYN without is too late")
  func offeredLate() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      inject("SEW", 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
    }
  }

  @Test("the same offer again changes nothing; the SYN-ACK by the timer is the same")
  func offeredAgain() throws {
    try Script.run {
      inject("SEW", 0...0, mss: 1000)
      targetConnects()
      expect("S.E", 0...0, ack: 1)
      inject("SEW", 0...0, mss: 1000)
      expect("S.E", 0...0, ack: 1)
      advance(by: .seconds(1))
      expect("S.E", 0...0, ack: 1, capable: false)
      inject(".", 1...1, ack: 1)
    }
  }
}

@Suite("RFC 3168 §6.1.3: marks that arrive are echoed")
struct NotificationEchoTests {
  @Test("ECE on every acknowledgement, until CWR comes")
  func untilReduced() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...1001, ack: 1)
      inject(".", 1001...2001, ack: 1, marked: true)
      expect(".E", 1...1, ack: 2001, capable: false)
      inject(".", 2001...3001, ack: 1)
      inject(".", 3001...4001, ack: 1)
      expect(".E", 1...1, ack: 4001)
      inject(".W", 4001...5001, ack: 1)
      inject(".", 5001...6001, ack: 1)
      expect(".", 1...1, ack: 6001)
    }
  }

  @Test("a delayed acknowledgement tells of marks on any segment that it covers")
  func delayed() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...101, ack: 1, marked: true)
      inject(".", 101...201, ack: 1)
      advance(by: .milliseconds(40))
      expect(".E", 1...1, ack: 201)
    }
  }

  @Test("CWR on a segment that is marked itself: the newer mark is echoed")
  func reducedAndMarked() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...1001, ack: 1, marked: true)
      inject(".W", 1001...2001, ack: 1, marked: true)
      expect(".E", 1...1, ack: 2001)
    }
  }

  @Test("data of ours carries the echo too")
  func onData() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...101, ack: 1, marked: true)
      targetSays(100)
      expect("P.E", 1...101, ack: 101, capable: true)
    }
  }

  @Test("a mark on what carries no data means nothing (§6.1.4)")
  func onAcknowledgment() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...1, ack: 1, marked: true)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
    }
  }

  @Test("a mark on what lies outside of the window means nothing (§6.1.5)")
  func outsideOfWindow() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 2_000_000...2_001_000, ack: 1, marked: true)
      expect(".", 1...1, ack: 1)
    }
  }

  @Test("without an agreement marks mean nothing")
  func notAgreed() throws {
    try Script.run {
      handshake()
      inject(".", 1...1001, ack: 1, marked: true)
      inject(".", 1001...2001, ack: 1, marked: true)
      expect(".", 1...1, ack: 2001)
    }
  }

  @Test("a reset carries no echo")
  func onReset() throws {
    try Script.run {
      handshake(ecn: true)
      inject(".", 1...101, ack: 1, marked: true)
      targetRefuses()
      expect("R.", 1...1, capable: false)
    }
  }
}
