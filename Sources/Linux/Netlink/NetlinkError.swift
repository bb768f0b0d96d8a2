// Why the host's network could not be set up, in a sentence for whoever started the daemon.

import Kernel
import Wire

package enum NetlinkError: Error, Equatable, Sendable {
  case namespace(NamespaceError)
  case notPermitted(action: String)
  /// Another link has the address.
  case addressInUse(IPAddress, link: String)
  /// The prefix leads elsewhere already.
  case routeInUse(IPPrefix, link: String)
  /// IPv6 is switched off: for the link by sysctl, or in the kernel altogether.
  case ipv6Unavailable(IPAddress)
  case linkMissing(action: String)
  /// The kernel said no. `reason` is its own explanation, when it gave one.
  case refused(action: String, SystemError, reason: String?)
  /// The exchange with the kernel broke down.
  case exchange(action: String, reason: String)
}

extension NetlinkError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .namespace(let error):
      "\(error)"
    case .notPermitted(let action):
      "\(action) is not permitted: this needs root (CAP_NET_ADMIN)"
    case .addressInUse(let address, let link):
      "address \(address) is in use on \(link): remove it there, or choose another in device.addresses"
    case .routeInUse(let prefix, let link):
      "prefix \(prefix) is routed to \(link) already: remove that route, or correct device.routes or the rule that listens there"
    case .ipv6Unavailable(let address):
      "address \(address) cannot be set because IPv6 is switched off: see sysctl net.ipv6.conf.all.disable_ipv6"
    case .linkMissing(let action):
      "\(action) failed because the device is gone"
    case .refused(let action, let error, let reason):
      "\(action) failed: \(reason.map { "\($0), " } ?? "")\(error.reason)"
    case .exchange(let action, let reason):
      "\(action) failed: the exchange with the kernel broke down: \(reason)"
    }
  }
}
