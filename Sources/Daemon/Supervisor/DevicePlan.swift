// What the device is to have, as far as it follows a reload. Which routes the rules need besides the
// configured ones is `Configuration.routedPrefixes`' business.

import Configuration
import Wire

struct DevicePlan: Equatable, Sendable {
  var addresses: [InterfaceAddress]
  var routes: [IPPrefix]
  /// In octets.
  var mtu: Int

  init(_ configuration: Configuration) {
    addresses = configuration.device.addresses
    routes = configuration.routedPrefixes
    mtu = configuration.device.mtu
  }
}
