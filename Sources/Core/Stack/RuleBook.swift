import Configuration
import Primitives
import SocketTable
import Wire

// The rules as a worker sees them, old ones included.
//
// Each rule stands in a slot; the socket table leads from address and port to the slot, and a flow
// remembers it. A reload keeps the slot of a rule that has not changed. A rule that was removed or
// changed is retired: no port leads to it any more, and its slot goes when its last flow has gone. Per
// rule and packet only `figures` is touched, which is plain memory; names and patterns are looked at
// when a flow begins.

/// What is counted and bounded per rule.
package struct RuleFigures: BitwiseCopyable, Sendable {
  /// Flows of the rule, those in TIME-WAIT included.
  var held = 0
  /// Flows of the rule that rest in TIME-WAIT.
  var resting = 0
  package var active: Int { held - resting }
  package var acceptedTotal: UInt64 = 0
  package var refusedTotal: UInt64 = 0
  package var octetsUp: UInt64 = 0
  package var octetsDown: UInt64 = 0
  var connectTimeout: Interval
  var idleTimeout: Interval
  var udpTimeout: Interval
  var activeMax: Int
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
  private(set) var table = PassiveSocketTable([])
  private let figuresBase: UnsafeMutablePointer<RuleFigures>
  /// Rules at once, retired ones included.
  package static let rulesMax = 65_536
  private var names: [String: [IPAddress]] = [:]

  init() {
    figuresBase = .allocate(capacity: Self.rulesMax)
  }

  deinit { figuresBase.deallocate() }

  package func figures(_ slot: UInt32) -> UnsafeMutablePointer<RuleFigures> {
    precondition(Int(slot) < entries.count, "rule slot")
    return figuresBase + Int(slot)
  }

  /// Takes a new set of rules.
  /// - Returns: slots whose flows are to be cut now.
  mutating func install(
    _ rules: [ForwardRule], drainTimeout: Interval, at now: MonotonicInstant
  ) -> [UInt32] {
    var keep: [String: UInt32] = [:]
    for (slot, entry) in entries.enumerated() {
      if let entry, !entry.retired { keep[entry.rule.name] = UInt32(slot) }
    }
    var patterns: [PassiveSocketTable.Entry] = []
    var cut: [UInt32] = []
    var live = Set<UInt32>()
    for rule in rules {
      let slot: UInt32
      if let old = keep[rule.name], entries[Int(old)]?.rule == rule {
        slot = old
        entries[Int(old)]?.rule.line = rule.line
      } else {
        guard let fresh = open(rule) else { continue }
        slot = fresh
      }
      live.insert(slot)
      for pattern in rule.listen {
        for transport in rule.protocols.transports {
          patterns.append((pattern: pattern, transport: transport, rule: slot))
        }
      }
    }
    for (index, entry) in entries.enumerated() {
      let slot = UInt32(index)
      guard let entry, !entry.retired, !live.contains(slot) else { continue }
      entries[index]?.retired = true
      switch entry.rule.onReload {
      case .keep: break
      case .drain: entries[index]?.cutAt = now + drainTimeout
      case .reset: cut.append(slot)
      }
      collect(slot)
    }
    table = PassiveSocketTable(patterns)
    noteNextCut()
    return cut
  }

  private mutating func open(_ rule: ForwardRule) -> UInt32? {
    var entry = Entry(rule: rule)
    if case .name(let name) = rule.target.host { entry.resolved = names[name] ?? [] }
    let slot: Int
    if let free = entries.firstIndex(where: { $0 == nil }) {
      slot = free
      entries[free] = entry
    } else {
      guard entries.count < Self.rulesMax else { return nil }
      slot = entries.count
      entries.append(entry)
    }
    (figuresBase + slot).initialize(
      to: RuleFigures(
        connectTimeout: rule.connectTimeout, idleTimeout: rule.idleTimeout,
        udpTimeout: rule.udpTimeout, activeMax: rule.maxConnections ?? .max))
    return UInt32(slot)
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

  /// A flow of the rule ended.
  mutating func flowEnded(_ slot: UInt32) {
    figures(slot).pointee.held -= 1
    collect(slot)
  }

  private mutating func collect(_ slot: UInt32) {
    guard let entry = entries[Int(slot)], entry.retired, figures(slot).pointee.held == 0 else {
      return
    }
    entries[Int(slot)] = nil
    if entry.cutAt != nil { noteNextCut() }
  }

  /// When the next retired rule's flows are to be cut; asked every turn.
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
