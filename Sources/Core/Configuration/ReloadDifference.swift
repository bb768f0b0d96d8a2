// What a reload changes, computed before anything is touched.
//
// Rules are matched by name. Device addresses, routes and MTU follow the file live, as do the
// daemon's log, limits of time and policy; the rest was fixed when the process set itself up, and a
// change of it is named so that the reload can be refused.

import Wire

/// The way from one configuration to another.
package struct ReloadDifference: Sendable, Equatable {
  package struct RuleChange: Sendable, Equatable {
    package let old: ForwardRule
    package let new: ForwardRule
  }

  /// In the order of the new file.
  package let addedRules: [ForwardRule]
  /// In the order of the old file.
  package let removedRules: [ForwardRule]
  /// In the order of the new file.
  package let changedRules: [RuleChange]
  /// In the order of the new file; its rules, which may stand on other lines now.
  package let unchangedRules: [ForwardRule]

  package let addedAddresses: [InterfaceAddress]
  package let removedAddresses: [InterfaceAddress]
  /// Of `Configuration.routedPrefixes`: they follow the rules too.
  package let addedRoutes: [IPPrefix]
  package let removedRoutes: [IPPrefix]
  /// The new MTU when it changes.
  package let mtu: Int?

  /// Daemon keys that changed and follow live, such as "daemon.log".
  package let liveKeys: [String]
  /// Keys that changed and need a restart, such as "device.name"; a reload is refused by them.
  package let restartKeys: [String]

  package init(from old: Configuration, to new: Configuration) {
    let oldRules = Dictionary(old.forwards.map { ($0.name, $0) }) { first, _ in first }
    let newNames = Set(new.forwards.map(\.name))
    addedRules = new.forwards.filter { oldRules[$0.name] == nil }
    removedRules = old.forwards.filter { !newNames.contains($0.name) }
    changedRules = new.forwards.compactMap { rule in
      guard let before = oldRules[rule.name], before != rule else { return nil }
      return RuleChange(old: before, new: rule)
    }
    unchangedRules = new.forwards.filter { oldRules[$0.name] == $0 }

    addedAddresses = Self.missing(new.device.addresses, from: old.device.addresses)
    removedAddresses = Self.missing(old.device.addresses, from: new.device.addresses)
    let oldRoutes = old.routedPrefixes
    let newRoutes = new.routedPrefixes
    addedRoutes = Self.missing(newRoutes, from: oldRoutes)
    removedRoutes = Self.missing(oldRoutes, from: newRoutes)
    mtu = old.device.mtu == new.device.mtu ? nil : new.device.mtu

    liveKeys = Self.changed([
      ("daemon.log", old.daemon.log == new.daemon.log),
      ("daemon.drain_timeout", old.daemon.drainTimeout == new.daemon.drainTimeout),
      ("daemon.unmatched", old.daemon.unmatched == new.daemon.unmatched),
    ])
    restartKeys = Self.changed([
      ("device.name", old.device.name == new.device.name),
      ("device.queues", old.device.queues == new.device.queues),
      ("device.netns", old.device.netns == new.device.netns),
      ("device.offload", old.device.offload == new.device.offload),
      ("device.keep", old.device.keep == new.device.keep),
      ("daemon.control", old.daemon.control == new.daemon.control),
      ("daemon.status", old.daemon.status == new.daemon.status),
      ("daemon.max_flows", old.daemon.maxFlows == new.daemon.maxFlows),
      ("daemon.user", old.daemon.user == new.daemon.user),
    ])
  }

  package var needsRestart: Bool { !restartKeys.isEmpty }

  /// Whether nothing at all is to be done.
  package var isEmpty: Bool {
    addedRules.isEmpty && removedRules.isEmpty && changedRules.isEmpty && addedAddresses.isEmpty
      && removedAddresses.isEmpty && addedRoutes.isEmpty && removedRoutes.isEmpty && mtu == nil
      && liveKeys.isEmpty && restartKeys.isEmpty
  }

  private static func missing<Element: Hashable>(
    _ elements: [Element], from others: [Element]
  ) -> [Element] {
    let known = Set(others)
    return elements.filter { !known.contains($0) }
  }

  private static func changed(_ keys: [(name: String, isSame: Bool)]) -> [String] {
    keys.filter { !$0.isSame }.map(\.name)
  }
}
