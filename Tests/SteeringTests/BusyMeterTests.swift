import Primitives
import Steering
import TestSupport
import Testing

// What the meter tells of a worker's time, and what it makes of flows that are dealt by it: here workers are
// models that carry so much a millisecond.

@Suite("How busy a worker is") struct BusyMeterTests {
  private static let start = MonotonicInstant(nanoseconds: 7_000_000_000)

  /// What is told after each of some periods in which such a share of a core is used, percent.
  private static func told(_ shares: [Int], from meter: inout BusyMeter) -> [Int] {
    var now = start
    var used = Interval.zero
    return shares.map { share in
      now = now + BusyMeter.period
      used = used + .microseconds(500 * share)
      #expect(meter.isOver(at: now) && !meter.isOver(at: now + .microseconds(-1)))
      return meter.end(at: now, used: used)
    }
  }

  @Test("of a core's time the average of the last periods counts")
  func average() {
    var meter = BusyMeter(at: Self.start, used: .zero)
    let told = Self.told(
      Array(repeating: 100, count: 40) + Array(repeating: 50, count: 40)
        + Array(repeating: 0, count: 40), from: &meter)
    #expect(told.prefix(6) == [2, 4, 5, 7, 8, 9])
    #expect(told[39] == BusyMeter.weightMax)
    #expect(told[79] == BusyMeter.weightMax / 2)
    #expect(told[119] == 0)
    #expect(zip(told[40...], told[41...]).allSatisfy(>=))
  }

  @Test("one busy period is forgotten, one of two per cent was never heard of") func forgets() {
    var meter = BusyMeter(at: Self.start, used: .zero)
    #expect(Self.told([100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], from: &meter).last == 0)
    meter = BusyMeter(at: Self.start, used: .zero)
    #expect(Self.told(Array(repeating: 2, count: 100), from: &meter).allSatisfy { $0 == 0 })
  }

  @Test("who was busy and sleeps tells so in a few steps, each some periods later")
  func sleeps() {
    var meter = BusyMeter(at: Self.start, used: .zero)
    _ = Self.told(Array(repeating: 100, count: 40), from: &meter)
    let used = Interval.milliseconds(2000)
    var steps: [Int] = []
    while steps.last != 0, steps.count < 9 {
      steps.append(meter.end(at: meter.wakeAt, used: used))
    }
    #expect(steps == [5, 2, 1, 0])
    // A sleep of a day is one step.
    _ = meter.end(at: Self.start + .seconds(10), used: used + .seconds(6))
    #expect(meter.end(at: Self.start + .seconds(86_410), used: used + .seconds(6)) == 0)
  }

  @Test("more time than went by counts as all of it, less than none as none") func bounds() {
    var meter = BusyMeter(at: Self.start, used: .seconds(5))
    for period in 1...60 {
      let told = meter.end(at: Self.start + .seconds(period), used: .seconds(5 + 2 * period))
      #expect(told <= BusyMeter.weightMax)
    }
    #expect(meter.end(at: Self.start + .seconds(61), used: .zero) < BusyMeter.weightMax)
    #expect(meter.end(at: Self.start + .seconds(60), used: .zero) >= 0)
  }

  /// Who is told late and at once where work is would have all of it sent elsewhere, and then back.
  @Test(
    "conversations that come and go are on both workers, whatever each costs",
    arguments: [1, 5, 20, 100], [3, 8])
  func isStable(_ work: Int, _ conversations: Int) {
    let model = DealtWork(work: work, conversations: conversations, seed: UInt64(work))
    for _ in 0..<2000 { model.millisecond() }
    let before = model.aloneMilliseconds
    for _ in 0..<20_000 { model.millisecond() }
    // Of three, a worker has none now and then; it takes a new one before long.
    #expect(model.aloneMilliseconds - before < 20_000 / 10, "\(model.aloneMilliseconds - before)")
    #expect(abs(model.served[0] - model.served[1]) < model.served.reduce(0, +) / 10)
  }
}

/// Two workers with as many conversations as ever, each of which takes some milliseconds of a worker and is
/// then followed by another one.
private final class DealtWork {
  private let memory = SharedOctets()
  private let steering: Steering
  private var generator: SeededGenerator
  private let work: Int
  private var left: [[(part: Int, work: Double)]] = [[], []]
  private var meters: [BusyMeter]
  private var told = [0, 0]
  private var used = [Interval.zero, .zero]
  private var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  private(set) var served = [0, 0]
  /// In which one worker had all.
  private(set) var aloneMilliseconds = 0

  init(work: Int, conversations: Int, seed: UInt64) {
    self.work = work
    generator = SeededGenerator(seed: seed)
    steering = Steering(workers: 2, seed: (seed, 2), homes: memory.homes)
    // Their periods do not end together.
    meters = [
      BusyMeter(at: now, used: .zero), BusyMeter(at: now + .milliseconds(25), used: .zero),
    ]
    for _ in 0..<conversations { begin() }
  }

  private func begin() {
    while true {
      let tuple = SteeringTests.tuple(&generator)
      guard steering.home(of: tuple) == nil else { continue }
      let home = steering.deal(tuple)
      left[home].append((steering.part(of: tuple), Double(work)))
      return
    }
  }

  func millisecond() {
    now = now + .milliseconds(1)
    if left.contains(where: \.isEmpty) { aloneMilliseconds += 1 }
    for worker in 0..<2 where !left[worker].isEmpty {
      used[worker] = used[worker] + .milliseconds(1)
      served[worker] += 1
      let each = 1 / Double(left[worker].count)
      for index in left[worker].indices { left[worker][index].work -= each }
    }
    for worker in 0..<2 {
      let ended = left[worker].filter { $0.work <= 1e-9 }
      left[worker].removeAll { $0.work <= 1e-9 }
      for (part, _) in ended { steering.homes.leave(part, of: worker) }
      for _ in ended { begin() }
      guard meters[worker].isOver(at: now) else { continue }
      let weight = meters[worker].end(at: now, used: used[worker])
      steering.homes.changeLoad(of: worker, by: weight - told[worker])
      told[worker] = weight
    }
  }
}
