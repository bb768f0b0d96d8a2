import Configuration
import Primitives
import Stack
import Wire

// What a reload costs a worker: its thread forwards no packet meanwhile.

/// A worker that is given two sets of rules by turns.
package struct Reload: ~Copyable {
  package enum Change: String, CaseIterable {
    case nothing = "none changed"
    case few = "1 % changed"
    case all = "all changed"

    /// Each so many rules one is changed.
    fileprivate var spacing: Int {
      switch self {
      case .nothing: .max
      case .few: 100
      case .all: 1
      }
    }
  }

  package static let ruleCount = 20_000

  private let sets: [RuleSet]
  private var stack: Stack
  private var installed = 0
  private let now = MonotonicInstant(nanoseconds: 5_000_000_000)

  package init(_ change: Change) {
    let first = Self.rules(change, 0)
    sets = [first, Self.rules(change, 1, after: first)]
    stack = Stack(
      settings: StackSettings(
        mtu: 1500, maxFlows: 1024, unmatched: .drop, drainTimeout: .seconds(30), seed: (1, 2)),
      rules: first, at: now)
  }

  /// - Parameter generation: where rules that change lead.
  package static func rules(
    _ change: Change, _ generation: UInt16, after previous: RuleSet? = nil
  ) -> RuleSet {
    let rules = (0..<ruleCount).map { number in
      ForwardRule(
        name: "rule number \(number) of many", protocols: number % 2 == 0 ? [.tcp, .udp] : .tcp,
        listen: [
          ListenPattern(
            addresses: .prefix(IPPrefix(IPAddress(v4: 0x0A00_0000 + UInt32(number / 100)))),
            ports: PortRange(UInt16(1000 + number % 100)))
        ],
        target: Target(
          host: .address(IPAddress(v4: 0x7F00_0001)),
          port: .fixed(number % change.spacing == 0 ? 1000 + generation : 1000)))
    }
    return RuleSet(rules, after: previous)
  }

  package mutating func install() {
    installed += 1
    install(sets[installed % 2])
  }

  package mutating func install(_ rules: RuleSet) {
    stack.install(rules, unmatched: .drop, drainTimeout: .seconds(30), at: now)
  }

  /// What went wrong, if the worker has not as many slots as rules.
  package func failure() -> String? {
    let live = (0..<UInt32(stack.rules.slotCount)).count { slot in
      stack.rules.rule(slot)?.isRetired == false
    }
    return live == Self.ruleCount && stack.rules.slotCount == live
      ? nil : "\(live) rules in \(stack.rules.slotCount) slots"
  }
}
