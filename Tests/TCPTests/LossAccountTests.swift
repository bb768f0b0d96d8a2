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

  @Test("of what went out as one, blocks of an octet count for nothing, others as far as they go")
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
      expect(".", 1...1501, ack: 1, pieces: 1000)
      expectNothing()
    }
  }

  @Test("segments need not begin where the rest of a record does: an acknowledgement within one")
  func acknowledgedWithin() throws {
    try Script.run(offload: true) {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(8000)
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 501, sackBlocks: [6001...7001, 4001...5001, 2001...3001])
      expect(".", 501...2001, ack: 1, pieces: 1000)
      expect(".", 3001...4001, ack: 1)
      expectNothing()
      inject(".", 1...1, ack: 3001, sackBlocks: [6001...7001, 4001...5001])
      expect(".", 5001...6001, ack: 1)
      expectNothing()
    }
  }

  @Test("the edge is taken back, within a segment: then blocks of one segment each")
  func edgeTakenBack() throws {
    try Script.run(offload: true) {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(8000)
      expect("P.", 1...8001, ack: 1, pieces: 1000)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 500)
      advance(by: .milliseconds(190))
      expect(".", 1...501, ack: 1)
      inject(".", 1...1, ack: 501, sackBlocks: [5001...6001, 3001...4001, 1001...2001])
      expect(".", 501...1001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      inject(".", 1...1, ack: 3001, sackBlocks: [5001...6001, 3001...4001])
      expect(".", 4001...5001, ack: 1)
      expectAnything()
    }
  }

  @Test("small segments that are lost together go out as one")
  func joined() throws {
    try Script.run {
      handshake()
      for _ in 0..<10 { targetSays(100) }
      expectSome(10)
      advance(by: .milliseconds(200))
      expect("P.", 1...1001, ack: 1)
      expectNothing()
    }
  }
}

@Suite("RFC 8985 §6.2, step 4: what is no reordering")
struct NoReorderingTests {
  @Test("blocks of one acknowledgement say nothing of order: the newest comes first (RFC 2018 §4)")
  func newestFirst() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1, sackBlocks: [6001...10_001, 3001...5001, 1001...2001])
      expect(".", 1...1001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      expect(".", 5001...6001, ack: 1)
      expectNothing()
    }
  }

  /// Of ten segments the first is lost, twice: the others are told to have arrived, and the time-out
  /// does not believe it.
  private func timedOut() {
    handshake(sack: true, roundTrip: .milliseconds(8))
    targetSays(10_000)
    expectSome(10)
    advance(by: .milliseconds(8))
    inject(".", 1...1, ack: 1, sackBlocks: [1001...10_001])
    expect(".", 1...1001, ack: 1)
    advance(by: .milliseconds(192))
    expect(".", 1...1001, ack: 1)
    advance(by: .milliseconds(8))
  }

  @Test("what was told to have arrived before a time-out does not arrive late after it")
  func toldBefore() throws {
    try Script.run {
      timedOut()
      var start = 10_001
      inject(".", 1...1, ack: start)
      targetSays(40_000)
      for _ in 0..<8 {
        let sent = expectAnything()
        advance(by: .milliseconds(8))
        if sent.count > 3 { break }
        start += sent.count * 1000
        inject(".", 1...1, ack: start)
      }
      inject(".", 1...1, ack: start, sackBlocks: [start + 1000...start + 4000])
      expect(".", start...start + 1000, ack: 1)
      expectAnything()
    }
  }

  @Test("nor is it a round trip that ends the timer's back-off (Karn)")
  func toldAgain() throws {
    try Script.run {
      timedOut()
      inject(".", 1...1, ack: 1, sackBlocks: [1001...10_001])
      expectNothing()
      advance(by: .milliseconds(391))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1...1001, ack: 1)
      advance(by: .milliseconds(799))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1...1001, ack: 1)
    }
  }
}

@Suite("RFC 5681 §3.2, RFC 8985 §7.4: what a loss is paid for with")
struct FlightAtLossTests {
  @Test("what the acknowledgement that shows the loss takes off was in flight too")
  func acknowledgedWithIt() throws {
    try Script.run {
      handshake(sack: true, roundTrip: .milliseconds(10))
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 6001, sackBlocks: [7001...10_001])
      expect(".", 6001...7001, ack: 1)
      inject(".", 1...1, ack: 10_001)
      targetSays(40_000)
      expectSome(5)
    }
  }

  /// Of ten segments the last is not acknowledged, and probed with.
  private func probed() {
    handshake(sack: true, roundTrip: .milliseconds(10))
    targetSays(10_000)
    expectSome(10)
    advance(by: .milliseconds(10))
    inject(".", 1...1, ack: 8001)
    advance(by: .milliseconds(22))
    expect("P.", 9001...10_001, ack: 1)
    advance(by: .milliseconds(10))
  }

  @Test("a tail probe that mended a loss: half of what was in flight with the tail (§7.4.2)")
  func probeMended() throws {
    try Script.run {
      probed()
      inject(".", 1...1, ack: 10_001)
      targetSays(1000)
      expectSome(1)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 11_001)
      targetSays(40_000)
      expectSome(5)
    }
  }

  @Test("one that came twice mended nothing: the window stands")
  func probeNeedless() throws {
    try Script.run {
      probed()
      inject(".", 1...1, ack: 10_001, sackBlocks: [9001...10_001])
      targetSays(1000)
      expectSome(1)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 11_001)
      targetSays(40_000)
      let sent = expectAnything().count
      #expect(sent >= 18)
    }
  }
}

@Suite("RFC 2883 §4.1.2, §4.2: duplicates in front of a gap")
struct DuplicateBehindGapTests {
  @Test("the duplicate is told first, then the run that holds it")
  func inRun() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1001...3001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...3001])
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...2001, 1001...3001])
      inject(".", 4001...5001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [4001...5001, 1001...3001])
    }
  }

  @Test("a segment that overlaps a run is a duplicate as far as it does, once")
  func overlap() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1001...2001, ack: 1)
      inject(".", 3001...4001, ack: 1)
      expectAnything()
      inject(".", 1501...3501, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1501...2001, 1001...4001])
    }
  }

  @Test("so is one that fills the gap and goes on into the run")
  func filling() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1001...2001, ack: 1)
      expectAnything()
      inject(".", 1...1501, ack: 1)
      expect(".", 1...1, ack: 2001, sackBlocks: [1001...1501])
    }
  }

  @Test("such a report of what was sent again takes the reduction back (RFC 3708)")
  func heard() throws {
    try Script.run {
      handshake(sack: true, wscale: 7, window: 60_000, roundTrip: .milliseconds(10))
      inject(".", 1...1, ack: 1, window: 1_000_064)
      targetSays(10_000)
      expectSome(10)
      advance(by: .milliseconds(10))
      inject(".", 1...1, ack: 1001, window: 1_000_064)
      inject(".", 1...1, ack: 1001, window: 1_000_064, sackBlocks: [3001...10_001])
      expect(".", 1001...2001, ack: 1)
      expect(".", 2001...3001, ack: 1)
      inject(
        ".", 1...1, ack: 1001, window: 1_000_064, sackBlocks: [2001...3001, 2001...10_001])
      inject(".", 1...1, ack: 10_001, window: 1_000_064, sackBlocks: [1001...2001])
      targetSays(40_000)
      let sent = expectAnything().count
      #expect(sent >= 10)
    }
  }
}
