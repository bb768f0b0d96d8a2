// The name of an active socket: who talks to which virtual port, by which protocol.

/// The transport protocols that are forwarded, by their IANA numbers.
@usableFromInline
package enum TransportProtocol: UInt8, Hashable, Sendable, CaseIterable, BitwiseCopyable {
  case tcp = 6
  case udp = 17
}

extension TransportProtocol: CustomStringConvertible {
  /// "tcp" or "udp".
  @usableFromInline package var description: String {
    switch self {
    case .tcp: "tcp"
    case .udp: "udp"
    }
  }
}

/// A flow's addresses and ports. The client comes first, whichever side a packet comes from.
@usableFromInline package struct FiveTuple: Hashable, Sendable, BitwiseCopyable {
  @usableFromInline package var client: IPAddress
  @usableFromInline package var virtual: IPAddress
  @usableFromInline package var clientPort: UInt16
  @usableFromInline package var virtualPort: UInt16
  @usableFromInline package var transport: TransportProtocol

  @inlinable package init(
    client: IPAddress, virtual: IPAddress, clientPort: UInt16, virtualPort: UInt16,
    transport: TransportProtocol
  ) {
    self.client = client
    self.virtual = virtual
    self.clientPort = clientPort
    self.virtualPort = virtualPort
    self.transport = transport
  }

  @inlinable package static func == (a: Self, b: Self) -> Bool {
    a.client == b.client && a.virtual == b.virtual && a.clientPort == b.clientPort
      && a.virtualPort == b.virtualPort && a.transport == b.transport
  }
}

extension FiveTuple: CustomStringConvertible {
  /// "tcp 10.0.0.2:40000 -> 10.0.0.1:80"
  @usableFromInline package var description: String {
    "\(transport) \(client.endpoint(port: clientPort)) -> \(virtual.endpoint(port: virtualPort))"
  }
}

extension IPAddress {
  /// "192.0.2.1:80" or "[2001:db8::1]:80" (RFC 5952 §6).
  package func endpoint(port: UInt16) -> String {
    isIPv4 ? "\(self):\(port)" : "[\(self)]:\(port)"
  }
}
