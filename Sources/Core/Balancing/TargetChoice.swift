import Configuration
import Wire

// Which address a new flow dials.
//
// A rule's target is one address, one prefix, what the client named, or a host name; a name has as
// many addresses as its last good answer had, tried in turn until one connects. An attempt beyond the
// last address means that the target has failed. The port is the same for all attempts.

/// A rule's target as it is chosen from: plain memory, since flows that begin count no reference. What
/// a host name says is its owner's to know.
package struct TargetChoice: Sendable, BitwiseCopyable {
  private enum Host: BitwiseCopyable {
    case address(IPAddress)
    case prefix(IPPrefix)
    case original
    case name
  }

  private let host: Host
  private let port: TargetPort

  package init(_ target: Target) {
    port = target.port
    switch target.host {
    case .address(let address): host = .address(address)
    case .prefix(let prefix): host = .prefix(prefix)
    case .original: host = .original
    case .name: host = .name
    }
  }

  /// The address that attempt number `attempt` (from 0) of a flow to `virtual` dials; nil when there
  /// is none (left).
  /// - Parameter resolved: the addresses of the target's host name, if it has one.
  package func address(
    for virtual: IPAddress, resolved: UnsafeBufferPointer<IPAddress>, attempt: Int
  ) -> IPAddress? {
    switch host {
    case .address(let address): attempt == 0 ? address : nil
    case .prefix(let prefix): attempt == 0 ? prefix.replacingPrefix(of: virtual) : nil
    case .original: attempt == 0 ? virtual : nil
    case .name: attempt < resolved.count ? resolved[attempt] : nil
    }
  }

  /// How many attempts have an address.
  package func addressCount(resolved: UnsafeBufferPointer<IPAddress>) -> Int {
    if case .name = host { resolved.count } else { 1 }
  }

  /// The port to dial for a client that named `port`, met by a pattern with `range`.
  package func port(for port: UInt16, in range: PortRange) -> UInt16 {
    self.port.number(for: port, in: range)
  }
}
