import Primitives
import TCP
import Testing
import Wire

// What arrives: order, acknowledgement, windows, reassembly, and segments to be refused.

@Suite("RFC 9293 §3.10.7.4: data in, acknowledged when the target took it")
struct ReceivingTests {
  @Test("one small segment is acknowledged after 40 ms (RFC 1122 §4.2.3.2)")
  func delayedAcknowledgment() throws {
    try Script.run {
      handshake(wscale: 7)
      inject("P.", 1...101, ack: 1)
      expectTaken(100)
      advance(by: .milliseconds(39))
      expectNothing()
      advance(by: .milliseconds(1))
      expect(".", 1...1, ack: 101, window: 960 * 1024)
      advance(by: .seconds(5))
      expectNothing()
    }
  }

  @Test("more than one segment's worth is acknowledged at once")
  func immediateAcknowledgment() throws {
    try Script.run {
      handshake(wscale: 7)
      inject(".", 1...1001, ack: 1)
      expectNothing()
      inject("P.", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 2001)
      inject("P.", 2001...12001, ack: 1)  // what a device coalesced
      expect(".", 1...1, ack: 12001)
    }
  }

  @Test("data of ours carries the acknowledgement")
  func piggyback() throws {
    try Script.run {
      handshake()
      inject("P.", 1...101, ack: 1)
      targetSays(10)
      expect("P.", 1...11, ack: 101)
      advance(by: .milliseconds(100))
      expectNothing()
    }
  }

  @Test("what the target did not take is not acknowledged, and kept")
  func acknowledgedWhenTaken() throws {
    try Script.run(target: .octets(1500)) {
      handshake(wscale: 7)
      inject("P.", 1...2001, ack: 1)
      inject("P.", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 1501)
      advance(by: .milliseconds(50))
      expectNothing()
      targetTakes(.octets(1000))
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 2501)
      targetTakes(.everything)
      expectTaken(3000)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 3001)
    }
  }

  @Test("a target that takes nothing closes the window, whose edge never goes back; then it opens")
  func windowClosesAndReopens() throws {
    try Script.run(target: .nothing, window: 10_000) {
      handshake()
      for start in stride(from: 1, to: 10_001, by: 1000) {
        inject(".", start...start + 1000, ack: 1)
      }
      inject(".", 10_001...10_002, ack: 1)  // a probe beyond the window
      expect(".", 1...1, ack: 1, window: 10_000)
      targetTakes(.octets(4000))
      expect(".", 1...1, ack: 4001, window: 6000)
      targetTakes(.octets(6000))
      expect(".", 1...1, ack: 10_001, window: 10_000)
      expectTaken(10_000)
      inject("P.", 10_001...10_101, ack: 1)
      targetTakes(.everything)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 10_101, window: 9900)
    }
  }

  @Test("the window opens by a segment at least (RFC 1122 §4.2.3.3)")
  func sillyWindow() throws {
    try Script.run(window: 10_000) {
      handshake()
      inject(".", 1...301, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 301, window: 9700)
      inject(".", 301...1301, ack: 1)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 1301, window: 10_000)
    }
  }

  @Test("a retransmission of what was taken is acknowledged at once and taken once")
  func duplicates() throws {
    try Script.run {
      handshake()
      inject("P.", 1...101, ack: 1)
      inject("P.", 1...101, ack: 1)
      expect(".", 1...1, ack: 101)
      inject("P.", 51...201, ack: 1)  // half of it is new
      expect(".", 1...1, ack: 201)
      expectTaken(200)
    }
  }

  @Test("a retransmission of what the target has not taken yet is not kept twice")
  func duplicateOfUntaken() throws {
    try Script.run(target: .nothing) {
      handshake()
      inject("P.", 1...101, ack: 1)
      inject("P.", 1...101, ack: 1)
      expect(".", 1...1, ack: 1)
      targetTakes(.everything)
      expectTaken(100)
      advance(by: .milliseconds(40))
      expect(".", 1...1, ack: 101)
    }
  }

  @Test("data beyond the window is cut off")
  func beyondWindow() throws {
    try Script.run(target: .nothing, window: 2000) {
      handshake()
      inject(".", 1...3001, ack: 1)
      targetTakes(.everything)
      expectTaken(2000)
      expect(".", 1...1, ack: 2001, window: 2000)
    }
  }

  @Test("a segment outside of the window is answered with an acknowledgement, and counted")
  func outsideOfWindow() throws {
    try Script.run(window: 2000) {
      handshake()
      inject(".", 5001...5101, ack: 1)
      expect(".", 1...1, ack: 1)
      expectDrop(.outOfWindow, 1)
    }
  }

  @Test("with the pool spent, payload is dropped and counted, not acknowledged")
  func poolSpent() throws {
    try Script.run(target: .nothing, memoryOctets: 64 * 1024) {
      handshake(wscale: 7)
      for start in stride(from: 1, to: 60_001, by: 10_000) {
        inject(".", start...start + 10_000, ack: 1)
      }
      guard let script = Script.current, let endpoint = script.endpoint else { return }
      let kept = endpoint.receive.untakenOctets
      #expect(kept >= 10_000 && kept <= 50_000 && kept % 10_000 == 0, "\(kept)")
      #expect(script.memory.drops[.memoryFull] == UInt64(6 - kept / 10_000))
      let answers = expectAnything()
      #expect(answers.allSatisfy { $0.acknowledgment == 1 })
      targetTakes(.everything)
      expectTaken(kept)
      #expect(expectAnything().last?.acknowledgment == 1 + kept)
      // The client has the rest still.
      inject(".", 1 + kept...10_001 + kept, ack: 1)
      #expect(expectAnything().last?.acknowledgment == 10_001 + kept)
    }
  }

  @Test("a segment without ACK is dropped")
  func withoutAck() throws {
    try Script.run {
      handshake()
      inject("P", 1...101)
      expectNothing()
      expectDrop(.badTCPFlags, 1)
      expectTaken(0)
    }
  }
}

@Suite("RFC 2018 §4: data out of order")
struct ReassemblyTests {
  @Test("a gap is reported at once, the latest run first, and closes silently")
  func blocks() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...2001])
      inject(".", 3001...4001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [3001...4001, 1001...2001])
      inject(".", 2001...2501, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...2501, 3001...4001])
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2501, sackBlocks: [3001...4001])
      inject(".", 2501...3001, ack: 1)
      expect(".", 1...1, ack: 4001)
      expectTaken(4000)
    }
  }

  @Test("a client without SACK gets bare duplicate acknowledgements")
  func withoutSack() throws {
    try Script.run {
      handshake()
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1)
      inject(".", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 1)
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 3001)
    }
  }

  @Test("at most four blocks fit, three beside timestamps")
  func blockCount() throws {
    try Script.run {
      handshake(sack: true)
      for start in [1001, 3001, 5001, 7001, 9001] { inject(".", start...start + 1000, ack: 1) }
      let segments = expectAnything()
      #expect(segments.last?.sackBlocks.count == 4)
      #expect(segments.last?.sackBlocks.first == 9001...10_001)
    }
    try Script.run {
      handshake(sack: true, ts: true)
      for start in [1001, 3001, 5001, 7001, 9001] { inject(".", start...start + 1000, ack: 1) }
      let segments = expectAnything()
      #expect(segments.last?.sackBlocks.count == 3)
    }
  }

  @Test("overlaps of every kind deliver each octet once")
  func overlaps() throws {
    try Script.run {
      handshake(sack: true)
      inject(".", 201...401, ack: 1)
      inject(".", 301...501, ack: 1)
      inject(".", 101...251, ack: 1)
      inject(".", 601...701, ack: 1)
      inject(".", 451...651, ack: 1)
      inject(".", 151...301, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [201...401])
      expect(".", 1...1, ack: 1, sackBlocks: [301...401, 201...501])
      expect(".", 1...1, ack: 1, sackBlocks: [201...251, 101...501])
      expect(".", 1...1, ack: 1, sackBlocks: [601...701, 101...501])
      expect(".", 1...1, ack: 1, sackBlocks: [451...501, 101...701])
      expect(".", 1...1, ack: 1, sackBlocks: [151...301, 101...701])
      inject(".", 1...701, ack: 1)
      expect(".", 1...1, ack: 701, sackBlocks: [101...701])
      expectTaken(700)
    }
  }

  @Test("one run more than is kept is dropped and counted; filling the gaps still delivers all")
  func tooManyRuns() throws {
    try Script.run {
      handshake(wscale: 7)
      for run in 0..<130 { inject(".", 101 + run * 200...201 + run * 200, ack: 1) }
      expectDrop(.reassemblyFull, 2)
      expectAnything()
      for gap in 0..<129 { inject(".", 1 + gap * 200...101 + gap * 200, ack: 1) }
      expectAnything()
      expectTaken(25_700)
      inject(".", 25_701...25_801, ack: 1)
      expectAnything()
      expectTaken(25_800)
    }
  }

  @Test("SACK blocks do not ride on full segments, they would break the MTU; they follow")
  func blocksBesideData() throws {
    try Script.run {
      handshake(sack: true, ts: true)
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [1001...2001])
      targetSays(988)
      expect("P.", 1...989, ack: 1)
      inject(".", 3001...4001, ack: 989)
      expect(".", 989...989, ack: 1, sackBlocks: [3001...4001, 1001...2001])
    }
  }

  @Test("on a path that has lost something, what came in order is told in two halves")
  func acknowledgesInHalves() throws {
    try Script.run(offload: true) {
      handshake(sack: true)
      inject(".", 1...10_001, ack: 1)
      expect(".", 1...1, ack: 10_001)
      inject(".", 11_001...12_001, ack: 1)
      expect(".", 1...1, ack: 10_001, sackBlocks: [11_001...12_001])
      inject(".", 10_001...11_001, ack: 1)
      expect(".", 1...1, ack: 12_001)
      inject(".", 12_001...17_001, ack: 1)
      expect(".", 1...1, ack: 14_001)
      expect(".", 1...1, ack: 17_001)
      inject(".", 17_001...18_001, ack: 1)
      inject(".", 18_001...19_001, ack: 1)
      expect(".", 1...1, ack: 18_001)
      expect(".", 1...1, ack: 19_001)
      expectNothing()
      for segment in 19..<599 { inject(".", 1 + segment * 1000...1001 + segment * 1000, ack: 1) }
      expectAnything()
      inject(".", 599_001...603_001, ack: 1)
      expect(".", 1...1, ack: 603_001)
      expectNothing()
    }
  }

  @Test("without SACK it is told whole: half of it would look like the next gap (RFC 6582)")
  func acknowledgesWhole() throws {
    try Script.run(offload: true) {
      handshake(sack: false)
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1)
      inject(".", 1...1001, ack: 1)
      expect(".", 1...1, ack: 2001)
      inject(".", 2001...7001, ack: 1)
      expect(".", 1...1, ack: 7001)
      expectNothing()
    }
  }

  @Test("a gap in front of data that the target has not taken")
  func gapBehindUntaken() throws {
    try Script.run(target: .nothing) {
      handshake(sack: true)
      inject(".", 1...1001, ack: 1)
      inject(".", 2001...3001, ack: 1)
      expect(".", 1...1, ack: 1, sackBlocks: [2001...3001])
      inject(".", 1001...2001, ack: 1)
      expect(".", 1...1, ack: 1)
      targetTakes(.everything)
      expect(".", 1...1, ack: 3001)
      expectTaken(3000)
    }
  }
}
