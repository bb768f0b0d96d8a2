import Balancing
import Configuration
import Primitives
import SocketTable
import TCP
import Wire

// The rules of one load, made once and then read by every worker.
//
// Whoever loads rules makes the set, on no worker's thread: the socket table, what its numbers mean,
// and what a worker's slot takes from each rule, all of it plain memory in the order of the
// configuration. A worker has only to find which of its slots stay (`RuleBook`). For that a rule that a
// reload leaves as it is goes on as the same object, `SharedRule`; any set can follow any other, for
// rules are the same if they are one object, whatever sets came between. The set lists its rules by
// where their objects lie, so that two sets are compared in one walk over both.
//
// Memory: a set holds its rules, and a worker the set that it has now; of older sets a worker holds only
// the rules that still have flows. To free a set of many rules takes milliseconds: whoever made it
// keeps it until every worker has taken the next one.

/// A rule, for as long as reloads leave it as it is. Nothing of it is written but its count.
package final class SharedRule: @unchecked Sendable {
  package let rule: ForwardRule
  /// Flows on all workers together; nil where there is one worker only, or no bound.
  package let count: SharedCount?
  /// The rule's name in UTF-8, which is read without counting references.
  let name: UnsafeRawBufferPointer

  package init(_ rule: ForwardRule, isShared: Bool = false) {
    self.rule = rule
    count = isShared && rule.maxConnections != nil ? SharedCount() : nil
    let octets = Array(rule.name.utf8)
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: max(1, octets.count), alignment: 1)
    memory.copyBytes(from: octets)
    name = UnsafeRawBufferPointer(rebasing: memory[..<octets.count])
  }

  deinit {
    UnsafeMutableRawPointer(mutating: name.baseAddress)?.deallocate()
    count?.deallocate()
  }
}

/// What a worker's slot takes from a rule.
struct RuleTerms: BitwiseCopyable {
  enum Policy: BitwiseCopyable { case keep, drain, reset }

  /// Held by the set.
  var rule: Unmanaged<SharedRule>
  var target: TargetChoice
  /// Its host name among the set's; `noHost`: it has none.
  var host: UInt32
  var count: SharedCount?
  var name: UnsafeRawBufferPointer
  /// Half-open flows are those on all workers together.
  var bounds: RuleBounds
  var onReload: Policy

  init(_ shared: SharedRule, host: UInt32) {
    let rule = shared.rule
    self.rule = .passUnretained(shared)
    self.host = host
    target = TargetChoice(rule.target)
    count = shared.count
    name = shared.name
    bounds = RuleBounds(rule)
    onReload =
      switch rule.onReload {
      case .keep: .keep
      case .drain: .drain
      case .reset: .reset
      }
  }
}

let noHost = UInt32.max

/// Unchecked, since its memory is plain pointers: it is written before `init` returns, and never again.
package final class RuleSet: @unchecked Sendable {
  /// What a number of the table means: one for each pattern of each rule.
  struct Pattern: BitwiseCopyable {
    /// By the order of the configuration.
    var rule: UInt32
    var ports: PortRange
  }

  /// A rule by where its object lies.
  struct Place: BitwiseCopyable {
    var address: UInt
    var rule: UInt32
  }

  /// In the order of the configuration.
  package let rules: [SharedRule]
  /// The host names that they lead to, each once.
  let hosts: [String]
  let table: PassiveSocketTable
  let patterns: UnsafeMutablePointer<Pattern>
  /// For each rule.
  let terms: UnsafeMutablePointer<RuleTerms>
  /// For each rule, in the order of addresses.
  let places: UnsafeMutablePointer<Place>

  package var count: Int { rules.count }

  /// - Parameters:
  ///   - newRules: at most `Configuration.forwardCountMax`.
  ///   - previous: rules that it has too are the same from then on: they keep their flows and counts.
  ///   - isShared: several workers count the flows of bounded rules together.
  package init(
    _ newRules: [ForwardRule], after previous: RuleSet? = nil, isShared: Bool = false
  ) {
    precondition(newRules.count <= Configuration.forwardCountMax, "rule count")
    rules = Self.shared(newRules, with: previous, isShared: isShared)

    var hostNumbers: [String: UInt32] = [:]
    var hosts: [String] = []
    var entries: [PassiveSocketTable.Entry] = []
    var patterns: [Pattern] = []
    terms = .allocate(capacity: max(1, newRules.count))
    places = .allocate(capacity: max(1, newRules.count))
    for (index, rule) in newRules.enumerated() {
      var host = noHost
      if case .name(let name) = rule.target.host {
        host = hostNumbers[name] ?? UInt32(hosts.count)
        if host == hosts.count {
          hostNumbers[name] = host
          hosts.append(name)
        }
      }
      (terms + index).initialize(to: RuleTerms(rules[index], host: host))
      let address = UInt(bitPattern: Unmanaged.passUnretained(rules[index]).toOpaque())
      (places + index).initialize(to: Place(address: address, rule: UInt32(index)))
      for pattern in rule.listen {
        let number = UInt32(patterns.count)
        patterns.append(Pattern(rule: UInt32(index), ports: pattern.ports))
        for transport in rule.protocols.transports {
          entries.append((pattern: pattern, transport: transport, rule: number))
        }
      }
    }
    var sorted = UnsafeMutableBufferPointer(start: places, count: newRules.count)
    sorted.sort { $0.address < $1.address }
    self.hosts = hosts
    self.patterns = .allocate(capacity: max(1, patterns.count))
    self.patterns.initialize(from: patterns, count: patterns.count)
    table = PassiveSocketTable(entries)
  }

  deinit {
    patterns.deallocate()
    terms.deallocate()
    places.deallocate()
  }

  /// The rules as objects: those that the previous set has too, each once, and new ones.
  private static func shared(
    _ newRules: [ForwardRule], with previous: RuleSet?, isShared: Bool
  ) -> [SharedRule] {
    var known: [String: SharedRule] = [:]
    for shared in previous?.rules ?? [] { known[shared.rule.name] = shared }
    return newRules.map { rule in
      guard let shared = known[rule.name], shared.rule == rule else {
        return SharedRule(rule, isShared: isShared)
      }
      known[rule.name] = nil
      return shared
    }
  }
}
