// What the device is to have, as far as it follows a reload. Which routes the rules need besides the
// configured ones is `Configuration.routedPrefixes`' business.

import Configuration
import Wire

package struct DevicePlan: Equatable, Sendable {
  package var addresses: [InterfaceAddress]
  package var routes: [IPPrefix]
  /// In octets.
  package var mtu: Int

  package init(_ configuration: Configuration) {
    addresses = configuration.device.addresses
    routes = configuration.routedPrefixes
    mtu = configuration.device.mtu
  }
}
