import Glibc
import Kernel
import Primitives
import Stack
import Synchronization

// What is judged: lanes side by side carry everything, while all of them are given new rules again and
// again.

struct Check {
  private static let run = Interval.milliseconds(400)
  private static let lanesMax = 4
  private var passed = 0
  private var failed = 0

  mutating func run<L: Lane & ~Copyable>(_ type: L.Type) {
    let lanes = max(2, min(Thread.processors, Self.lanesMax))
    let name = "\(L.name): \(lanes) side by side, and reloads"
    do throws(SystemError) {
      let (outcomes, reloads) = try drive(type, lanes)
      let wrong = outcomes.compactMap(\.failure)
      let packets = outcomes.reduce(0) { $0 + $1.packets }
      if wrong.isEmpty, packets > 0, reloads > 0 {
        passed += 1
        print("ok \(name) (\(packets) packets, \(reloads) reloads)")
      } else {
        failed += 1
        print("FAILED \(name): \(packets) packets, \(reloads) reloads", wrong)
      }
    } catch {
      failed += 1
      print("FAILED \(name): \(error)")
    }
  }

  func finish() -> Never {
    print("\(passed) passed, \(failed) failed")
    exit(failed == 0 && passed > 0 ? 0 : 1)
  }

  private typealias Outcome = (packets: Int, failure: String?)

  /// - Returns: what each lane did, and how many sets of rules all of them were given.
  private func drive<L: Lane & ~Copyable>(
    _ type: L.Type, _ lanes: Int
  ) throws(SystemError) -> ([Outcome], reloads: Int) {
    let board = Board(laneRules(generation: 0), lanes: lanes)
    let end = MonotonicClock.now() + Self.run
    for number in 0..<lanes {
      _ = try Thread.spawn(name: "lane-\(number)") {
        var (taken, rules) = board.newest()
        var lane = L(number, of: lanes, rules: rules, at: MonotonicClock.now())
        var packets = 0
        var now = MonotonicClock.now()
        while now < end {
          packets += lane.turn(at: now)
          if board.generation > taken {
            (taken, rules) = board.newest()
            lane.install(rules, at: now)
          }
          now = MonotonicClock.now()
        }
        board.add((packets, lane.failure()))
      }
    }
    // Faster than the lanes at times: who comes late misses some.
    while MonotonicClock.now() < end {
      board.post()
      usleep(500)
    }
    return (board.outcomes(), board.generation)
  }

  /// Where lanes find the newest rules, and leave what they did.
  private final class Board: Sendable {
    private let lanes: Int
    private let number = Atomic<Int>(0)
    private let rules: Mutex<RuleSet>
    private let done = Mutex<[Outcome]>([])

    init(_ rules: RuleSet, lanes: Int) {
      self.rules = Mutex(rules)
      self.lanes = lanes
    }

    var generation: Int { number.load(ordering: .acquiring) }

    func newest() -> (generation: Int, rules: RuleSet) {
      rules.withLock { (generation, $0) }
    }

    func post() {
      let next = generation + 1
      let made = laneRules(generation: next, after: rules.withLock { $0 })
      rules.withLock { rules in
        rules = made
        number.store(next, ordering: .releasing)
      }
    }

    func add(_ outcome: Outcome) { done.withLock { $0.append(outcome) } }

    func outcomes() -> [Outcome] {
      while true {
        let done = done.withLock { $0 }
        if done.count == lanes { return done }
        usleep(1000)
      }
    }
  }
}
