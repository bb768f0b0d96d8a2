import Glibc
import HotPaths
import Kernel
import Primitives
import Stack
import Synchronization

// What is shown: processor times, which nothing judges.

/// What all lanes write, if they are told to.
let common = Atomic<Int>(0)

/// Shows what a packet costs, with more and more lanes side by side.
func show<L: Lane & ~Copyable>(_ type: L.Type, _ repetitions: Int) throws {
  let counts = Array(1...min(Thread.processors, 64))
  for sharesCounter in [false, true] {
    print("\(L.name)\(sharesCounter ? ", with a counter that all of them write" : ""):")
    var costs = counts.map { _ in [Double]() }
    for _ in 0..<repetitions {
      for (place, workers) in counts.enumerated() {
        costs[place].append(
          try measure(
            type, workers: workers, sharesCounter: sharesCounter, run: .milliseconds(150)))
      }
    }
    let alone = median(costs[0])
    for (place, workers) in counts.enumerated() {
      let cost = median(costs[place])
      print(
        "  \(workers) at a time: \(Int(cost.rounded())) ns for a packet,",
        "\(Int((100 * cost / alone).rounded())) % of one alone")
    }
  }
}

/// Nanoseconds of its thread's processor time that a packet costs a lane, with so many side by side.
private func measure<L: Lane & ~Copyable>(
  _ type: L.Type, workers: Int, sharesCounter: Bool, run: Interval
) throws -> Double {
  let total = Total()
  let rules = laneRules(generation: 0)
  let start = MonotonicClock.now() + .milliseconds(20)
  for number in 0..<workers {
    _ = try Thread.spawn(name: "lane-\(number)") {
      var lane = L(number, of: workers, rules: rules, at: start)
      var now = MonotonicClock.now()
      while now < start { now = MonotonicClock.now() }
      let began = threadTime()
      var packets = 0
      while now < start + run {
        let done = lane.turn(at: now)
        if sharesCounter { for _ in 0..<done { common.add(1, ordering: .relaxed) } }
        packets += done
        now = MonotonicClock.now()
      }
      total.add(nanoseconds: threadTime() - began, packets: packets)
    }
  }
  return total.wait(for: workers)
}

/// Shows for how long a reload holds a worker up. The rules are made on this thread, taken on another one,
/// which has not seen them before, and freed on this one.
func showReload(_ change: Reload.Change, _ repetitions: Int) throws {
  let newest = Mutex<RuleSet?>(nil)
  let times = Mutex<[Int]>([])
  let thread = try Thread.spawn(name: "lane-0") {
    var reload = Reload(change)
    while true {
      let count = times.withLock(\.count)
      guard count < repetitions else { return }
      guard let rules = newest.withLock({ $0 }) else {
        usleep(100)
        continue
      }
      let began = threadTime()
      reload.install(rules)
      let spent = threadTime() - began
      newest.withLock { $0 = nil }
      times.withLock { $0.append(spent) }
    }
  }
  var rules = Reload.rules(change, 0)
  for generation in 1...repetitions {
    let next = Reload.rules(change, UInt16(generation % 50_000), after: rules)
    newest.withLock { $0 = next }
    while newest.withLock({ $0 != nil }) { usleep(100) }
    rules = next
  }
  thread.join()
  // The first has nothing in common with what the worker had before.
  let sorted = times.withLock { $0.dropFirst(repetitions > 1 ? 1 : 0).sorted() }
  print(
    "a reload of \(Reload.ruleCount) rules, \(change.rawValue):",
    "\(sorted[sorted.count / 2] / 1000) µs, \(sorted[sorted.count - 1] / 1000) at most")
}

/// Processor time of the calling thread, in nanoseconds.
func threadTime() -> Int {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The lanes' results, gathered at their ends.
final class Total: Sendable {
  private let sums = Mutex((lanes: 0, nanoseconds: 0, packets: 0))

  func add(nanoseconds: Int, packets: Int) {
    sums.withLock { sums in
      sums.lanes += 1
      sums.nanoseconds += nanoseconds
      sums.packets += packets
    }
  }

  func wait(for lanes: Int) -> Double {
    while true {
      let sums = sums.withLock { $0 }
      if sums.lanes == lanes { return Double(sums.nanoseconds) / Double(max(1, sums.packets)) }
      usleep(1000)
    }
  }
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
