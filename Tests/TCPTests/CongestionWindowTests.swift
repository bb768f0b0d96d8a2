import Primitives
import TCP
import Testing
import Wire

// The congestion window by numbers, derived by hand from the RFCs' equations.

private let mss = 1000
private let start = MonotonicInstant(nanoseconds: 5_000_000_000)

/// A window of so many segments, below an infinite threshold.
private func control(_ algorithm: CongestionControl.Algorithm, segments: Int) -> CongestionControl {
  var control = CongestionControl(algorithm: algorithm, segmentOctets: mss)
  while Int(control.window) < segments * mss {
    let octets = min(65_000, segments * mss - Int(control.window))
    control.acknowledged(octets, segmentOctets: mss, smoothedRTT: 50_000, at: start)
  }
  return control
}

extension CongestionControl {
  fileprivate mutating func acknowledged(_ octets: Int, after: Interval, rtt: UInt32 = 100_000) {
    acknowledged(octets, segmentOctets: mss, smoothedRTT: rtt, at: start + after)
  }
}

@Suite("RFC 5681, RFC 6928, RFC 3465: slow start and congestion avoidance")
struct WindowGrowthTests {
  @Test("ten segments to begin with (RFC 6928); slow start adds what is acknowledged")
  func slowStart() {
    var control = control(.newReno, segments: 10)
    #expect(control.window == 10_000)
    control.acknowledged(10_000, after: .zero)
    #expect(control.window == 20_000)
  }

  @Test("an acknowledgement adds no more than one super-packet (RFC 3465 §2.2: L)")
  func slowStartLimit() {
    var control = control(.newReno, segments: 200)
    control.acknowledged(150_000, after: .zero)
    #expect(control.window == 200_000 + 65_536)
  }

  @Test("after a time-out it adds no more than a segment (RFC 3465 §2.3)")
  func slowStartAfterTimeout() {
    var control = control(.newReno, segments: 40)
    control.timedOut(flightOctets: 40_000, segmentOctets: mss)
    control.acknowledged(
      8_000, segmentOctets: mss, smoothedRTT: 50_000, afterTimeout: true, at: start)
    #expect(control.window == 2_000)
  }

  @Test("ACK division: ten acknowledgements of a tenth add what one of all adds (RFC 3465 §2.1)")
  func division() {
    for threshold in [false, true] {
      var whole = control(.newReno, segments: 20)
      if threshold { whole.lost(flightOctets: 20_000, segmentOctets: mss) }
      var divided = whole
      whole.acknowledged(10_000, after: .zero)
      for _ in 0..<100 { divided.acknowledged(100, after: .zero) }
      #expect(whole.window == divided.window)
    }
  }

  @Test("slow start ends at the threshold, and the rest counts for congestion avoidance (§3.1)")
  func threshold() {
    var control = control(.newReno, segments: 40)
    control.timedOut(flightOctets: 40_000, segmentOctets: mss)
    #expect(control.threshold == 20_000)
    control.acknowledged(18_000, after: .zero)
    #expect(control.window == 19_000 && control.isInSlowStart)
    control.acknowledged(2_000, after: .zero)
    #expect(control.window == 20_000 && !control.isInSlowStart)
  }

  @Test("NewReno: half the flight after a loss, then a segment for each window (§3.1)")
  func newReno() {
    var control = control(.newReno, segments: 100)
    control.lost(flightOctets: 100_000, segmentOctets: mss)
    #expect(control.window == 50_000 && control.threshold == 50_000)
    for _ in 0..<49 { control.acknowledged(1000, after: .zero) }
    #expect(control.window == 50_000)
    control.acknowledged(1000, after: .zero)
    #expect(control.window == 51_000)
    for _ in 0..<51 { control.acknowledged(1000, after: .zero) }
    #expect(control.window == 52_000)
  }

  @Test("a window of megabytes still grows by its segment, however small the steps")
  func largeWindow() {
    var control = control(.newReno, segments: 20_000)
    control.lost(flightOctets: 20_000_000, segmentOctets: mss)
    for _ in 0..<10_000 { control.acknowledged(1000, after: .zero) }
    #expect(control.window == 10_001_000)
  }

  @Test("the threshold is never below two segments (§3.1, equation 4)")
  func leastThreshold() {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      var control = control(algorithm, segments: 10)
      control.lost(flightOctets: 1000, segmentOctets: mss)
      #expect(control.threshold == 2000 && control.window == 2000)
      control.timedOut(flightOctets: 0, segmentOctets: mss)
      #expect(control.threshold == 2000 && control.window == 1000)
    }
  }

  @Test("what limited transmit sent beyond the window does not count for the threshold (§3.2)")
  func flightBeyondWindow() {
    var control = control(.newReno, segments: 20)
    control.lost(flightOctets: 22_000, segmentOctets: mss)
    #expect(control.threshold == 10_000)
  }

  @Test("a time-out leaves one segment, and slow start up to β of the flight (§3.1; RFC 9438 §4.8)")
  func timeout() {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      var control = control(algorithm, segments: 40)
      control.timedOut(flightOctets: 40_000, segmentOctets: mss)
      #expect(control.window == 1000)
      #expect(control.threshold == (algorithm == .newReno ? 20_000 : 28_000))
    }
  }

  @Test("other segments leave the window's octets, which hold one of them at least")
  func segmentSize() {
    for algorithm in [CongestionControl.Algorithm.newReno, .cubic] {
      var control = control(algorithm, segments: 40)
      control.segmentSizeChanged(from: mss, to: 500)
      #expect(control.window == 40_000)
      control.timedOut(flightOctets: 900, segmentOctets: 500)
      #expect(control.window == 500)
      control.segmentSizeChanged(from: 500, to: mss)
      #expect(control.window == 1000)
      #expect(control.threshold >= 2000)
    }
  }

  @Test("an idle sender begins with the initial window again, and keeps its threshold (§4.1)")
  func restart() {
    var control = control(.cubic, segments: 100)
    control.lost(flightOctets: 100_000, segmentOctets: mss)
    control.restarted(segmentOctets: mss)
    #expect(control.window == 10_000 && control.threshold == 70_000)
    control.lost(flightOctets: 4_000, segmentOctets: mss)
    control.restarted(segmentOctets: mss)
    #expect(control.window == 2_800)
  }

  @Test("a handshake that was repeated begins with one segment (§3.1)")
  func handshake() {
    var control = control(.cubic, segments: 10)
    control.handshakeTimedOut(segmentOctets: mss)
    #expect(control.window == 1000)
  }

  @Test(
    "the window is never below a segment nor beyond its type, whatever happens", arguments: 1...10)
  func bounds(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var control = control(seed % 2 == 0 ? .cubic : .newReno, segments: 10)
    var now = start
    for _ in 0..<5_000 {
      now = now + Interval(nanoseconds: Int64(random.number(in: 0...3_000_000_000)))
      switch random.number(in: 0...24) {
      case 0: control.lost(flightOctets: random.number(in: 0...1 << 31), segmentOctets: mss)
      case 1: control.timedOut(flightOctets: random.number(in: 0...1 << 31), segmentOctets: mss)
      case 2: control.restarted(segmentOctets: mss)
      case 3: control.restore()
      case 4:
        control.restoreAfterTimeout(
          flightOctets: random.number(in: 0...1 << 31),
          acknowledgedOctets: random.number(in: 0...1 << 31), segmentOctets: mss)
      case 5: control.applicationLimited(at: now)
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

@Suite("RFC 9438: CUBIC")
struct CubicTests {
  /// One acknowledgement of everything in flight for each round trip of 100 ms.
  private func rounds(
    _ count: Int, from first: Int = 0, _ control: inout CongestionControl
  ) -> [Double] {
    (first..<first + count).map { round in
      control.acknowledged(Int(control.window), after: .milliseconds(100 * round))
      return Double(control.window) / Double(mss)
    }
  }

  private func isNear(_ value: Double, _ expected: Double, _ tolerance: Double) -> Bool {
    abs(value - expected) <= tolerance
  }

  @Test("β is 0.7 (§4.6)")
  func beta() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    #expect(control.window == 700_000 && control.threshold == 700_000)
  }

  @Test("the reduction is of the flight, not of a window that was not used (§4.6)")
  func flight() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 100_000, segmentOctets: mss)
    #expect(control.window == 70_000)
  }

  @Test("the window follows C·(t - K)³ + W_max, read a round trip ahead (§4.2)")
  func curve() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    // K = ∛((1000 - 700) / 0.4) = 9.0856 s; with an acknowledgement of the whole window the
    // window is the target: W(t + RTT).
    let windows = rounds(101, &control)
    #expect(isNear(windows[0], 700.53, 0.01))  // W(0) is where it begins: W_est is ahead by α
    #expect(isNear(windows[1], 0.4 * -701.49 + 1000, 0.5))  // t + RTT - K = -8.8856
    #expect(isNear(windows[10], 0.4 * -509.68 + 1000, 0.5))  // -7.9856: 796.3
    #expect(isNear(windows[50], 0.4 * -63.32 + 1000, 0.5))  // -3.9856: 974.7
    #expect(isNear(windows[90], 1000, 0.5))  // +0.0144: the plateau
    #expect(isNear(windows[100], 1000.4, 0.5))  // +1.0144: convex
  }

  @Test("the target is at most one and a half windows, and never below the window (§4.2)")
  func targetBounds() {
    var control = control(.cubic, segments: 100)
    control.lost(flightOctets: 100_000, segmentOctets: mss)
    control.acknowledged(1_000, after: .zero)
    let before = Int(control.window)
    control.acknowledged(before, after: .seconds(600))
    #expect(isNear(Double(control.window), Double(before) * 1.5, 2))
  }

  @Test("a part of a window acknowledged is that part of the way to the target (§4.4)")
  func part() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    control.acknowledged(1, after: .zero)
    control.acknowledged(7_000, after: .seconds(1))
    // target = 0.4 · (1.1 - 9.0856)³ + 1000 = 796.30; 700 + 96.30 / 100
    #expect(isNear(Double(control.window) / 1000, 700.963, 0.003))
  }

  @Test(
    "fast convergence: lost below the last W_max, the new one is (1 + β)/2 of the window (§4.7)")
  func fastConvergence() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    control.lost(flightOctets: 700_000, segmentOctets: mss)
    #expect(control.window == 490_000)
    // W_max = 700 · 0.85 = 595, K = ∛(105 / 0.4) = 6.4033: W(0.2) = 0.4 · (-6.2033)³ + 595
    #expect(isNear(rounds(2, &control)[1], 499.52, 0.3))
  }

  @Test("where Reno would be faster, the window is Reno's: α is 3(1 - β)/(1 + β) (§4.3)")
  func renoFriendly() {
    var control = control(.cubic, segments: 20)
    control.lost(flightOctets: 20_000, segmentOctets: mss)
    // 14 segments, K = ∛(6 / 0.4) = 2.466 s. With round trips of 1 ms the cubic curve stands still, and
    // W_est grows by 0.52941 in each.
    for round in 0..<10 {
      control.acknowledged(Int(control.window), after: .milliseconds(round), rtt: 1_000)
    }
    #expect(isNear(Double(control.window) / 1000, 14 + 10 * 0.52941, 0.05))
  }

  @Test("from cwnd_prior on α is 1 (§4.3), also below it for W_max by fast convergence")
  func alpha() {
    var control = control(.cubic, segments: 20)
    control.lost(flightOctets: 20_000, segmentOctets: mss)
    var round = 0
    while control.window < 20_000 {
      control.acknowledged(Int(control.window), after: .microseconds(10 * round), rtt: 10)
      round += 1
    }
    #expect(round == 12)  // (20 - 14) / 0.52941
    let before = Double(control.window)
    control.acknowledged(Int(control.window), after: .microseconds(10 * round), rtt: 10)
    #expect(isNear((Double(control.window) - before) / 1000, 1, 0.01))
  }

  @Test("time in which the window was not the limit does not count (§4.2, §5.8)")
  func applicationLimited() {
    var busy = control(.cubic, segments: 1000)
    busy.lost(flightOctets: 1_000_000, segmentOctets: mss)
    var paused = busy
    _ = rounds(20, &busy)
    _ = rounds(10, &paused)
    // a minute with little to say, then on as before
    for second in 1...60 { paused.applicationLimited(at: start + .seconds(second)) }
    paused.applicationLimited(at: start + .milliseconds(60_900))
    _ = rounds(10, from: 610, &paused)
    #expect(isNear(Double(paused.window), Double(busy.window), 2))
  }

  @Test("after a time-out the first epoch has its plateau where it begins (§4.8)")
  func afterTimeout() {
    var control = control(.cubic, segments: 1000)
    control.timedOut(flightOctets: 1_000_000, segmentOctets: mss)
    #expect(control.window == 1000 && control.threshold == 700_000)
    while control.isInSlowStart { control.acknowledged(50_000, after: .zero) }
    // W_max = 700, K = 0: W(2 + 0.1) = 0.4 · 9.26 + 700; not 0.4 · (2.1 - 9.09)³ + 1000 = 863
    control.acknowledged(1, after: .zero)
    control.acknowledged(Int(control.window), after: .seconds(2))
    #expect(isNear(Double(control.window) / 1000, 703.7, 0.4))
  }

  @Test("a needless reduction is taken back with the whole curve (§4.9.2)")
  func restored() {
    var control = control(.cubic, segments: 1000)
    control.lost(flightOctets: 1_000_000, segmentOctets: mss)
    _ = rounds(50, &control)
    var undisturbed = control
    let before = control.window
    control.lost(flightOctets: Int(control.window), segmentOctets: mss)
    #expect(control.window < before)
    control.restore()
    #expect(control.window == before && control.threshold == 700_000)
    #expect(
      rounds(20, from: 50, &control) == rounds(20, from: 50, &undisturbed))
  }

  @Test("a needless time-out is taken back without a burst (RFC 4015 §4)")
  func timeoutRestored() {
    var control = control(.cubic, segments: 100)
    control.timedOut(flightOctets: 100_000, segmentOctets: mss)
    control.restoreAfterTimeout(
      flightOctets: 40_000, acknowledgedOctets: 60_000, segmentOctets: mss)
    #expect(control.window == 50_000)  // FlightSize + min(bytes_acked, IW)
    #expect(control.threshold == .max)
  }
}
