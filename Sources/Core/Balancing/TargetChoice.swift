import Configuration
import Wire

// Which address a new flow dials.
//
// A rule's target is one address, one prefix, what the client named, or a host name; a name has as
// many addresses as its last good answer had, tried in turn until one connects. An attempt beyond the
// last address means that the target has failed. The port is the same for all attempts and not
// chosen here: see `Target.port`.

package enum TargetChoice {
  /// The address that attempt number `attempt` (from 0) of a flow to `virtual` dials; nil when there
  /// is none (left).
  /// - Parameter resolved: the addresses of the target's host name, if it has one.
  package static func address(
    of target: Target, virtual: IPAddress, resolved: [IPAddress], attempt: Int
  ) -> IPAddress? {
    if let address = target.address(for: virtual) { return attempt == 0 ? address : nil }
    return attempt < resolved.count ? resolved[attempt] : nil
  }

  /// How many attempts have an address.
  package static func addressCount(of target: Target, resolved: [IPAddress]) -> Int {
    if case .name = target.host { resolved.count } else { 1 }
  }
}
