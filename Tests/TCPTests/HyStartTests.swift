import Primitives
import TCP
import Testing
import Wire

// HyStart++ by rounds: each test plays acknowledgements of known round trips.

@Suite("RFC 9406: HyStart++")
struct HyStartTests {
  private let mss = 1000
  private let start = MonotonicInstant(nanoseconds: 5_000_000_000)

  /// A connection that is acknowledged segment by segment.
  private struct Connection {
    var control = CongestionControl(algorithm: .cubic, segmentOctets: 1000)
    var acknowledged = SequenceNumber(UInt32.max - 30_000)
    var next: SequenceNumber

    init() { next = acknowledged + 10_000 }

    /// One round: all that is in flight is acknowledged, and as much sent as the window lets out.
    mutating func round(_ milliseconds: Int, samples: Int? = nil, at now: MonotonicInstant) {
      let end = next
      var count = 0
      while acknowledged.precedes(end) {
        acknowledged = acknowledged + 1000
        count += 1
        let isSampled = samples.map { count <= $0 } ?? true
        control.acknowledged(1000, segmentOctets: 1000, smoothedRTT: 50_000, at: now)
        control.heard(
          roundTrip: isSampled ? .milliseconds(milliseconds) : nil, acknowledged: acknowledged,
          next: next)
        next = acknowledged + Int(control.window)
      }
    }
  }

  @Test("steady round trips leave slow start alone: the window doubles")
  func steady() {
    var connection = Connection()
    for _ in 0..<5 { connection.round(50, at: start) }
    #expect(connection.control.window == 320_000)
    #expect(connection.control.isInSlowStart && !connection.control.isConservative)
  }

  @Test("a rise of an eighth within eight samples begins conservative slow start (§4.2)")
  func rise() {
    var connection = Connection()
    connection.round(80, at: start)
    connection.round(89, at: start)
    #expect(!connection.control.isConservative)  // 80 + 10 is not reached
    connection.round(80, at: start)
    connection.round(91, at: start)
    #expect(connection.control.isConservative)
    #expect(connection.control.threshold == .max)
  }

  @Test("of short round trips a rise below 4 ms is noise (MIN_RTT_THRESH)")
  func leastRise() {
    var connection = Connection()
    connection.round(2, at: start)
    connection.round(5, at: start)
    #expect(!connection.control.isConservative)
    connection.round(9, at: start)
    connection.round(14, at: start)
    #expect(connection.control.isConservative)
  }

  @Test("of long ones 16 ms are enough (MAX_RTT_THRESH)")
  func mostRise() {
    var connection = Connection()
    connection.round(400, at: start)
    connection.round(415, at: start)
    #expect(!connection.control.isConservative)
    var other = Connection()
    other.round(400, at: start)
    other.round(417, at: start)
    #expect(other.control.isConservative)
  }

  @Test("fewer than eight samples in a round prove nothing (N_RTT_SAMPLE)")
  func fewSamples() {
    var connection = Connection()
    connection.round(50, at: start)
    connection.round(100, samples: 7, at: start)
    #expect(!connection.control.isConservative)
  }

  @Test("conservative slow start grows by a quarter (CSS_GROWTH_DIVISOR)")
  func quarter() {
    var connection = Connection()
    connection.round(50, at: start)
    connection.round(100, at: start)
    let before = Int(connection.control.window)
    connection.round(100, at: start)
    // what was in flight when the round began is acknowledged: growth is a quarter of that
    let grown = Int(connection.control.window) - before
    #expect(grown >= before / 4 - 1000 && grown <= before / 4 + 1000)
  }

  @Test("after five rounds of it congestion avoidance begins at the window (CSS_ROUNDS)")
  func fiveRounds() {
    var connection = Connection()
    connection.round(50, at: start)
    connection.round(100, at: start)  // the round in which it begins counts
    for _ in 0..<3 {
      connection.round(100, at: start)
      #expect(connection.control.isConservative)
    }
    connection.round(100, at: start)
    #expect(!connection.control.isInSlowStart)
    #expect(connection.control.threshold != .max)
    #expect(connection.control.window < connection.control.threshold + 2000)
  }

  @Test("round trips that fall below the baseline resume slow start")
  func resumes() {
    var connection = Connection()
    connection.round(50, at: start)
    connection.round(100, at: start)
    #expect(connection.control.isConservative)
    connection.round(90, at: start)
    #expect(!connection.control.isConservative && connection.control.isInSlowStart)
    let before = connection.control.window
    connection.round(90, at: start)
    #expect(connection.control.window > before * 3 / 2)
  }

  @Test("a loss ends it: later slow starts are plain (§4.3)")
  func onceOnly() {
    var connection = Connection()
    connection.round(50, at: start)
    connection.control.timedOut(flightOctets: 200_000, segmentOctets: mss)
    connection.round(50, at: start)
    connection.round(500, at: start)
    #expect(!connection.control.isConservative)
  }

  @Test("in a connection: round trips that double slow the growth of the window")
  func inConnection() throws {
    try Script.run(algorithm: .cubic) {
      handshake(sack: true, wscale: 7, window: 60_000, roundTrip: .milliseconds(20))
      inject(".", 1...1, ack: 1, window: 4_000_000)
      var acknowledged = 1
      var sent: [Int] = []
      for round in 0..<5 {
        targetSays(200_000)
        advance(by: .milliseconds(round < 2 ? 20 : 30))
        let segments = expectAnything()
        sent.append(segments.count)
        for segment in segments {
          acknowledged = segment.range.upperBound
          inject(".", 1...1, ack: acknowledged, window: 4_000_000)
        }
      }
      expectAnything()
      #expect(sent.count == 5 && sent[0] == 10 && sent[1] == 20 && sent[2] == 40)
      // a round is noticed when its last segment is acknowledged: the next sees eight slow samples
      #expect(sent[4] < sent[3] * 3 / 2)
    }
  }
}
