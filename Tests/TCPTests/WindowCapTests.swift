import Primitives
import TCP
import Testing
import Wire

// A device whose queue overflows offers its clients less, for a while.

@Suite("Flow control: a device's queue that overflows")
struct WindowCapTests {
  private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

  @Test("each overflow halves what is offered, down to 16 KiB; each quiet second doubles it")
  func halvesAndDoubles() {
    var cap = WindowCap()
    #expect(cap.octets == .max)
    var octets: [UInt32] = []
    for step in 0..<8 {
      cap.narrow(usual: 960 << 10, at: start + .milliseconds(250 * step))
      octets.append(cap.octets >> 10)
    }
    #expect(octets == [480, 240, 120, 60, 30, 16, 16, 16])
    let last = start + .milliseconds(250 * 7)
    cap.relax(widest: 16 << 20, at: last + .milliseconds(999))
    #expect(cap.octets == 16 << 10)
    octets = (1...12).map { second in
      cap.relax(widest: 16 << 20, at: last + .seconds(second))
      return cap.octets
    }
    let doubled: [UInt32] = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    #expect(octets == doubled.map { $0 << 10 } + [.max, .max, .max])
  }

  @Test("steps that nobody asked for in time are made up for")
  func late() {
    var cap = WindowCap()
    cap.narrow(usual: 960 << 10, at: start)
    cap.relax(widest: 16 << 20, at: start + .milliseconds(3500))
    #expect(cap.octets == 480 << 13)
    cap.relax(widest: 16 << 20, at: start + .seconds(1 << 30))
    #expect(cap.octets == .max)
  }

  @Test("a client is offered less from its next acknowledgement on; what it was offered stays")
  func offered() throws {
    try Script.run(window: 128 << 10) {
      handshake(wscale: 8)
      func send(_ range: ClosedRange<Int>) -> Int? {
        inject("P.", range, ack: 1)
        advance(by: .milliseconds(40))
        let last = expectAnything().last
        #expect(last?.acknowledgment == range.upperBound)
        return last?.window
      }
      let before = send(1...1001)
      #expect(before == 128 << 10)
      deviceOverflows()
      // The right edge stands still until the target has taken so much that less than the cap is open.
      let edge = 1001 + (128 << 10)
      #expect(send(1001...51_001).map { abs($0 - (edge - 51_001)) < 256 } == true)
      #expect(send(51_001...101_001) == 64 << 10)
      deviceOverflows()
      deviceOverflows()
      #expect(send(101_001...160_001) == 16 << 10)
    }
  }

  @Test("a far client keeps its window: what it sends ahead is on its way and not in the queue")
  func far() throws {
    try Script.run(window: 128 << 10) {
      handshake(wscale: 8, roundTrip: .milliseconds(20))
      for _ in 0..<4 { deviceOverflows() }
      inject("P.", 1...100_001, ack: 1)
      advance(by: .milliseconds(40))
      #expect(expectAnything().last?.window == 128 << 10)
    }
  }

  @Test("two segments are offered, however large they are")
  func jumbo() throws {
    try Script.run(mss: 65_495, window: 960 << 10) {
      handshake(mss: 65_495, wscale: 8)
      for _ in 0..<8 { deviceOverflows() }
      var edge = 1 + (960 << 10)
      var sent = 1
      while edge - sent > 65_495 {
        inject("P.", sent...sent + 65_495, ack: 1)
        sent += 65_495
        advance(by: .milliseconds(40))
        guard let window = expectAnything().last?.window else { return }
        edge = sent + window
        if edge > 1 + (960 << 10) { break }
      }
      // Whole multiples of 256 octets can be told.
      #expect(edge - sent >= 2 * 65_495 - 256)
      #expect(edge - sent <= 2 * 65_495 + 256)
    }
  }
}
