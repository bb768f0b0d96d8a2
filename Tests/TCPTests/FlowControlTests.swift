import Primitives
import TCP
import Testing
import Wire

// How much a client may send ahead: windows that follow the distance, and targets that stall.

@Suite("Flow control: the window grows with the path (RFC 7323 §2, dynamic right-sizing)")
struct ReceiveWindowTests {
  /// A client that keeps the window full, at a distance.
  private func upload(
    _ windows: Int, roundTrip: Interval, from start: Int = 1, frameOctets: Int = 60_000,
    before: () -> Void = {}
  ) -> (position: Int, window: Int) {
    var position = start
    var window = 65_535
    for _ in 0..<windows {
      let end = position + window
      var next = position
      before()
      while next < end {
        let octets = min(frameOctets, end - next)
        inject(".", next...next + octets, ack: 1)
        next += octets
      }
      let last = expectAnything().last
      position = next
      if let last, last.acknowledgment == next { window = last.window }
      advance(by: roundTrip)
      if let last = expectAnything().last, last.acknowledgment == next { window = last.window }
    }
    return (position, window)
  }

  @Test("a client 100 ms away that fills the window is offered up to 16 MiB")
  func far() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .milliseconds(100))
      #expect(upload(2, roundTrip: .milliseconds(100)).window <= 2 * 960 * 1024)
    }
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .milliseconds(100))
      #expect(upload(8, roundTrip: .milliseconds(100)).window == 0xFFFF << 8)
    }
  }

  @Test("a client that sends less than half a window in two round trips is offered no more")
  func slow() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .milliseconds(100))
      #expect(upload(8, roundTrip: .milliseconds(250)).window == 960 * 1024)
    }
  }

  @Test("a near client that is alone and fast is offered four windows")
  func alone() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .microseconds(200))
      #expect(upload(20, roundTrip: .microseconds(100)).window == 4 * 960 * 1024)
    }
  }

  @Test("a near client beside others is offered the usual window, however fast it is")
  func near() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .microseconds(200))
      let (_, window) = upload(20, roundTrip: .microseconds(100)) {
        guard let script = Script.current else { return }
        script.memory.company.hears(of: 77, at: script.now)
        script.memory.company.hears(of: 78, at: script.now)
      }
      #expect(window == 960 * 1024)
    }
  }

  @Test("a near client that is alone, but takes 5 ms for a window, is offered no more")
  func leisurely() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .microseconds(200))
      #expect(upload(8, roundTrip: .milliseconds(5)).window == 960 * 1024)
    }
  }

  @Test("a near client that is alone, but sends small frames, would overflow the device's queue")
  func smallFrames() throws {
    try Script.run(memoryOctets: 128 << 20) {
      handshake(wscale: 8, roundTrip: .microseconds(200))
      let (_, window) = upload(8, roundTrip: .microseconds(100), frameOctets: 1460)
      #expect(window == 960 * 1024)
    }
  }

  @Test("a window is not widened when half of the payload pool is in use")
  func pressed() throws {
    // What others keep of 512 chunks.
    for (kept, widens) in [(200, true), (300, false)] {
      try Script.run(memoryOctets: 8 << 20) {
        handshake(wscale: 8, roundTrip: .milliseconds(100))
        guard let script = Script.current else { return }
        let chunks = (0..<kept).compactMap { _ in script.memory.chunks.take() }
        #expect(chunks.count == kept)
        let window = upload(4, roundTrip: .milliseconds(100)).window
        #expect(widens ? window > 960 * 1024 : window == 960 * 1024, "\(kept): \(window)")
        for chunk in chunks { script.memory.chunks.give(chunk) }
      }
    }
  }

  @Test("towards a client far away more is kept than towards a near one")
  func sendBuffer() throws {
    for (roundTrip, bound) in [(5, 4 << 20), (20, 8 << 20), (200, 16 << 20)] {
      try expectKept(bound, roundTrip: .milliseconds(roundTrip), inCompany: false)
    }
  }

  @Test("towards a close client less is kept, beside others least")
  func sendBufferInCompany() throws {
    for (microseconds, bound) in [(40, 512 << 10), (400, 2 << 20), (5000, 4 << 20)] {
      try expectKept(bound, roundTrip: .microseconds(microseconds), inCompany: true)
    }
    // The others say little.
    try expectKept(2 << 20, roundTrip: .microseconds(40), inCompany: false, besideOthers: true)
    try expectKept(4 << 20, roundTrip: .microseconds(40), inCompany: false)
    // Its path is another one now.
    try expectKept(
      4 << 20, handshake: .microseconds(40), roundTrip: .milliseconds(20), inCompany: true)
  }

  @Test("what waits for a slow client behind a close path makes the path no longer")
  func sendBufferBeforeBottleneck() throws {
    try Script.run(mss: 60_000, memoryOctets: 128 << 20) {
      handshake(
        mss: 60_000, sack: true, wscale: 10, window: 60_000_000, roundTrip: .microseconds(40))
      var marks: [UInt8] = [0, 0]
      for _ in 0..<200 {
        guard let script = Script.current else { return }
        for flow in 0..<2 {
          script.memory.downloads.saw(64 << 10, mark: &marks[flow], at: script.now)
        }
        targetSays(64 << 20)
        let kept = script.endpoint.map { Int($0.send.buffer.octets) } ?? 0
        #expect(kept <= 512 << 10)
        // 100 MB a second.
        advance(by: .microseconds(max(40, kept / 100)))
        for segment in expectAnything() {
          inject(".", 1...1, ack: segment.range.upperBound, window: 60_000_000)
        }
      }
    }
  }

  /// What is kept of a target that says more than any client takes.
  /// - Parameters:
  ///   - first: the handshake's round trip, if it was another.
  ///   - inCompany: of targets that say much.
  ///   - besideOthers: clients that are heard of.
  private func expectKept(
    _ bound: Int, handshake first: Interval? = nil, roundTrip: Interval, inCompany: Bool,
    besideOthers: Bool = false
  ) throws {
    try Script.run(mss: 60_000, memoryOctets: 128 << 20) {
      handshake(
        mss: 60_000, sack: true, wscale: 10, window: 60_000_000, roundTrip: first ?? roundTrip)
      var marks: [UInt8] = [0, 0]
      func say() {
        if besideOthers, let script = Script.current {
          for flow in UInt32(0)..<2 { script.memory.company.hears(of: flow, at: script.now) }
        }
        if inCompany, let script = Script.current {
          for flow in 0..<2 {
            script.memory.downloads.saw(64 << 10, mark: &marks[flow], at: script.now)
          }
        }
        targetSays(64 << 20)
      }
      for _ in 0..<16 {
        say()
        let sent = expectAnything()
        advance(by: roundTrip)
        for segment in sent {
          inject(".", 1...1, ack: segment.range.upperBound, window: 60_000_000)
        }
      }
      expectAnything()
      say()
      expectAnything()
      let kept = Script.current?.endpoint.map { Int($0.send.buffer.octets) } ?? 0
      #expect(kept > bound - (64 << 10) && kept <= bound, "\(roundTrip): \(kept)")
    }
  }
}

@Suite("Flow control: a target that stalls (RFC 9293 §3.8.6)")
struct StalledTargetTests {
  @Test("what is kept for 150 ms without progress asks for relief, once")
  func asks() throws {
    try Script.run(target: .octets(500)) {
      handshake(wscale: 8)
      inject("P.", 1...1001, ack: 1)
      targetFills()
      advance(by: .milliseconds(149))
      expectNoEvent(.relieve)
      advance(by: .milliseconds(1))
      expectEvent(.relieve)
      expectAnything()
    }
  }

  @Test("without relief the client sends again, is answered each time, and nothing is lost")
  func noRelief() throws {
    try Script.run(target: .octets(500)) {
      handshake(wscale: 8)
      inject("P.", 1...1001, ack: 1)
      inject("P.", 1001...2001, ack: 1)
      targetFills()
      expectAnything()
      for seconds in [1, 2, 4, 8, 16, 32] {
        advance(by: .seconds(seconds))
        expectAnything()
        inject("P.", 1...1001, ack: 1)
        expect(".", 1...1, ack: 501)
      }
      expectTaken(500)
      targetTakes(.everything)
      #expect(expectAnything().last?.acknowledgment == 2001)
      expectTaken(2000)
    }
  }

  @Test("progress puts it off, and an end of the stall calls it off")
  func progress() throws {
    try Script.run(target: .octets(500)) {
      handshake(wscale: 8)
      inject("P.", 1...1001, ack: 1)
      targetFills()
      advance(by: .milliseconds(100))
      targetTakes(.octets(100))
      advance(by: .milliseconds(100))
      expectNoEvent(.relieve)
      targetTakes(.everything)
      advance(by: .seconds(10))
      expectNoEvent(.relieve)
      expectAnything()
    }
  }

  @Test("relieved, everything is acknowledged, the window closes, and opens when there is room")
  func closes() throws {
    try Script.run(target: .nothing, window: 100_000) {
      handshake(wscale: 8)
      inject("P.", 1...60_001, ack: 1)
      targetFills()
      advance(by: .milliseconds(150))
      expectEvent(.relieve)
      targetIsRelieved()
      targetTakes(.everything)
      let acknowledgment = expectAnything().last
      #expect(acknowledgment?.acknowledgment == 60_001)
      #expect((acknowledgment?.window ?? 0) <= 65_535 - 60_000 + 256)
      let left = (acknowledgment?.window ?? 0) & ~0xFF
      inject("P.", 60_001...60_001 + left, ack: 1)
      let full = expectAnything().last
      #expect(full?.acknowledgment == 60_001 + left)
      #expect((full?.window ?? 0) < 256)
      // the client probes for an hour and is answered each time
      for _ in 0..<60 {
        advance(by: .seconds(60))
        inject(".", 60_000 + left...60_000 + left, ack: 1)
        expect(".", 1...1, ack: 60_001 + left)
      }
      targetHasRoom()
      let opened = expectAnything().last
      #expect((opened?.window ?? 0) > 60_000)
    }
  }
}
