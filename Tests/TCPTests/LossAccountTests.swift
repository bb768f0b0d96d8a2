import Primitives
import TCP
import Testing
import Wire

// What is taken for lost or arrived, segment by segment, and what the window pays for it.

@Suite("RFC 2018 §3: blocks that cut segments to pieces")
struct CutBlocksTests {
  /// The client tells of single octets, four in each acknowledgement.
  private func dust(_ octets: Int) {
    for index in stride(from: 3, to: octets - 40, by: 400) {
      inject(
        ".", 1...1, ack: 1,
        sackBlocks: [30, 20, 10, 0].map { index + $0...index + $0 + 1 })
    }
  }

  @Test("a part of a segment has not arrived: the time-out sends whole segments")
  func singleOctets() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(4000)
      expectSome(4)
      dust(4000)
      expectNothing()
      advance(by: .milliseconds(22))
      expect("P.", 3001...4001, ack: 1)  // the tail probe
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expect(".", 1001...2001, ack: 1)
      expectAnything()
    }
  }

  @Test("of what went out as one, whole segments count as arrived")
  func superPacket() throws {
    try Script.run(offload: true) {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(8000)
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      advance(by: .milliseconds(10))
      dust(8000)
      let records = Script.current?.memory.sent.count
      #expect(records == 1 || Script.current?.endpoint == nil)
      inject(".", 1...1, ack: 1, sackBlocks: [1501...7901])
      expect(".", 1...2001, ack: 1, pieces: 1000)
      expectNothing()
    }
  }

  @Test("small segments that are lost together go out as one")
  func joined() throws {
    try Script.run {
      handshake()
      for _ in 0..<15 { targetSays(100) }
      expectSome(15)
      advance(by: .milliseconds(200))
      expect(".", 1...1001, ack: 1)
      inject(".", 1...1, ack: 1001)
      expect("P.", 1001...1501, ack: 1)
      expectNothing()
    }
  }
}
