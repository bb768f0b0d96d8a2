import Configuration
import Wire

// The broadcast addresses of the device's own networks (RFC 1122 §3.2.1.3): the last address of each IPv4
// network that an address of the device is in. Prefixes that are merely routed into the device are
// no networks of its: their last address is a virtual address like any other. Nor has a network of two
// addresses or one (RFC 3021) such a one, and none has IPv6.

struct DirectedBroadcasts: ~Copyable {
  private let addresses: UnsafeMutablePointer<UInt32>
  private let count: Int

  init(of own: [InterfaceAddress]) {
    addresses = .allocate(capacity: own.count)
    var count = 0
    for one in own where one.address.isIPv4 && one.length <= 30 {
      let broadcast = one.address.v4 | UInt32.max >> UInt32(one.length)
      if (0..<count).contains(where: { [addresses] in addresses[$0] == broadcast }) { continue }
      (addresses + count).initialize(to: broadcast)
      count += 1
    }
    self.count = count
  }

  deinit { addresses.deallocate() }

  func contains(_ address: IPAddress) -> Bool {
    guard address.isIPv4 else { return false }
    for index in 0..<count where addresses[index] == address.v4 { return true }
    return false
  }
}
