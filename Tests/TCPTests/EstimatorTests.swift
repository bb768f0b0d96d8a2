import Primitives
import TCP
import Testing

// Round-trip times by numbers.

@Suite("RFC 6298: RTTEstimator")
struct RTTEstimatorTests {
  @Test("before a measurement the RTO is one second (§2.1)")
  func initial() {
    let estimator = RTTEstimator()
    #expect(estimator.timeout == .seconds(1))
    #expect(estimator.timeout(backedOff: 2) == .seconds(4))
  }

  @Test("the first measurement R: SRTT = R, RTTVAR = R/2 (§2.2)")
  func first() {
    var estimator = RTTEstimator()
    estimator.measured(.milliseconds(500))
    #expect(estimator.smoothed == 500_000)
    #expect(estimator.variation == 250_000)
    #expect(estimator.timeout == .milliseconds(1500))
  }

  @Test("the next: RTTVAR = 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT = 7/8 SRTT + 1/8 R' (§2.3)")
  func second() {
    var estimator = RTTEstimator()
    estimator.measured(.milliseconds(500))
    estimator.measured(.milliseconds(900))
    #expect(estimator.variation == 287_500)
    #expect(estimator.smoothed == 550_000)
    #expect(estimator.timeout == .milliseconds(1700))
  }

  @Test("the RTO is never below its bound")
  func lowerBound() {
    var estimator = RTTEstimator()
    for _ in 0..<100 {
      estimator.measured(.microseconds(20))
      #expect(estimator.timeout == RTTEstimator.minimum)
    }
  }

  @Test("neither measurements nor back-off lead beyond a minute (§2.5, §5.5), whatever is measured")
  func upperBound() {
    var random = SeededGenerator(seed: 6298)
    var estimator = RTTEstimator()
    for _ in 0..<10_000 {
      estimator.measured(Interval(nanoseconds: Int64(truncatingIfNeeded: random.next())))
      let times = random.number(in: 0...255)
      #expect(estimator.timeout >= RTTEstimator.minimum)
      #expect(estimator.timeout(backedOff: times) <= RTTEstimator.maximum)
    }
    #expect(estimator.timeout(backedOff: 30) == RTTEstimator.maximum)
  }

  @Test("a steady round trip is learned")
  func converges() {
    var estimator = RTTEstimator()
    estimator.measured(.seconds(2))
    for _ in 0..<200 { estimator.measured(.milliseconds(300)) }
    #expect(estimator.smoothed > 290_000 && estimator.smoothed < 310_000)
    #expect(estimator.timeout < .milliseconds(400))
    #expect(estimator.least == 300_000)
  }

  @Test("a handshake that had to be repeated, and no measurement: three seconds (§5.7)")
  func handshakeRepeated() throws {
    try Script.run {
      inject("S", 0...0, mss: 1000)
      targetConnects()
      expect("S.", 0...0, ack: 1)
      advance(by: .seconds(1))
      expect("S.", 0...0, ack: 1)
      inject(".", 1...1, ack: 1)
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      advance(by: .milliseconds(2_999))
      expectNothing()
      advance(by: .milliseconds(1))
      expect("P.", 1...101, ack: 1)
    }
  }

  @Test("with n samples in a round trip each counts for an n-th (RFC 7323, appendix G)")
  func expectedSamples() {
    var estimator = RTTEstimator()
    estimator.measured(.milliseconds(100))
    // RTTVAR = 50 + (|100 - 180| - 50) / (4 · 10) = 50.75, SRTT = 100 + 80 / (8 · 10) = 101
    estimator.measured(.milliseconds(180), expectedSamples: 10)
    #expect(estimator.smoothed == 101_000)
    #expect(estimator.variation == 50_750)
  }

  @Test("small shares of small differences add up")
  func smallShares() {
    var estimator = RTTEstimator()
    estimator.measured(.microseconds(1_000))
    for _ in 0..<20_000 { estimator.measured(.microseconds(50), expectedSamples: 100) }
    #expect(estimator.smoothed < 70)
  }

  @Test("what a coarse clock measured is no candidate for the least round trip")
  func coarse() {
    var estimator = RTTEstimator()
    estimator.measured(.milliseconds(5))
    estimator.measured(.milliseconds(1), isExact: false)
    #expect(estimator.least == 5_000)
  }
}
