// What rtnetlink tells about links, addresses and routes, as values.

import Wire

/// A network interface.
package struct Link: Equatable, Sendable {
  /// Its number in its namespace.
  package var index: Int
  package var name: String
  /// "tun", "veth", "bridge"; empty for hardware and loopback.
  package var kind: String
  package var isUp: Bool
  package var mtu: Int
  /// Packets that wait for the reader of a TUN.
  package var queueLength: Int
}

/// An address on a link.
package struct LinkAddress: Equatable, Sendable {
  package var address: IPAddress
  /// Bits of the on-link prefix, over sixteen octets: an IPv4 /24 has 120.
  package var length: Int
  package var interfaceIndex: Int

  /// The network that the address makes reachable on its link.
  package var prefix: IPPrefix { IPPrefix(address, length: length) }
}

/// A unicast route of the main table.
package struct Route: Equatable, Sendable {
  package var prefix: IPPrefix
  /// 0 when it leads through several links.
  package var interfaceIndex: Int
  /// Smaller wins.
  package var metric: Int
}
