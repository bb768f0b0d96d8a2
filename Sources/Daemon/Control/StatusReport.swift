// What the daemon says about itself: the one model behind the page, the metrics and the JSON.
//
// A report is taken at one moment from every worker and from the supervisor, and then only read.
// Several workers' numbers are joined here: counters and drops by name, rules by what is said of them
// (a reload can keep a retired rule beside its successor of the same name), and by name alone as far as
// metrics are concerned, which may not repeat their labels. Flows are listed newest first.

import Primitives
import Wire
import Worker

package struct StatusReport: Sendable {
  /// Facts that hold from start to end.
  package struct Identity: Sendable {
    package var version: String
    package var device: String
    package var flowCountMax: Int
    /// Seconds since 1970-01-01T00:00:00Z.
    package var startedAt: Int64

    package init(version: String, device: String, flowCountMax: Int, startedAt: Int64) {
      self.version = version
      self.device = device
      self.flowCountMax = flowCountMax
      self.startedAt = startedAt
    }
  }

  /// What became of the SIGHUPs so far.
  package struct Reloads: Sendable {
    package var applied: UInt64 = 0
    package var refused: UInt64 = 0
    /// Whether the newest reload was refused: the file on disk is not what runs.
    package var lastWasRefused = false

    package init() {}
  }

  package var identity: Identity
  package var uptime: Interval
  package var reloads: Reloads
  /// Host names of targets that have no address at present.
  package var unresolvedNames: [String]
  package var workers: [WorkerSnapshot]
  /// Packets that the kernel dropped since the device's queue was full; nil when it does not tell.
  package var droppedPackets: UInt64?

  package init(
    identity: Identity, uptime: Interval, reloads: Reloads, unresolvedNames: [String],
    workers: [WorkerSnapshot], droppedPackets: UInt64? = nil
  ) {
    self.identity = identity
    self.uptime = uptime
    self.reloads = reloads
    self.unresolvedNames = unresolvedNames
    self.workers = workers
    self.droppedPackets = droppedPackets
  }
}

extension StatusReport {
  struct Counter: Sendable {
    var name: String
    var help: String
    var value: UInt64
  }

  /// All rules of one name, for metrics.
  struct RuleTotal: Sendable {
    var name: String
    var activeFlows = 0
    var accepted: UInt64 = 0
    var refused: UInt64 = 0
    var octetsUp: UInt64 = 0
    var octetsDown: UInt64 = 0
  }

  var flowCount: Int { workers.reduce(0) { $0 + $1.flowCount } }

  /// The newest flows of all workers, as many as a snapshot lists.
  var flows: [FlowSummary] {
    guard workers.count > 1 else { return workers.first?.flows ?? [] }
    let all = workers.flatMap(\.flows).sorted { $0.age < $1.age }
    return Array(all.prefix(WorkerSnapshot.flowsMax))
  }

  /// Rules in the first worker's order, those that only others still have behind them; their numbers
  /// summed.
  var rules: [RuleSummary] {
    guard workers.count > 1 else { return workers.first?.rules ?? [] }
    var sums: [RuleSummary] = []
    var places: [[String]: Int] = [:]
    for worker in workers {
      for rule in worker.rules {
        let key = [rule.name, rule.listen, rule.target, rule.retired ? "retired" : ""]
        if let place = places[key] {
          sums[place].add(rule)
        } else {
          places[key] = sums.count
          sums.append(rule)
        }
      }
    }
    return sums
  }

  /// Counters in the workers' order, summed over workers.
  var counters: [Counter] {
    var sums: [Counter] = []
    var places: [String: Int] = [:]
    for sample in workers.flatMap(\.counters) {
      if let place = places[sample.name] {
        sums[place].value &+= sample.value
      } else {
        places[sample.name] = sums.count
        sums.append(Counter(name: sample.name, help: sample.help, value: sample.value))
      }
    }
    return sums
  }

  /// Drops in the workers' order, summed over workers; reasons that never occurred included.
  var drops: [DropSample] {
    var sums: [DropSample] = []
    var places: [String: Int] = [:]
    for sample in workers.flatMap(\.drops) {
      if let place = places[sample.reason] {
        sums[place].value &+= sample.value
      } else {
        places[sample.reason] = sums.count
        sums.append(sample)
      }
    }
    if let droppedPackets, let place = places[DropReason.deviceQueueFull.word] {
      sums[place].value = droppedPackets
    }
    return sums
  }

  var ruleTotals: [RuleTotal] {
    var totals: [RuleTotal] = []
    var places: [String: Int] = [:]
    for rule in rules {
      let place = places[rule.name] ?? totals.count
      if place == totals.count {
        places[rule.name] = place
        totals.append(RuleTotal(name: rule.name))
      }
      totals[place].activeFlows += rule.activeFlows
      totals[place].accepted &+= rule.acceptedTotal
      totals[place].refused &+= rule.refusedTotal
      totals[place].octetsUp &+= rule.octetsUp
      totals[place].octetsDown &+= rule.octetsDown
    }
    return totals
  }
}

extension RuleSummary {
  fileprivate mutating func add(_ other: RuleSummary) {
    activeFlows += other.activeFlows
    acceptedTotal &+= other.acceptedTotal
    refusedTotal &+= other.refusedTotal
    octetsUp &+= other.octetsUp
    octetsDown &+= other.octetsDown
  }
}
