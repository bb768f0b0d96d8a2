// ICMP (RFC 792) and ICMPv6 (RFC 4443): numbers, and one vocabulary for both.

/// Message types of ICMP.
package enum ICMPv4Type {
  package static let echoReply: UInt8 = 0
  package static let unreachable: UInt8 = 3
  package static let sourceQuench: UInt8 = 4
  package static let redirect: UInt8 = 5
  package static let echoRequest: UInt8 = 8
  package static let timeExceeded: UInt8 = 11
  package static let parameterProblem: UInt8 = 12
}

/// Message types of ICMPv6.
package enum ICMPv6Type {
  package static let unreachable: UInt8 = 1
  package static let packetTooBig: UInt8 = 2
  package static let timeExceeded: UInt8 = 3
  package static let parameterProblem: UInt8 = 4
  package static let echoRequest: UInt8 = 128
  package static let echoReply: UInt8 = 129
  package static let redirect: UInt8 = 137
}

/// Why a packet does not reach its destination, in either family.
package enum ICMPUnreachable: UInt8, Hashable, Sendable, CaseIterable, BitwiseCopyable {
  /// No route to the network.
  case network
  /// The host does not answer.
  case host
  /// The host does not speak the transport protocol.
  case transport
  /// Nobody listens on the port.
  case port
  /// A policy forbids it.
  case administrativelyProhibited

  /// Type and code of the message that says so.
  func number(isIPv4: Bool) -> (type: UInt8, code: UInt8) {
    if isIPv4 {
      switch self {
      case .network: (ICMPv4Type.unreachable, 0)
      case .host: (ICMPv4Type.unreachable, 1)
      case .transport: (ICMPv4Type.unreachable, 2)
      case .port: (ICMPv4Type.unreachable, 3)
      case .administrativelyProhibited: (ICMPv4Type.unreachable, 13)
      }
    } else {
      switch self {
      case .network: (ICMPv6Type.unreachable, 0)
      case .host: (ICMPv6Type.unreachable, 3)
      case .transport: (ICMPv6Type.parameterProblem, 1)
      case .port: (ICMPv6Type.unreachable, 4)
      case .administrativelyProhibited: (ICMPv6Type.unreachable, 1)
      }
    }
  }

  /// The meaning of an ICMP unreachable code (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1), nil
  /// for "fragmentation needed" and unknown codes.
  init?(codeIPv4 code: UInt8) {
    switch code {
    case 0, 6, 8, 11: self = .network
    case 1, 5, 7, 12: self = .host
    case 2: self = .transport
    case 3: self = .port
    case 9, 10, 13, 14, 15: self = .administrativelyProhibited
    default: return nil
    }
  }

  /// The meaning of an ICMPv6 unreachable code (RFC 4443 §3.1).
  init?(codeIPv6 code: UInt8) {
    switch code {
    case 0, 2, 6: self = .network
    case 3: self = .host
    case 4: self = .port
    case 1, 5: self = .administrativelyProhibited
    default: return nil
    }
  }
}
