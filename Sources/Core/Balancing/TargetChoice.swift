import Configuration
import Wire

// Which address a new flow dials.
//
// A rule's target is one address, one prefix, what the client named, or a host name; a name has as
// many addresses as its last good answer had, tried in turn until one connects. An attempt beyond the
// last address means that the target has failed.

package enum TargetChoice {
  /// Where attempt number `attempt` (from 0) of a flow to `virtual` and `port` leads; nil when there
  /// is nowhere (else) to go.
  /// - Parameter resolved: the addresses of the target's host name, if it has one.
  package static func destination(
    of rule: ForwardRule, virtual: IPAddress, port: UInt16, resolved: [IPAddress], attempt: Int
  ) -> (address: IPAddress, port: UInt16)? {
    let range =
      rule.listen.first { $0.matches(virtual, port: port) }?.ports ?? PortRange(port)
    let targetPort = rule.target.port(for: port, in: range)
    if let address = rule.target.address(for: virtual) {
      return attempt == 0 ? (address, targetPort) : nil
    }
    guard attempt < resolved.count else { return nil }
    return (resolved[attempt], targetPort)
  }
}
