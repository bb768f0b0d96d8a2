// What a rule listens on: addresses by pattern, ports by range.
//
// A pattern costs the same whether it spans one port or all of them. Specificity, and with it which
// of two overlapping patterns wins, is the socket table's matter; reading patterns from text is the
// configuration's.

/// The virtual addresses that a passive socket stands for.
package enum AddressPattern: Hashable, Sendable {
  /// Every address of both families.
  case any
  /// The addresses of a network; a full-length prefix is a single address.
  case prefix(IPPrefix)

  package func contains(_ address: IPAddress) -> Bool {
    switch self {
    case .any: true
    case .prefix(let prefix): prefix.contains(address)
    }
  }
}

/// A run of ports, both ends included.
package struct PortRange: Hashable, Sendable, BitwiseCopyable {
  package let first: UInt16
  package let last: UInt16

  /// 1...65535.
  package static let all = PortRange(first: 1, last: .max)

  /// - Precondition: 1 ≤ `first` ≤ `last`.
  package init(first: UInt16, last: UInt16) {
    precondition(first >= 1 && first <= last, "port range")
    self.first = first
    self.last = last
  }

  package init(_ port: UInt16) { self.init(first: port, last: port) }

  /// Ports in the range.
  package var count: Int { Int(last) - Int(first) + 1 }

  @inlinable package func contains(_ port: UInt16) -> Bool { port >= first && port <= last }
}

/// Addresses and ports that a passive socket stands for.
package struct ListenPattern: Hashable, Sendable {
  package var addresses: AddressPattern
  package var ports: PortRange

  package init(addresses: AddressPattern, ports: PortRange) {
    self.addresses = addresses
    self.ports = ports
  }

  package func matches(_ address: IPAddress, port: UInt16) -> Bool {
    addresses.contains(address) && ports.contains(port)
  }
}

extension AddressPattern: CustomStringConvertible {
  /// "*", "10.0.0.1" or "10.0.0.0/8".
  package var description: String {
    switch self {
    case .any: "*"
    case .prefix(let prefix): prefix.length == 128 ? "\(prefix.address)" : "\(prefix)"
    }
  }
}

extension PortRange: CustomStringConvertible {
  /// "*", "80" or "8000-8099".
  package var description: String {
    if self == .all { return "*" }
    return first == last ? "\(first)" : "\(first)-\(last)"
  }
}

extension ListenPattern: CustomStringConvertible {
  /// As a configuration file has it: "10.0.0.1:80", "[fd00::/64]:*", "*:443".
  package var description: String {
    if case .prefix(let prefix) = addresses, !prefix.isIPv4 { return "[\(addresses)]:\(ports)" }
    return "\(addresses):\(ports)"
  }
}
