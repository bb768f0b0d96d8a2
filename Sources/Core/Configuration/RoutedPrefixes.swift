// Which prefixes must be routed into the device.
//
// An interface address brings its on-link prefix by itself. What is left are the prefixes that the
// file names and those that rules listen on. One that lies within another is left out; siblings are
// not merged, so that removing a rule takes away its route and touches no other.

import Wire

extension Configuration {
  /// The routes to set, none within another or within an on-link prefix; IPv4 first, by address.
  package var routedPrefixes: [IPPrefix] { routedPrefixes(also: []) }

  /// `routedPrefixes` when flows of rules that are gone need some prefixes besides.
  package func routedPrefixes(also others: [IPPrefix]) -> [IPPrefix] {
    let wanted = device.routes + forwards.flatMap(\.listenedPrefixes) + others
    let onLink = device.addresses.map(\.onLinkPrefix)
    let outermost =
      Self.outermost(wanted.filter(\.isIPv4)) + Self.outermost(wanted.filter { !$0.isIPv4 })
    return outermost.filter { prefix in
      !onLink.contains { $0.length <= prefix.length && $0.contains(prefix.address) }
    }
  }

  /// What leads into the device from where targets are dialled: a target in there would be its own
  /// client. Empty with `device.netns`. A default route is left out, for the host's other routes go
  /// before it.
  package func ownPrefixes(also others: [IPPrefix]) -> [IPPrefix] {
    guard device.netns == nil else { return [] }
    let all =
      device.addresses.map(\.onLinkPrefix) + device.routes
      + forwards.flatMap(\.listenedPrefixes) + others
    let some = all.filter { $0.textLength > 0 }
    return Self.outermost(some.filter(\.isIPv4)) + Self.outermost(some.filter { !$0.isIPv4 })
  }

  /// Prefixes of one family that lie in no other: sorted by address and then length, each follows
  /// what it lies in.
  private static func outermost(_ prefixes: [IPPrefix]) -> [IPPrefix] {
    let sorted = prefixes.sorted { a, b in
      (a.address.high, a.address.low, a.length) < (b.address.high, b.address.low, b.length)
    }
    var result: [IPPrefix] = []
    for prefix in sorted {
      if let last = result.last, last.contains(prefix.address) { continue }
      result.append(prefix)
    }
    return result
  }
}

extension ForwardRule {
  /// The prefixes that it listens on; `*` is none.
  package var listenedPrefixes: [IPPrefix] {
    listen.compactMap { pattern in
      guard case .prefix(let prefix) = pattern.addresses else { return nil }
      return prefix
    }
  }
}
