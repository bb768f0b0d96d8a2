import Primitives
import TCP
import Testing
import Wire

// What a SYN says of sizes: segment size and window scale.

@Suite("RFC 7323 §2: window scale")
struct WindowScaleTests {
  @Test("a SYN's window is not scaled, the next one is (§2.2)")
  func syn() throws {
    try Script.run {
      inject("S", 0...0, window: 5000, mss: 1000, wscale: 4)
      targetConnects()
      expectSome(1)
      expectPeerWindow(5000)
      inject(".", 1...1, ack: 1, window: 80_000)
      expectPeerWindow(80_000)
    }
  }

  @Test("every shift from 0 to 14 is taken", arguments: UInt8(0)...14)
  func shifts(shift: UInt8) throws {
    try Script.run {
      inject("S", 0...0, window: 5000, mss: 1000, wscale: shift)
      targetConnects()
      expectSome(1)
      inject(".", 1...1, ack: 1, window: 1234 << Int(shift))
      expectPeerWindow(1234 << Int(shift))
    }
  }

  @Test("the largest window there is, a gigabyte")
  func largest() throws {
    try Script.run {
      inject("S", 0...0, window: 5000, mss: 1000, wscale: 14)
      targetConnects()
      expectSome(1)
      inject(".", 1...1, ack: 1, window: 65_535 << 14)
      expectPeerWindow(65_535 << 14)
      targetSays(20_000)
      expectSome(10)
      inject(".", 1...1, ack: 10_001, window: 65_535 << 14)
      expectSome(10)
    }
  }

  @Test("without the client's offer neither side scales")
  func notOffered() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      targetConnects()
      let answer = expectAnything().first
      #expect(answer?.options.windowScale == nil)
      #expect(answer.map { $0.window <= 65_535 } == true)
      inject(".", 1...1, ack: 1, window: 60_000)
      expectPeerWindow(60_000)
      inject("P.", 1...2001, ack: 1)
      let acknowledgment = expectAnything().first
      #expect(acknowledgment?.window == 65_535)
    }
  }

  @Test("every SYN-ACK's window is unscaled, also one that is sent again")
  func synAckAgain() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000, wscale: 7)
      targetConnects()
      expect("S.", 0...0, window: 65_535)
      advance(by: .seconds(1))
      expect("S.", 0...0, window: 65_535)
      inject("S", 0...0, mss: 1000, wscale: 7)
      expect("S.", 0...0, window: 65_535)
    }
  }

  @Test("a scale outside of a SYN means nothing (RFC 7323 §2.1)")
  func outsideOfSyn() throws {
    try Script.run {
      reach(.established)
      inject(".", 1...1, ack: 1, window: 1000, wscale: 9)
      expectPeerWindow(1000)
    }
  }

  @Test("what scaling rounds off never takes the edge back (§2.4)")
  func rounding() throws {
    try Script.run(window: 100_000) {
      handshake(wscale: 7)
      // The script itself checks the edge of every acknowledgement.
      var next = 1
      for octets in [1, 3, 127, 128, 129, 500, 999, 1001] {
        inject("P.", next...next + octets, ack: 1)
        next += octets
        advance(by: .milliseconds(40))
        expectSome()
      }
      expectTaken(next - 1)
    }
  }
}

@Suite("RFC 9293 §3.7.1, RFC 6691: maximum segment size")
struct MaximumSegmentSizeTests {
  @Test("ours is said in the SYN-ACK, from the MTU, options not counted", arguments: [true, false])
  func offered(timestamps: Bool) throws {
    try Script.run(mss: 1460) {
      inject("S", 0...0, mss: 1000, ts: timestamps)
      targetConnects()
      expect("S.", 0...0, mss: 1460)
    }
  }

  @Test("it is said even if the client says nothing (MAY-3)")
  func offeredAlways() throws {
    try Script.run(mss: 1460) {
      inject("S", 0...0)
      targetConnects()
      expect("S.", 0...0, mss: 1460)
    }
  }

  @Test("it is said nowhere else (MUST-65)")
  func onlyInSyn() throws {
    try Script.run {
      reach(.established)
      targetSays(2000)
      inject("P.", 1...2001, ack: 1)
      inject("S", 7...7)
      targetFinishes()
      let segments = expectAnything()
      #expect(segments.count >= 4)
      #expect(segments.allSatisfy { $0.options.maximumSegmentSize == nil })
    }
  }

  @Test(
    "what is sent is the smaller of both (MUST-16)",
    arguments: [(1460, 1000), (1000, 1460), (536, 1460), (1220, 1220), (9000, 8960)])
  func smaller(client: Int, ours: Int) throws {
    try Script.run(mss: UInt16(ours)) {
      handshake(mss: UInt16(client))
      let segment = min(client, ours)
      targetSays(3 * segment)
      for number in 0..<3 {
        let start = 1 + number * segment
        expect(number == 2 ? "P." : ".", start...start + segment)
      }
    }
  }

  @Test("unsaid, it is 536 over IPv4 and 1220 over IPv6 (MUST-15)", arguments: [true, false])
  func defaults(isIPv4: Bool) throws {
    try Script.run(mss: 1460, isIPv4: isIPv4) {
      handshake(mss: nil)
      let segment = isIPv4 ? 536 : 1220
      targetSays(2 * segment)
      expect(".", 1...1 + segment)
      expect("P.", 1 + segment...1 + 2 * segment)
    }
  }

  @Test(
    "a size of nothing, or nearly, is taken as 88: no stream of headers", arguments: [0, 1, 87])
  func floor(client: Int) throws {
    try Script.run {
      handshake(mss: UInt16(client))
      targetSays(176)
      expect(".", 1...89)
      expect("P.", 89...177)
    }
  }

  @Test("a size outside of a SYN means nothing")
  func outsideOfSyn() throws {
    try Script.run {
      reach(.established)
      inject(".", 1...1, ack: 1, mss: 100)
      targetSays(1000)
      expect("P.", 1...1001)
    }
  }

  @Test("segments longer than we asked for are taken all the same")
  func longer() throws {
    try Script.run {
      reach(.established)
      inject("P.", 1...5001, ack: 1)
      expect(".", 1...1, ack: 5001)
      expectTaken(5000)
    }
  }
}
