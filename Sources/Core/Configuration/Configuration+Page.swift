// Where a browser on this host finds the status page: for those who tell people so.

import Wire

extension Configuration {
  /// The page's URL: through the device where a rule leads to it, else straight to `daemon.status`;
  /// nil where no page is served.
  package var pageURL: String? {
    guard let status = daemon.status else { return nil }
    // From here, the addresses of a device in another namespace are nobody's.
    if device.netns == nil {
      for rule in forwards where rule.leads(to: status) {
        for case .some(let place) in rule.listen.lazy.map(\.place) { return place.url }
      }
    }
    return status.reachable.url
  }
}

extension SocketAddress {
  /// With the loopback address in place of "all addresses".
  fileprivate var reachable: SocketAddress {
    guard address.isUnspecified, let loopback = IPAddress(address.isIPv4 ? "127.0.0.1" : "::1")
    else { return self }
    return SocketAddress(address: loopback, port: port)
  }

  /// RFC 9110 §4.2.1: the port may be left out if it is 80.
  fileprivate var url: String {
    guard port == 80 else { return "http://\(self)/" }
    return address.isIPv4 ? "http://\(address)/" : "http://[\(address)]/"
  }
}

extension ForwardRule {
  fileprivate func leads(to status: SocketAddress) -> Bool {
    guard protocols.contains(.tcp), target.port == .fixed(status.port),
      case .address(let address) = target.host
    else { return false }
    return address == status.address || address == status.reachable.address
  }
}

extension ListenPattern {
  /// The address and the first port of a pattern for a single address.
  fileprivate var place: SocketAddress? {
    guard case .prefix(let prefix) = addresses, prefix.length == 128 else { return nil }
    return SocketAddress(address: prefix.address, port: ports.first)
  }
}
