import Configuration
import Kernel
import Primitives
import Stack
import Steering
import Wire

// What a worker and the rest of the daemon say to each other: values, and rules, which nobody writes.

/// One worker among several.
package struct WorkerPlace: Sendable {
  package var steering: Steering
  /// 0..<steering.workers
  package var number: Int
  /// Of all workers, by number.
  package var handOvers: [HandOver]

  package init(steering: Steering, number: Int, handOvers: [HandOver]) {
    self.steering = steering
    self.number = number
    self.handOvers = handOvers
  }
}

/// What a worker needs to know before it runs.
package struct WorkerSettings: Sendable {
  package var mtu: Int
  package var maxFlows: Int
  package var unmatched: UnmatchedPolicy
  package var drainTimeout: Interval
  /// Secrets of hashes, cookies and sequence numbers, from the kernel's entropy; the same for all workers.
  package var seed: (UInt64, UInt64)
  /// What is routed into the device from the worker's own network namespace, and refused as a
  /// target: it would dial itself.
  package var ownPrefixes: [IPPrefix]
  /// The device's own addresses, which may be targets all the same; the broadcast addresses of their
  /// networks are nobody's.
  package var ownAddresses: [InterfaceAddress]
  /// How many workers there are and which one this is; nil for the only one.
  package var place: WorkerPlace?
  /// Called on the worker's thread, ten times a second at most, when the device has more packets than a
  /// turn takes: its queue may overflow. The callee must not wait.
  package var fallsBehind: (@Sendable () -> Void)?

  package init(
    mtu: Int, maxFlows: Int, unmatched: UnmatchedPolicy, drainTimeout: Interval,
    seed: (UInt64, UInt64), ownPrefixes: [IPPrefix] = [], ownAddresses: [InterfaceAddress] = [],
    place: WorkerPlace? = nil, fallsBehind: (@Sendable () -> Void)? = nil
  ) {
    self.mtu = mtu
    self.maxFlows = maxFlows
    self.unmatched = unmatched
    self.drainTimeout = drainTimeout
    self.seed = seed
    self.ownPrefixes = ownPrefixes
    self.ownAddresses = ownAddresses
    self.place = place
    self.fallsBehind = fallsBehind
  }
}

package enum WorkerMessage: Sendable {
  /// New rules, all at once. The sender keeps the rules before them until the worker has taken these,
  /// which `reached` tells: a worker is not to free them.
  case install(RuleSet, unmatched: UnmatchedPolicy, drainTimeout: Interval)
  /// A host name's newest answer.
  case resolved(name: String, addresses: [IPAddress])
  case mtu(Int)
  /// The device's queue had no room for packets of clients.
  case deviceOverflowed
  /// Replaces `WorkerSettings.ownPrefixes` and `ownAddresses`.
  case ownPrefixes([IPPrefix], addresses: [InterfaceAddress])
  /// Calls back once with what is going on, on the worker's thread, or with nil when this worker will
  /// not tell; the callee must not wait.
  case snapshot(@Sendable (WorkerSnapshot?) -> Void)
  /// Calls back once, on the worker's thread, when it has taken the messages before this one and holds
  /// nothing of them; or when nobody reads any more. The callee must not wait.
  case reached(@Sendable () -> Void)
  /// End all flows and return.
  case stop
}

/// Why a worker ended that was not told to.
package enum WorkerFailure: Error, Sendable, Equatable {
  /// The device was deleted or broke; nil where the kernel named no error.
  case device(SystemError?)
  /// There was no waiting for the next event.
  case waiting(SystemError)
}

package struct WorkerSnapshot: Sendable {
  /// Flows that a snapshot lists at most.
  package static let flowsMax = 1000

  package var flowCount: Int
  /// The newest flows.
  package var flows: [FlowSummary]
  package var rules: [RuleSummary]
  package var counters: [CounterSample]
  package var drops: [DropSample]

  package init(
    flowCount: Int, flows: [FlowSummary], rules: [RuleSummary], counters: [CounterSample],
    drops: [DropSample]
  ) {
    self.flowCount = flowCount
    self.flows = flows
    self.rules = rules
    self.counters = counters
    self.drops = drops
  }
}

package struct FlowSummary: Sendable {
  package var tuple: FiveTuple
  /// Where it lives: 0 for the first.
  package var worker: Int
  package var rule: String
  package var target: String
  package var state: String
  package var octetsUp: UInt64
  package var octetsDown: UInt64
  package var age: Interval
  package var idle: Interval

  package init(
    tuple: FiveTuple, worker: Int = 0, rule: String, target: String, state: String,
    octetsUp: UInt64, octetsDown: UInt64, age: Interval, idle: Interval
  ) {
    self.tuple = tuple
    self.worker = worker
    self.rule = rule
    self.target = target
    self.state = state
    self.octetsUp = octetsUp
    self.octetsDown = octetsDown
    self.age = age
    self.idle = idle
  }
}

package struct RuleSummary: Sendable {
  /// What it says is put into words by whoever asked, not by the worker.
  private let rule: SharedRule
  package var name: String { rule.rule.name }
  package var listen: String { rule.rule.listenText }
  package var target: String { rule.rule.targetText }
  package var activeFlows: Int
  package var acceptedTotal: UInt64
  package var refusedTotal: UInt64
  package var octetsUp: UInt64
  package var octetsDown: UInt64
  /// Removed or changed by a reload, and kept for the flows that it still has.
  package var retired: Bool

  package init(
    _ rule: SharedRule, activeFlows: Int, acceptedTotal: UInt64, refusedTotal: UInt64,
    octetsUp: UInt64, octetsDown: UInt64, retired: Bool
  ) {
    self.rule = rule
    self.activeFlows = activeFlows
    self.acceptedTotal = acceptedTotal
    self.refusedTotal = refusedTotal
    self.octetsUp = octetsUp
    self.octetsDown = octetsDown
    self.retired = retired
  }
}

package struct CounterSample: Sendable {
  package var name: String
  package var help: String
  package var value: UInt64

  package init(name: String, help: String, value: UInt64) {
    self.name = name
    self.help = help
    self.value = value
  }
}

package struct DropSample: Sendable {
  package var reason: String
  /// One clause for people.
  package var explanation: String
  package var value: UInt64

  package init(reason: String, explanation: String, value: UInt64) {
    self.reason = reason
    self.explanation = explanation
    self.value = value
  }
}
