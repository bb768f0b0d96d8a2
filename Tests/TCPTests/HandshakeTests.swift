import Primitives
import TCP
import Testing
import Wire

// The passive open: the held SYN, options, SYN-ACK again and again, giving up.

@Suite("RFC 9293 §3.5: the handshake, RFC 7323 §2 and RFC 2018 §2: its options")
struct HandshakeTests {
  @Test("a SYN is held while the target is being connected, then answered")
  func holdsSyn() throws {
    try Script.run {
      inject("S", 0...0, mss: 1460)
      advance(by: .seconds(3))
      expectNothing()
      expectState(.listen)
      targetConnects()
      expect("S.", 0...0, ack: 1, window: 65_535, mss: 1000, sack: false, ts: false)
      inject(".", 1...1, ack: 1)
      expectState(.established)
      expectEvent(.established)
    }
  }

  @Test("only the options that the client offered are answered")
  func answersOptions() throws {
    try Script.run {
      inject("S", 0...0, mss: 1460, sack: true, wscale: 7, ts: true)
      targetConnects()
      expect("S.", 0...0, ack: 1, mss: 1000, sack: true, wscale: 8, ts: true, echo: 0xFFFF_FF00)
      inject(".", 1...1, ack: 1)
      expectState(.established)
    }
    try Script.run {
      inject("S", 0...0, mss: 1460, sack: true)
      targetConnects()
      expect("S.", 0...0, ack: 1, window: 65_535, mss: 1000, sack: true, ts: false)
      let answer = expectAnything()
      #expect(answer.isEmpty)
    }
  }

  @Test("the window of a SYN-ACK is not scaled; the next one is")
  func scalesAfterHandshake() throws {
    try Script.run {
      inject("S", 0...0, mss: 1460, wscale: 7)
      targetConnects()
      expect("S.", 0...0, ack: 1, window: 65_535, wscale: 8)
      inject("P.", 1...2001, ack: 1)
      expect(".", 1...1, ack: 2001, window: 960 * 1024)
    }
  }

  @Test("without window scaling the window stays within 65 535")
  func withoutScaling() throws {
    try Script.run {
      handshake()
      inject("P.", 1...2001, ack: 1)
      expect(".", 1...1, ack: 2001, window: 65_535)
    }
  }

  @Test("the client's segment size bounds ours: 536 without the option, timestamps taken off")
  func segmentSize() throws {
    try Script.run {
      handshake(mss: nil)
      targetSays(600)
      expect(".", 1...537, ack: 1)
      expect("P.", 537...601, ack: 1)
    }
    try Script.run(isIPv4: false) {
      handshake(mss: nil)
      targetSays(1100)
      expect(".", 1...1001, ack: 1)
      expect("P.", 1001...1101, ack: 1)
    }
    try Script.run {
      handshake(mss: 500, ts: true)
      targetSays(600)
      expect(".", 1...489, ack: 1, ts: true)
      expect("P.", 489...601, ack: 1, ts: true)
    }
  }

  @Test("a client that asks for tiny segments gets 88 octets (RFC 9293 §3.7.1 says nothing lower)")
  func tinySegments() throws {
    try Script.run {
      handshake(mss: 1)
      targetSays(100)
      expect(".", 1...89, ack: 1)
      expect("P.", 89...101, ack: 1)
    }
  }

  @Test("a SYN that comes again while it is held is ignored")
  func duplicateOfHeldSyn() throws {
    try Script.run {
      inject("S", 0...0)
      inject("S", 0...0)
      inject("S", 0...0)
      expectNothing()
      expectDrop(.duplicateSYN, 2)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      expectNothing()
    }
  }

  @Test("a held SYN is given up by a reset that follows it, and by no other")
  func resetOfHeldSyn() throws {
    try Script.run {
      inject("S", 0...0)
      inject("R", 5...5)
      expectState(.listen)
      expectDrop(.outOfWindow, 1)
      inject("R", 1...1)
      expectState(.closed)
      expectEvent(.reset)
      expectNothing()
    }
  }

  @Test("a refused SYN is answered with a reset that acknowledges it")
  func refusal() throws {
    try Script.run {
      inject("S", 0...0)
      targetRefuses()
      expect("R.", 0...0, ack: 1)
    }
  }

  @Test("an unacknowledged SYN-ACK is resent with back-off, five times, then given up")
  func resendsSynAck() throws {
    try Script.run {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      for seconds in [1, 2, 4, 8, 16] {
        advance(by: .milliseconds(seconds * 1000 - 1))
        expectNothing()
        advance(by: .milliseconds(1))
        expect("S.", 0...0, ack: 1)
      }
      advance(by: .seconds(32))
      expectNothing()
      expectState(.closed)
      expectEvent(.closed)
    }
  }

  @Test("a SYN that comes again after the answer is answered again; the timer runs on")
  func duplicateAfterAnswer() throws {
    try Script.run {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .milliseconds(600))
      inject("S", 0...0)
      expect("S.", 0...0, ack: 1)
      advance(by: .milliseconds(400))
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
      expectState(.established)
      expectNothing()
    }
  }

  @Test("an ACK of something else is refused with a reset, and the handshake goes on")
  func wrongAcknowledgment() throws {
    try Script.run {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 700)
      expect("R", 700...700)
      expectDrop(.badAcknowledgment, 1)
      inject(".", 1...1, ack: 1)
      expectState(.established)
    }
  }

  @Test("the handshake's ACK may carry data, and FIN")
  func dataWithAck() throws {
    try Script.run {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject("FP.", 1...101, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 102)
      expectState(.closeWait)
      expectTaken(100)
    }
  }

  @Test("a reset ends a handshake that was answered")
  func resetInSynReceived() throws {
    try Script.run {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject("R.", 1...1, ack: 0)
      expectState(.closed)
      expectEvent(.reset)
    }
  }

  @Test("a target that speaks first is heard once the handshake is complete")
  func targetSpeaksFirst() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      targetConnects()
      targetSays(300)
      targetFinishes()
      expect("S.", 0...0, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1)
      expect("FP.", 1...301, ack: 1)
      expectState(.finWait1)
    }
  }

  @Test("a SYN-ACK that had to be resent makes the stream begin with one segment (RFC 5681 §3.1)")
  func smallWindowAfterLoss() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .seconds(1))
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
      targetSays(5000)
      expect(".", 1...1001, ack: 1)
      expectNothing()
    }
  }

  @Test("octets in a SYN are left for the client to send again")
  func dataInSyn() throws {
    try Script.run {
      inject("S", 0...50)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      inject(".", 1...51, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 51)
    }
  }
}
