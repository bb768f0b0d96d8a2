import Primitives
import TCP
import Testing
import Wire

// Segments that are too big for the path: told by ICMP, or not at all.

@Suite("RFC 1191, RFC 8201 and RFC 5927 §7: segments too big for the path")
struct PathMTUTests {
  @Test("what was too big is sent again at once in smaller segments, without congestion")
  func resentAtOnce() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460, sack: true)
      targetSays(14_600)
      expectSome(10)
      routerSays(mtu: 1300, quoting: 1)
      for start in stride(from: 1, to: 13_861, by: 1260) {
        expect(".", start...start + 1260, ack: 1)
      }
      expect("P.", 13_861...14_601, ack: 1)
      expectNothing()
      // All of the others were dropped too, and their routers say so: that is known.
      routerSays(mtu: 1300, quoting: 1461)
      routerSays(mtu: 1300, quoting: 2921)
      expectNothing()
      expectDrop(.icmpBadMTU, 2)
      advance(by: .milliseconds(50))
      inject(".", 1...1, ack: 14_601)
      targetSays(2 * 14_600)  // slow start goes on from where it was
      expectSome(24)
    }
  }

  @Test("a super-packet is cut anew") func superPackets() throws {
    try Script.run(mss: 1460, offload: true) {
      handshake(mss: 1460, sack: true)
      targetSays(14_600)
      expect("P.", 1...14_601, ack: 1, pieces: 1460)
      routerSays(mtu: 1300, quoting: 1)
      expect(".", 1...13_861, ack: 1, pieces: 1260)
      expect("P.", 13_861...14_601, ack: 1, pieces: 0)
      expectNothing()
    }
  }

  @Test("what fitted is not sent again") func smallOnesStay() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460, sack: true)
      targetSays(500)
      targetSays(1460)
      targetSays(500)
      expectSome(3)
      routerSays(mtu: 1300, quoting: 501)
      expect(".", 501...1761, ack: 1)
      expect(".", 1761...1961, ack: 1)
      expectNothing()
    }
  }

  @Test("the retransmission timer runs from the smaller segments on") func timer() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      advance(by: .milliseconds(150))
      routerSays(mtu: 1300, quoting: 1)
      expectSome(2)
      advance(by: .milliseconds(199))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1...1261, ack: 1)
    }
  }

  @Test("timestamps count against the MTU", arguments: [true, false])
  func timestamps(isIPv4: Bool) throws {
    let headers = (isIPv4 ? 40 : 60) + 12
    try Script.run(mss: 1440, isIPv4: isIPv4) {
      handshake(mss: 1440, ts: true)
      targetSays(1428)
      expectSome(1)
      routerSays(mtu: 1300, quoting: 1)
      expect(".", 1...1301 - headers, ack: 1)
      expectAnything()
    }
  }

  @Test("a quotation of what is not in flight is not heard (RFC 5927 §4.1)")
  func outsideOfFlight() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      routerSays(mtu: 1300, quoting: 1)  // nothing is in flight
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: 1300, quoting: 0)
      routerSays(mtu: 1300, quoting: 1461)
      routerSays(mtu: 1300, quoting: -1_000_000)
      expectNothing()
      expectDrop(.icmpUnmatched, 4)
      routerSays(mtu: 1300, quoting: 1460)
      expectSome(2)
      inject(".", 1...1, ack: 1461)
    }
  }

  @Test("nothing is heard before the connection stands, or after it") func states() throws {
    try Script.run(mss: 1460) {
      inject("S", 0...0, mss: 1460)
      routerSays(mtu: 1300, quoting: 0)
      targetConnects()
      expectSome(1)
      routerSays(mtu: 1300, quoting: 0)
      inject(".", 1...1, ack: 1)
      inject("R", 1...1)
      routerSays(mtu: 1300, quoting: 1)
      expectNothing()
      expectDrop(.icmpUnmatched, 3)
    }
  }

  @Test("a claim that is no less than what is sent is not heard") func notLess() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      for mtu in [1500, 1501, 9000, 65_535] { routerSays(mtu: mtu, quoting: 1) }
      expectNothing()
      expectDrop(.icmpBadMTU, 4)
    }
  }

  @Test("IPv4: no claim makes segments smaller than those of 552 octets", arguments: [0, 68, 551])
  func leastIPv4(mtu: Int) throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: mtu, quoting: 1)
      expect(".", 1...513, ack: 1)
      expect(".", 513...1025, ack: 1)
      expect("P.", 1025...1461, ack: 1)
      routerSays(mtu: mtu, quoting: 1)
      expectNothing()
    }
  }

  @Test("IPv6: a claim of less than 1280 is not heard (RFC 8201 §4)") func leastIPv6() throws {
    try Script.run(mss: 1440, isIPv4: false) {
      handshake(mss: 1440)
      targetSays(1440)
      expectSome(1)
      for mtu in [0, 68, 1279] { routerSays(mtu: mtu, quoting: 1) }
      expectNothing()
      expectDrop(.icmpBadMTU, 3)
      routerSays(mtu: 1280, quoting: 1)
      expect(".", 1...1221, ack: 1)
      expect("P.", 1221...1441, ack: 1)
    }
  }

  @Test("a peer that asked for small segments cannot be told of smaller ones") func smallPeer()
    throws
  {
    try Script.run(mss: 1460) {
      handshake(mss: 400)
      targetSays(400)
      expectSome(1)
      routerSays(mtu: 300, quoting: 1)
      expectNothing()
      expectDrop(.icmpBadMTU, 1)
    }
  }

  @Test("what contradicts experience is believed when the timer agrees (RFC 5927 §7.2)")
  func confirmed() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      inject(".", 1...1, ack: 1461)
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: 1300, quoting: 1461)
      expectNothing()
      advance(by: .milliseconds(200))
      expect(".", 1461...2721, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 2721)
      expect("P.", 2721...2921, ack: 1)
      inject(".", 1...1, ack: 2921)
      targetSays(1460)
      expect(".", 2921...4181, ack: 1)
      expectAnything()
    }
  }

  @Test("a claim that the next acknowledgement refutes is forgotten") func refuted() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      inject(".", 1...1, ack: 1461)
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: 1300, quoting: 1461)
      inject(".", 1...1, ack: 2921)
      targetSays(1460)
      expectSome(1)
      advance(by: .milliseconds(200))
      expect("P.", 2921...4381, ack: 1)
    }
  }

  @Test("after ten minutes the agreed size is tried again") func raised() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: 1300, quoting: 1)
      expectSome(2)
      inject(".", 1...1, ack: 1461)
      advance(by: .seconds(599))
      targetSays(1260)
      targetSays(1460)
      expect("P.", 1461...2721, ack: 1)
      expect(".", 2721...3981, ack: 1)
      expect("P.", 3981...4181, ack: 1)
      inject(".", 1...1, ack: 4181)
      advance(by: .seconds(1))
      targetSays(1460)
      expect("P.", 4181...5641, ack: 1)
      routerSays(mtu: 1300, quoting: 4181)  // still too big: heard at once
      expect(".", 4181...5441, ack: 1)
      expect("P.", 5441...5641, ack: 1)
    }
  }

  @Test("small segments that arrive late prove nothing of the large one that they were joined to")
  func lateOriginals() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      for _ in 0..<10 { targetSays(140) }
      expectSome(10)
      advance(by: .milliseconds(200))
      expect("P.", 1...1401, ack: 1)
      inject(".", 1...1, ack: 1401)
      targetSays(1460)
      expect("P.", 1401...2861, ack: 1)
      routerSays(mtu: 1300, quoting: 1401)
      expect(".", 1401...2661, ack: 1)
      expectAnything()
    }
  }

  @Test("small segments in flight while the size is raised: blocks of one each count")
  func raisedInFlight() throws {
    try Script.run(mss: 1460, offload: true) {
      handshake(mss: 1460, sack: true, roundTrip: .milliseconds(10))
      targetSays(1460)
      expectSome(1)
      routerSays(mtu: 552, quoting: 1)
      expectAnything()
      inject(".", 1...1, ack: 1461)
      advance(by: .milliseconds(599_985))
      targetSays(5120)
      expect("P.", 1461...6581, ack: 1, pieces: 512)
      advance(by: .milliseconds(10))
      targetSays(1460)
      expectAnything()
      inject(".", 1...1, ack: 1461, sackBlocks: [4533...5045, 3509...4021, 2485...2997])
      expect("P.", 6581...8041, ack: 1)
      advance(by: .milliseconds(3))  // the reordering window
      expect(".", 1461...2485, ack: 1)
      expectAnything()
    }
  }
}

@Suite("RFC 2923 §2.1: segments of full size that vanish without a word")
struct BlackHoleTests {
  @Test(
    "the second time-out makes the segment one that every path takes", arguments: [true, false])
  func secondTimeOut(isIPv4: Bool) throws {
    try Script.run(mss: 1440, isIPv4: isIPv4) {
      handshake(mss: 1440)
      targetSays(1440)
      expect("P.", 1...1441, ack: 1)
      advance(by: .milliseconds(200))
      expect("P.", 1...1441, ack: 1)
      advance(by: .milliseconds(400))
      expect(".", 1...1209 + (isIPv4 ? 0 : 12), ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 1209 + (isIPv4 ? 0 : 12))
      expectSome(1)
      inject(".", 1...1, ack: 1441)
      targetSays(1440)
      expect(".", 1441...2649 + (isIPv4 ? 0 : 12), ack: 1)
      expectAnything()
    }
  }

  @Test("IPv4: the fourth makes it smaller; the sixth gives the matter up") func noHelp() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(2920)
      expectSome(2)
      advance(by: .milliseconds(200 + 400))
      expectSome(2)
      advance(by: .milliseconds(800))
      expect(".", 1...1209, ack: 1)
      advance(by: .milliseconds(1600))
      expect(".", 1...513, ack: 1)
      advance(by: .milliseconds(3200))
      expect(".", 1...513, ack: 1)
      advance(by: .milliseconds(6400))
      expect(".", 1...513, ack: 1)  // no smaller, and what was cut stays cut
      expectNothing()
      inject(".", 1...1, ack: 513)
      expect(".", 513...1973, ack: 1)
      inject(".", 1...1, ack: 2921)
      targetSays(1460)
      expect("P.", 2921...4381, ack: 1)
    }
  }

  @Test("a small segment's time-outs say nothing about sizes") func smallSegments() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(400)
      expectSome(1)
      advance(by: .seconds(60))
      expectSome(8)
      inject(".", 1...1, ack: 401)
      targetSays(1460)
      expect("P.", 401...1861, ack: 1)
    }
  }

  @Test("a closed window is no black hole") func closedWindow() throws {
    try Script.run(mss: 1460) {
      handshake(mss: 1460)
      targetSays(1460)
      expectSome(1)
      inject(".", 1...1, ack: 1, window: 0)
      advance(by: .seconds(10))
      expectAnything()
      inject(".", 1...1, ack: 1, window: 64_000)
      expectAnything()
      inject(".", 1...1, ack: 1461)
      targetSays(1460)
      expect("P.", 1461...2921, ack: 1)
    }
  }
}
