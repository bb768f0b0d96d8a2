import Configuration
import Primitives
import SocketTable
import TCP
import Wire

// The rules as a worker sees them, old ones included.
//
// Each rule stands in a slot; the socket table leads from address and port to the slot, and a flow
// remembers it. A reload keeps the slot of a rule that has not changed. A rule that was removed or
// changed is retired: no port leads to it any more, and its slot goes when its last flow has gone. So
// there are never more rules than a configuration may have and flows together, and a new rule always
// finds a slot. Per rule and packet only `figures` is touched, which is plain memory; names and
// patterns are looked at when a flow begins.

/// What is counted and bounded per rule.
package struct RuleFigures: BitwiseCopyable, Sendable {
  /// Flows of the rule, those in TIME-WAIT included.
  var held = 0
  /// Flows of the rule that rest in TIME-WAIT.
  var resting = 0
  package var active: Int { held - resting }
  /// Flows whose client has not answered yet.
  package var halfOpen = 0
  package var acceptedTotal: UInt64 = 0
  package var refusedTotal: UInt64 = 0
  package var octetsUp: UInt64 = 0
  package var octetsDown: UInt64 = 0
  var connectTimeout: Interval
  var idleTimeout: Interval
  var udpTimeout: Interval
  /// Zero: off.
  var keepalive: Interval
  var activeMax: Int
  var halfOpenMax: Int
  var congestion: CongestionControl.Algorithm
}

/// What an address and a port lead to.
struct PassiveSocket: BitwiseCopyable {
  var rule: UInt32
  /// Of the most specific pattern that matched.
  var ports: PortRange
}

package struct RuleBook: ~Copyable {
  package struct Entry {
    package var rule: ForwardRule
    package var resolved: [IPAddress] = []
    package var retired = false
    /// When flows of a retired rule are cut.
    var cutAt: MonotonicInstant?
  }

  package private(set) var entries: [Entry?] = []
  /// By slot: the flows of a bounded rule on all workers together; nil where this worker is the only
  /// one, or the rule has no bound.
  private var shared: [(any SharedCount)?] = []
  private(set) var table = PassiveSocketTable([])
  /// What the table's numbers mean: one for each pattern of each rule.
  private var sockets: [PassiveSocket] = []
  /// Slots without a rule.
  private var vacant: [UInt32] = []
  private let figuresBase: UnsafeMutablePointer<RuleFigures>
  /// Rules at once, retired ones included.
  private let rulesMax: Int
  /// Workers among which a rule's half-open flows are divided.
  private let workers: Int
  private var names: [String: [IPAddress]] = [:]

  /// - Parameters:
  ///   - flowsMax: flows at a time, each of which may keep one retired rule.
  ///   - workers: how many there are, this one included.
  init(flowsMax: Int, workers: Int = 1) {
    self.workers = workers
    rulesMax = Configuration.forwardCountMax + flowsMax
    figuresBase = .allocate(capacity: rulesMax)
  }

  deinit { figuresBase.deallocate() }

  package func figures(_ slot: UInt32) -> UnsafeMutablePointer<RuleFigures> {
    precondition(Int(slot) < entries.count, "rule slot")
    return figuresBase + Int(slot)
  }

  /// The rule that a client meets, and by which of its port ranges.
  func passiveSocket(for tuple: FiveTuple) -> PassiveSocket? {
    table.rule(for: tuple.virtual, port: tuple.virtualPort, transport: tuple.transport)
      .map { sockets[Int($0)] }
  }

  /// Takes a new set of rules, at most `Configuration.forwardCountMax`.
  /// - Parameter counts: what all workers count together, one for each rule, or empty; a rule that has
  ///   not changed keeps its own.
  /// - Returns: slots whose flows are to be cut now.
  mutating func install(
    _ rules: [ForwardRule], counts: [(any SharedCount)?] = [], drainTimeout: Interval,
    at now: MonotonicInstant
  ) -> [UInt32] {
    precondition(rules.count <= Configuration.forwardCountMax, "rule count")
    precondition(counts.isEmpty || counts.count == rules.count, "a count for each rule")
    let kept = unchanged(rules)
    let cut = retireAll(but: Set(kept.compactMap(\.self)), drainTimeout: drainTimeout, at: now)
    var patterns: [PassiveSocketTable.Entry] = []
    sockets.removeAll()
    for (number, (rule, known)) in zip(rules, kept).enumerated() {
      let slot = known ?? open(rule, counts.isEmpty ? nil : counts[number])
      entries[Int(slot)]?.rule.line = rule.line
      for pattern in rule.listen {
        let number = UInt32(sockets.count)
        sockets.append(PassiveSocket(rule: slot, ports: pattern.ports))
        for transport in rule.protocols.transports {
          patterns.append((pattern: pattern, transport: transport, rule: number))
        }
      }
    }
    table = PassiveSocketTable(patterns)
    noteNextCut()
    return cut
  }

  /// For each rule the slot where it already stands.
  private func unchanged(_ rules: [ForwardRule]) -> [UInt32?] {
    var slots: [String: UInt32] = [:]
    for (slot, entry) in entries.enumerated() {
      if let entry, !entry.retired { slots[entry.rule.name] = UInt32(slot) }
    }
    return rules.map { rule in
      guard let slot = slots[rule.name], entries[Int(slot)]?.rule == rule else { return nil }
      return slot
    }
  }

  /// Retires every rule but those that stay; the slots of those without flows are vacant at once.
  /// - Returns: slots whose flows are to be cut now.
  private mutating func retireAll(
    but live: Set<UInt32>, drainTimeout: Interval, at now: MonotonicInstant
  ) -> [UInt32] {
    var cut: [UInt32] = []
    for (index, entry) in entries.enumerated() {
      let slot = UInt32(index)
      guard let entry, !entry.retired, !live.contains(slot) else { continue }
      entries[index]?.retired = true
      guard !collect(slot) else { continue }
      switch entry.rule.onReload {
      case .keep: break
      case .drain: entries[index]?.cutAt = now + drainTimeout
      case .reset: cut.append(slot)
      }
    }
    return cut
  }

  private mutating func open(_ rule: ForwardRule, _ count: (any SharedCount)?) -> UInt32 {
    var entry = Entry(rule: rule)
    if case .name(let name) = rule.target.host { entry.resolved = names[name] ?? [] }
    let slot: UInt32
    if let free = vacant.popLast() {
      slot = free
      entries[Int(free)] = entry
      shared[Int(free)] = count
    } else {
      slot = UInt32(entries.count)
      entries.append(entry)
      shared.append(count)
      precondition(entries.count <= rulesMax, "a retired rule has flows")
    }
    (figuresBase + Int(slot)).initialize(
      to: RuleFigures(
        connectTimeout: rule.connectTimeout, idleTimeout: rule.idleTimeout,
        udpTimeout: rule.udpTimeout, keepalive: rule.keepalive ?? .zero,
        activeMax: rule.maxConnections ?? .max,
        halfOpenMax: max(1, rule.maxHalfOpen / workers),
        congestion: CongestionControl.Algorithm(rule.congestion)))
    return slot
  }

  /// A host name's newest answer.
  mutating func resolved(_ name: String, _ addresses: [IPAddress]) {
    names[name] = addresses
    for index in entries.indices {
      if case .name(name)? = entries[index]?.rule.target.host {
        entries[index]?.resolved = addresses
      }
    }
  }

  /// Whether the rule has as many flows as it may have, on all workers together.
  func isFull(_ slot: UInt32) -> Bool {
    let figures = figures(slot).pointee
    guard figures.activeMax != .max else { return false }
    return (shared[Int(slot)]?.value ?? figures.active) >= figures.activeMax
  }

  /// A flow of the rule begins.
  /// - Returns: false when it may not: another worker's flow took the last place since `isFull`.
  func flowBegins(_ slot: UInt32) -> Bool {
    let figures = figures(slot)
    if let count = shared[Int(slot)], !count.add(within: figures.pointee.activeMax) { return false }
    figures.pointee.held += 1
    figures.pointee.acceptedTotal += 1
    return true
  }

  /// A flow of the rule went to rest in TIME-WAIT, where it does not count. Out of line: what every
  /// segment passes counts no references.
  @inline(never) func flowRests(_ slot: UInt32) {
    figures(slot).pointee.resting += 1
    shared[Int(slot)]?.subtract()
  }

  /// A flow rests no more: it ends next.
  func flowLeavesRest(_ slot: UInt32) {
    figures(slot).pointee.resting -= 1
    shared[Int(slot)]?.add()
  }

  /// A flow of the rule ended.
  mutating func flowEnded(_ slot: UInt32) {
    figures(slot).pointee.held -= 1
    shared[Int(slot)]?.subtract()
    collect(slot)
  }

  /// Vacates the slot of a retired rule without flows. False when it must stay.
  @discardableResult
  private mutating func collect(_ slot: UInt32) -> Bool {
    guard let entry = entries[Int(slot)], entry.retired, figures(slot).pointee.held == 0 else {
      return false
    }
    entries[Int(slot)] = nil
    shared[Int(slot)] = nil
    vacant.append(slot)
    return true
  }

  /// When the next retired rule's flows are to be cut; asked every turn. Early when that rule has
  /// gone by itself: looking at all rules whenever one goes would cost more.
  private(set) var nextCut: MonotonicInstant?

  private mutating func noteNextCut() {
    nextCut = entries.lazy.compactMap { $0?.cutAt }.min()
  }

  /// The rules whose flows are to be cut now.
  mutating func dueCuts(at now: MonotonicInstant) -> [UInt32] {
    var due: [UInt32] = []
    for index in entries.indices {
      if let cutAt = entries[index]?.cutAt, cutAt <= now {
        entries[index]?.cutAt = nil
        due.append(UInt32(index))
      }
    }
    noteNextCut()
    return due
  }
}

extension CongestionControl.Algorithm {
  init(_ algorithm: CongestionAlgorithm) {
    switch algorithm {
    case .cubic: self = .cubic
    case .newReno: self = .newReno
    }
  }
}
