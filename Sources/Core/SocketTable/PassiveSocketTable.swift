// Which rule a port belongs to: every passive socket, by address and port.
//
// The most specific wins: an exact address before the longest prefix before any; within that an exact
// port before the narrowest range before all. Where the more specific address has no rule for the
// port, the next less specific one is asked. IPv4 and IPv6 do not mix but in the pattern "any".
//
// Per protocol and family there is one hash table for each prefix length in use, longest first. A
// table is a row of groups of eight: one word of tags, a byte of hash each, and eight entries of half
// a cache line. A miss reads a word of tags per length and no entry; a hit reads one entry, which
// holds the rule itself unless several share the address, and else names a run of `PortSet`. Neither
// depends on how many ports a rule spans or how many rules there are, but for what the cache holds.
//
// Built once and immutable; a reload builds another. What the table does not do: it refuses no
// configuration. Of two entries of equal specificity the first is kept.

import Wire

/// The rules' standing at virtual addresses and ports; copies share one memory, across workers too.
package struct PassiveSocketTable: Sendable {
  /// Where a rule stands. `rule` is any number but `UInt32.max`.
  package typealias Entry = (pattern: ListenPattern, transport: TransportProtocol, rule: UInt32)

  private let storage: PassiveSocketStorage

  /// - Parameter entries: at most 2^28; O(n log n).
  package init(_ entries: [Entry]) { storage = PassiveSocketStorage(entries) }

  /// The rule that a client at this port meets; nil when there is none.
  package func rule(
    for address: IPAddress, port: UInt16, transport: TransportProtocol
  ) -> UInt32? {
    let rule = storage.rule(for: address, port: port, transport: transport)
    return rule == noRule ? nil : rule
  }

  /// Whether any rule of any protocol and port stands at the address.
  package func covers(_ address: IPAddress) -> Bool {
    storage.covers(address, transport: .tcp) || storage.covers(address, transport: .udp)
  }
}
