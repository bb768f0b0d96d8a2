// One rule: what it listens on, where it leads, within which limits.
//
// Rules are identified by name across reloads. The text of patterns and targets is canonical: it is
// what logs and the status page show, and a file that says it means the same.

import Primitives
import Wire

/// A `[[forward]]` with the options of `[defaults]` filled in.
package struct ForwardRule: Sendable {
  package static let nameOctetCountMax = 64
  /// Address and port patterns of one rule; a comma-separated port counts as one each.
  package static let listenCountMax = 4096
  package static let maxConnectionsRange = 1...1_000_000
  package static let maxHalfOpenRange = 1...65_536
  package static let maxHalfOpenDefault = 1024
  package static let connectTimeoutDefault = Interval.seconds(10)
  package static let idleTimeoutDefault = Interval.seconds(2 * 3600)
  package static let udpTimeoutDefault = Interval.seconds(180)
  /// The kernel's TCP_KEEPIDLE goes no further than 32 767 s.
  package static let keepaliveRange = Interval.seconds(1)...Interval.seconds(9 * 3600)

  package var name: String
  package var protocols: ProtocolSet
  /// Not empty.
  package var listen: [ListenPattern]
  package var target: Target
  /// How long the target may take to answer, all addresses of its name together.
  package var connectTimeout: Interval
  /// How long a TCP flow may carry nothing.
  package var idleTimeout: Interval
  /// How long a UDP flow may carry nothing.
  package var udpTimeout: Interval
  /// Silence after which client and target of a TCP flow are asked whether they are there; nil: never.
  package var keepalive: Interval?
  /// Flows of the rule at a time; nil leaves it to the daemon's bound.
  package var maxConnections: Int?
  /// Flows whose client has not answered yet; a SYN beyond is answered by a cookie.
  package var maxHalfOpen: Int
  /// What becomes of its flows when a reload removes or changes the rule.
  package var onReload: ReloadPolicy
  /// How much may be in flight towards its TCP clients.
  package var congestion: CongestionAlgorithm
  /// Where the rule begins in its file, from 1; not compared.
  package var line: Int

  package init(
    name: String, protocols: ProtocolSet = .tcp, listen: [ListenPattern], target: Target,
    connectTimeout: Interval = Self.connectTimeoutDefault,
    idleTimeout: Interval = Self.idleTimeoutDefault,
    udpTimeout: Interval = Self.udpTimeoutDefault, keepalive: Interval? = nil,
    maxConnections: Int? = nil, maxHalfOpen: Int = Self.maxHalfOpenDefault,
    onReload: ReloadPolicy = .keep, congestion: CongestionAlgorithm = .cubic, line: Int = 0
  ) {
    self.name = name
    self.protocols = protocols
    self.listen = listen
    self.target = target
    self.connectTimeout = connectTimeout
    self.idleTimeout = idleTimeout
    self.udpTimeout = udpTimeout
    self.keepalive = keepalive
    self.maxConnections = maxConnections
    self.maxHalfOpen = maxHalfOpen
    self.onReload = onReload
    self.congestion = congestion
    self.line = line
  }

  /// The patterns as a file has them, joined by ", ".
  package var listenText: String { listen.map(\.description).joined(separator: ", ") }

  /// The target as a file has it. A shifted range shows both its ends: those of the first pattern,
  /// which all patterns of such a rule equal in length.
  package var targetText: String {
    guard case .shifted(let first) = target.port, let range = listen.first?.ports else {
      return target.description
    }
    let last = Int(first) + range.count - 1
    return target.hostText + ":\(first)-\(last)"
  }
}

extension ForwardRule: Equatable {
  package static func == (a: Self, b: Self) -> Bool {
    a.name == b.name && a.protocols == b.protocols && a.listen == b.listen && a.target == b.target
      && a.connectTimeout == b.connectTimeout && a.idleTimeout == b.idleTimeout
      && a.udpTimeout == b.udpTimeout && a.keepalive == b.keepalive
      && a.maxConnections == b.maxConnections && a.maxHalfOpen == b.maxHalfOpen
      && a.onReload == b.onReload && a.congestion == b.congestion
  }
}

/// The transport protocols of a rule.
package struct ProtocolSet: OptionSet, Sendable, Hashable, CustomStringConvertible {
  package let rawValue: UInt8

  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let tcp = ProtocolSet(rawValue: 1 << 0)
  package static let udp = ProtocolSet(rawValue: 1 << 1)

  package init(_ transport: TransportProtocol) {
    switch transport {
    case .tcp: self = .tcp
    case .udp: self = .udp
    }
  }

  package var transports: [TransportProtocol] {
    TransportProtocol.allCases.filter { contains(ProtocolSet($0)) }
  }

  /// "tcp", "udp" or "tcp+udp"
  package var description: String {
    transports.map(\.description).joined(separator: "+")
  }
}

package enum ReloadPolicy: String, Sendable, Hashable, CaseIterable {
  /// Flows go on until they end.
  case keep
  /// Flows go on until `drain_timeout`.
  case drain
  /// Flows are cut at once.
  case reset
}

/// Congestion control of TCP towards clients.
package enum CongestionAlgorithm: String, Sendable, Hashable, CaseIterable {
  /// RFC 9438.
  case cubic
  /// RFC 5681.
  case newReno = "newreno"
}

/// Where a rule leads.
package struct Target: Sendable, Hashable {
  package var host: TargetHost
  package var port: TargetPort

  package init(host: TargetHost, port: TargetPort) {
    self.host = host
    self.port = port
  }
}

package enum TargetHost: Sendable, Hashable {
  case address(IPAddress)
  /// A host name, in lower case, without the trailing dot.
  case name(String)
  /// Prefix translation: this network, and the host bits that the client named.
  case prefix(IPPrefix)
  /// What the client named.
  case original
}

package enum TargetPort: Sendable, Hashable, BitwiseCopyable {
  /// The port that the client named.
  case same
  case fixed(UInt16)
  /// A range as long as the one listened on, beginning at `first`.
  case shifted(first: UInt16)

  /// The port to dial for a client that named `port`, met by a pattern with `range`.
  package func number(for port: UInt16, in range: PortRange) -> UInt16 {
    switch self {
    case .same: port
    case .fixed(let fixed): fixed
    case .shifted(let first): first &+ (port &- range.first)
    }
  }
}

extension Target: CustomStringConvertible {
  /// "127.0.0.1:8080", "[fd00::1]:*", "192.168.9.0/24:*", "original"; a shifted range shows its first
  /// port ("192.0.2.7:37000-"), see `ForwardRule.targetText` for both ends.
  package var description: String {
    if case .original = host { return "original" }
    switch port {
    case .same: return hostText + ":*"
    case .fixed(let port): return hostText + ":\(port)"
    case .shifted(let first): return hostText + ":\(first)-"
    }
  }

  var hostText: String {
    switch host {
    case .address(let address): address.isIPv4 ? "\(address)" : "[\(address)]"
    case .name(let name): name
    case .prefix(let prefix): prefix.isIPv4 ? "\(prefix)" : "[\(prefix)]"
    case .original: "original"
    }
  }
}
