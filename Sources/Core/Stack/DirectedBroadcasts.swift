import Configuration
import Wire

// The broadcast addresses of the networks that the device's own addresses are in: no host has them.
// Prefixes that are merely routed into the device are no networks of its: their last address is a
// virtual address like any other.

struct DirectedBroadcasts: ~Copyable {
  private let addresses: UnsafeMutablePointer<UInt32>
  private let count: Int

  init(of own: [InterfaceAddress]) {
    addresses = .allocate(capacity: own.count)
    var count = 0
    for broadcast in Set(own.compactMap(\.broadcast)) {
      (addresses + count).initialize(to: broadcast.v4)
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
