import Primitives
import TCP
import Testing

// Round-trip times and congestion windows by numbers.

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
}

@Suite("RFC 5681, RFC 9438: CongestionControl")
struct CongestionControlTests {
  private let mss = 1000
  private let start = MonotonicInstant(nanoseconds: 5_000_000_000)

  private func control(_ algorithm: CongestionControl.Algorithm) -> CongestionControl {
    CongestionControl(algorithm: algorithm, segmentOctets: mss)
  }

  @Test("ten segments to begin with (RFC 6928); slow start adds what is acknowledged")
  func slowStart() {
    var control = control(.newReno)
    #expect(control.window == 10_000)
    control.acknowledged(10_000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
    #expect(control.window == 20_000)
  }

  @Test("NewReno: half the flight after a loss, then a segment each round trip (RFC 5681 §3.1)")
  func newReno() {
    var control = control(.newReno)
    control.acknowledged(90_000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
    control.lost(flightOctets: 100_000, segmentOctets: mss)
    #expect(control.window == 50_000)
    #expect(control.threshold == 50_000)
    for _ in 0..<50 {
      control.acknowledged(1000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
    }
    #expect(control.window > 50_900 && control.window <= 51_000)
  }

  @Test("a time-out leaves one segment, and slow start up to half the flight")
  func timeout() {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      var control = control(algorithm)
      control.acknowledged(30_000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
      control.timedOut(flightOctets: 40_000, segmentOctets: mss)
      #expect(control.window == 1000)
      #expect(control.threshold == (algorithm == .newReno ? 20_000 : 28_000))
    }
  }

  @Test("CUBIC: seven tenths after a loss, back at W_max after K seconds (RFC 9438 §4.2)")
  func cubic() {
    var control = control(.cubic)
    control.acknowledged(990_000, segmentOctets: mss, smoothedRTT: 100_000, at: start)
    #expect(control.window == 1_000_000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    #expect(control.window == 700_000)
    // K = ∛(1000 · 0.3 / 0.4) ≈ 9.09 s
    var now = start
    var crossed: MonotonicInstant?
    for _ in 0..<150 {
      now = now + .milliseconds(100)
      control.acknowledged(
        Int(control.window), segmentOctets: mss, smoothedRTT: 100_000, at: now)
      if crossed == nil, control.window >= 995_000 { crossed = now }
    }
    let seconds = crossed.map { Double(($0 - start).milliseconds) / 1000 } ?? 0
    #expect(seconds > 6 && seconds < 10)
    #expect(control.window > 1_010_000)
  }

  @Test("other segments leave the window's octets, which hold one of them at least")
  func segmentSize() {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      var control = control(algorithm)
      control.acknowledged(30_000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
      control.segmentSizeChanged(from: mss, to: 500)
      #expect(control.window == 40_000)
      control.timedOut(flightOctets: 900, segmentOctets: 500)
      #expect(control.window == 500)
      control.segmentSizeChanged(from: 500, to: mss)
      #expect(control.window == 1000)
      #expect(control.threshold >= 2000)
    }
  }

  @Test("an idle sender begins with the initial window again (RFC 5681 §4.1)")
  func restart() {
    var control = control(.cubic)
    control.acknowledged(90_000, segmentOctets: mss, smoothedRTT: 50_000, at: start)
    control.restarted(segmentOctets: mss)
    #expect(control.window == 10_000)
  }

  @Test(
    "the window is never below a segment nor beyond its type, whatever happens", arguments: 1...10)
  func bounds(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var control = control(seed % 2 == 0 ? .cubic : .newReno)
    var now = start
    for _ in 0..<5_000 {
      now = now + Interval(nanoseconds: Int64(random.number(in: 0...3_000_000_000)))
      switch random.number(in: 0...20) {
      case 0: control.lost(flightOctets: random.number(in: 0...1 << 31), segmentOctets: mss)
      case 1: control.timedOut(flightOctets: random.number(in: 0...1 << 31), segmentOctets: mss)
      case 2: control.restarted(segmentOctets: mss)
      default:
        control.acknowledged(
          random.number(in: 1...1 << 30), segmentOctets: mss,
          smoothedRTT: UInt32(truncatingIfNeeded: random.next()), at: now)
      }
      #expect(Int(control.window) >= mss && control.window <= UInt32.max / 2, "seed \(seed)")
      #expect(Int(control.threshold) >= 2 * mss)
    }
  }
}
