// What the device is to have, as far as it follows a reload. Which routes the rules need besides the
// configured ones is `Configuration.routedPrefixes`' business. A rule that a reload removed or changed
// needs its prefixes until its last flow has ended: see `LeavingRule`.

import Configuration
import Wire

package struct DevicePlan: Equatable, Sendable {
  package var addresses: [InterfaceAddress]
  package var routes: [IPPrefix]
  /// In octets.
  package var mtu: Int

  /// What leads back into the device, and is refused as a target.
  package var ownPrefixes: [IPPrefix]

  package init(_ configuration: Configuration, leaving: [LeavingRule] = []) {
    let others = leaving.flatMap(\.prefixes)
    addresses = configuration.device.addresses
    routes = configuration.routedPrefixes(also: others)
    mtu = configuration.device.mtu
    ownPrefixes = configuration.ownPrefixes(also: others)
  }

  /// Whether the host has anything to change on the way from another plan.
  package func differsAtDevice(from other: Self) -> Bool {
    addresses != other.addresses || routes != other.routes || mtu != other.mtu
  }
}

/// A rule that a reload took away, whose flows may go on.
package struct LeavingRule: Equatable, Sendable {
  package var name: String
  package var listen: String
  /// What was routed into the device for it.
  package var prefixes: [IPPrefix]

  /// A rule of a configuration that is about to be replaced. One for `*` had everything that came in.
  package init(_ rule: ForwardRule, of configuration: Configuration) {
    name = rule.name
    listen = rule.listenText
    prefixes = rule.listenedPrefixes
    if rule.listen.contains(where: { $0.addresses == .any }) {
      prefixes += configuration.routedPrefixes + configuration.device.addresses.map(\.onLinkPrefix)
    }
  }
}
