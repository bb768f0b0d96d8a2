// Why there is no device, in a sentence for whoever started the daemon.

import Kernel

package enum TunDeviceError: Error, Equatable, Sendable {
  /// /dev/net/tun is not there, or no driver stands behind it.
  case missingDeviceNode
  case notPermitted
  /// - Parameter holder: "a bridge", "another process", …
  case nameBusy(name: String, holder: String)
  /// Empty, longer than 15 octets, or with octets that the kernel refuses or expands.
  case badName(String)
  /// The driver knows no virtio-net header, or not several queues.
  case driverTooOld(missing: String)
  /// More queues than the kernel gives a device (256).
  case tooManyQueues(Int)
  case namespace(NamespaceError)
  case system(name: String, SystemError)
}

extension TunDeviceError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .missingDeviceNode:
      "/dev/net/tun does not exist: load the driver with `modprobe tun`, or pass the device into the container"
    case .notPermitted:
      "making a TUN device is not permitted: this needs root (CAP_NET_ADMIN) and access to /dev/net/tun"
    case .nameBusy(let name, let holder):
      "device name \(name) is taken by \(holder): stop or remove it, or choose another device.name"
    case .badName(let name):
      "\"\(name)\" is no device name: it takes 1 to 15 octets without space, \"/\", \":\" and \"%\""
    case .driverTooOld(let missing):
      "this kernel's TUN driver lacks \(missing)"
    case .tooManyQueues(let count):
      "\(count) queues are more than a TUN device has: at most \(TunDevice.queuesMax)"
    case .namespace(let error):
      "\(error)"
    case .system(let name, let error):
      "device \(name) cannot be made: \(error)"
    }
  }
}
