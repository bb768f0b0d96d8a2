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

  /// Everything that leads into the device, each once: the routes, and the on-link prefixes, which the
  /// kernel routes there as the addresses come. One of a single address has no such route.
  package var prefixes: [IPPrefix] {
    var known = Set(routes)
    return routes
      + addresses.map(\.onLinkPrefix).filter { $0.length < 128 && known.insert($0).inserted }
  }

  /// What a device lacks that has these addresses.
  package func missingAddresses(from held: [InterfaceAddress]) -> [InterfaceAddress] {
    let held = Set(held)
    return addresses.filter { !held.contains($0) }
  }

  /// What a device lacks that some prefixes lead to.
  package func missingPrefixes(leads: (IPPrefix) -> Bool) -> [IPPrefix] {
    prefixes.filter { !leads($0) }
  }
}

/// Addresses of the device and what leads into it.
package struct DeviceContent: Equatable, Sendable {
  package var addresses: [InterfaceAddress] = []
  package var prefixes: [IPPrefix] = []

  package init(addresses: [InterfaceAddress] = [], prefixes: [IPPrefix] = []) {
    self.addresses = addresses
    self.prefixes = prefixes
  }

  package var isEmpty: Bool { addresses.isEmpty && prefixes.isEmpty }
}

/// A rule that a reload took away, whose flows may go on.
package struct LeavingRule: Hashable, Sendable {
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
