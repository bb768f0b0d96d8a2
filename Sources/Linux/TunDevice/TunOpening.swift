// The steps of `TunDevice.open` that run in the device's namespace, in order: a node of the driver, the
// name (made, or taken over), the header, the offloads, the other queues, and last whether it stays.
//
// A step that fails closes what the earlier ones opened, and with that a device made here vanishes.

import CLinux
import Glibc
import Kernel

struct TunOpening {
  var name: String
  var queues: Int
  var offload: Bool
  var keep: Bool

  func run() -> Result<TunDevice, TunDeviceError> {
    do throws(TunDeviceError) {
      return .success(try open())
    } catch {
      return .failure(error)
    }
  }

  private func open() throws(TunDeviceError) -> TunDevice {
    let first = try openNode()
    let wasTakenOver = try attachFirst(first.number)
    let features: OffloadFeatures
    do throws(SystemError) {
      _ = try SystemError.check(clinux_tun_set_header_octets(first.number, 10), .tunHeader)
      features = try negotiate(first.number)
    } catch {
      throw explain(error)
    }
    let index = if_nametoindex(name)
    guard index != 0 else { throw explain(SystemError(code: ENODEV, call: .tunAttach)) }
    // From here on `device` closes what it holds if a later step fails.
    var device = TunDevice(
      name: name, interfaceIndex: Int(index), features: features, wasTakenOver: wasTakenOver,
      first: first.release())
    for _ in 1..<queues {
      let other = try openNode()
      try attach(other.number, exclusive: false)
      device.add(other.release())
    }
    try device.persist(keep)
    return device
  }

  /// A descriptor of the driver that has no device yet.
  private func openNode() throws(TunDeviceError) -> Descriptor {
    do throws(SystemError) {
      let node = try Descriptor.open("/dev/net/tun", flags: O_RDWR | O_NONBLOCK)
      let supported = try SystemError.check(
        clinux_tun_supports(node.number, queues > 1), .tunFeatures)
      guard supported == 1 else { throw SystemError(code: EOPNOTSUPP, call: .tunFeatures) }
      return node
    } catch {
      if error.isMissing || error.isDeviceMissing { throw .missingDeviceNode }
      if error.isUnsupported {
        throw .driverTooOld(
          missing: queues > 1 ? "several queues (set queues = 1)" : "the virtio-net header")
      }
      throw explain(error)
    }
  }

  /// Attaches the first queue, to a device made now or to one left behind; says whether the latter.
  private func attachFirst(_ node: CInt) throws(TunDeviceError) -> Bool {
    do throws(TunDeviceError) {
      try attach(node, exclusive: true)
      return false
    } catch {
      guard case .nameBusy = error else { throw error }
    }
    // No link has the name: its holder ended just now, and making the device can succeed.
    if let found = try probe() {
      guard found.kind == "tun" else {
        throw .nameBusy(
          name: name, holder: found.kind.isEmpty ? "another link" : "a \(found.kind) link")
      }
      guard found.isTun else { throw .nameBusy(name: name, holder: "a TAP device") }
      guard !found.isServed else { throw .nameBusy(name: name, holder: "another process") }
      if keep && found.isMultiQueue == (queues > 1) {
        try attach(node, exclusive: false)
        return true
      }
      try removeLeftover(found)
    }
    try attach(node, exclusive: true)
    return false
  }

  private func probe() throws(TunDeviceError) -> LinkProbe? {
    do throws(SystemError) {
      return try LinkProbe.find(name)
    } catch {
      throw explain(error)
    }
  }

  /// A device with nobody attached goes when its last queue is closed and it is not to stay.
  private func removeLeftover(_ found: LinkProbe) throws(TunDeviceError) {
    let node = try openNode()
    try attach(node.number, exclusive: false, multiQueue: found.isMultiQueue)
    do throws(SystemError) {
      _ = try SystemError.check(clinux_tun_set_persistent(node.number, false), .tunPersist)
    } catch {
      throw explain(error)
    }
  }

  private func attach(
    _ node: CInt, exclusive: Bool, multiQueue: Bool? = nil
  ) throws(TunDeviceError) {
    var octets = Array(name.utf8CString)
    octets.append(contentsOf: repeatElement(0, count: 16 - octets.count))
    do throws(SystemError) {
      _ = try SystemError.check(
        clinux_tun_attach(node, &octets, multiQueue ?? (queues > 1), exclusive), .tunAttach)
    } catch {
      throw explain(error)
    }
  }

  private func negotiate(_ node: CInt) throws(SystemError) -> OffloadFeatures {
    guard offload else {
      _ = try SystemError.check(clinux_tun_set_offload(node, 0), .tunOffload)
      return []
    }
    return try OffloadFeatures.negotiate { clinux_tun_set_offload(node, $0.rawValue) }
  }

  private func explain(_ error: SystemError) -> TunDeviceError {
    if error.isNotPermitted { return .notPermitted }
    if error.call == .tunAttach && error.isBusy {
      return .nameBusy(name: name, holder: "another process")
    }
    return .system(name: name, error)
  }
}
