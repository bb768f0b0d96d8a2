import SocketTable
import Wire

// The addresses that lead back into the stack's own device.
//
// A device in the daemon's own network namespace receives what the daemon itself sends to the
// prefixes that are routed into it. A target in one of them would be a client of its own rule, whose
// flow dials the target again, and so on until no flow is left. Such a target counts as nowhere. The
// device's own addresses lie within its prefixes and are exempt: the host answers for them. Where the
// device is in another namespace the set is empty.

struct OwnPrefixes {
  private static let own: UInt32 = 0
  private static let exempt: UInt32 = 1
  /// The ports are of no matter: each pattern stands at one.
  private static let port = PortRange(1)

  private let table: PassiveSocketTable

  init(_ prefixes: [IPPrefix], except addresses: [IPAddress]) {
    // Of two that are equally specific the first is kept: an exempt address before the same route.
    let patterns =
      addresses.map { (IPPrefix($0), Self.exempt) } + prefixes.map { ($0, Self.own) }
    table = PassiveSocketTable(
      patterns.map { prefix, kind in
        (
          pattern: ListenPattern(addresses: .prefix(prefix), ports: Self.port), transport: .tcp,
          rule: kind
        )
      })
  }

  func contains(_ address: IPAddress) -> Bool {
    table.rule(for: address, port: Self.port.first, transport: .tcp) == Self.own
  }
}
