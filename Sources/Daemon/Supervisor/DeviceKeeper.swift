// The device and the host's side of it: made, changed by reloads, taken back.
//
// Runs on a thread of its own, the one that keeps CAP_NET_ADMIN when root is given up. It remembers
// what it added and removes that only: what the host had, it keeps. A change first adds what is new,
// which can fail and is undone then, and afterwards removes what is left over, where a failure is logged
// and leaves something behind. A device that is not kept takes its addresses and routes along when its
// last queue closes; for one that is kept they are removed by hand.

import Configuration
import Kernel
import Logging
import Netlink
import Primitives
import TunDevice
import Wire

actor DeviceKeeper {
  /// Packets that wait in the device for a worker before the kernel drops.
  static let queueLength = 4000

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let log: Logger
  private let netlink = NetlinkSlot()
  private var interfaceIndex = 0
  private var keep = false
  private var mtu = 0
  private var addresses: [InterfaceAddress] = []
  private var routes: [IPPrefix] = []

  init(log: Logger) throws(SystemError) {
    self.log = log
    executor = try ThreadExecutor(name: "ferry-device")
  }

  /// Makes the device as configured, up and routed, and hands over its one queue.
  ///
  /// The queue is the device's life: close it and, unless it is kept, the device is gone.
  func open(_ configuration: Configuration) throws -> TunQueue {
    let wanted = configuration.device
    var device = try TunDevice.open(
      name: wanted.name, namespace: wanted.netns, queues: 1, offload: wanted.offload,
      keep: wanted.keep)
    let queue = device.takeQueue(0)
    interfaceIndex = device.interfaceIndex
    keep = wanted.keep
    try netlink.open(namespace: wanted.netns)
    let plan = DevicePlan(configuration)
    if device.wasTakenOver {
      log.notice("took over the device of an earlier run", metadata: ["device": "\(wanted.name)"])
      try adoptLeftovers()
    }
    do throws(NetlinkError) {
      try netlink.use { (session) throws(NetlinkError) in
        try session.disableLinkLocalAddress(interfaceIndex)
        try session.setLink(interfaceIndex, up: true, mtu: plan.mtu, queueLength: Self.queueLength)
      }
      mtu = plan.mtu
      try apply(plan)
      try awaitAddresses()
    } catch {
      if keep { removeDevice() }
      throw error
    }
    log.info(
      "device is up",
      metadata: [
        "device": "\(wanted.name)", "mtu": "\(plan.mtu)", "offload": "\(device.features)",
        "addresses": "\(addresses.map(\.description).joined(separator: ","))",
        "routes": "\(routes.map(\.description).joined(separator: ","))",
      ])
    return queue
  }

  /// Waits, a second at most, until the kernel delivers to every address of the device: before that it
  /// would throw our first answers away.
  private func awaitAddresses() throws(NetlinkError) {
    for address in addresses where !address.address.isIPv4 {
      for _ in 0..<Self.deliveryLooksMax {
        let delivers = try netlink.use { (session) throws(NetlinkError) in
          try session.delivers(address.address)
        }
        if delivers { break }
        guard var pause = try? Epoll() else { return }
        let now = MonotonicClock.now()
        _ = try? pause.wait(until: now + Self.deliveryPause, now: now)
      }
    }
  }

  private static let deliveryLooksMax = 200
  private static let deliveryPause = Interval.milliseconds(5)

  /// Makes addresses, routes and MTU as planned.
  ///
  /// - Throws: when something cannot be added; what was added before is taken back. That something
  ///   cannot be removed, or not restored after a removal took it along, is logged.
  func apply(_ plan: DevicePlan) throws(NetlinkError) {
    let before = (addresses: addresses, routes: routes, mtu: mtu)
    do throws(NetlinkError) {
      try add(plan)
      try setMTU(plan.mtu)
    } catch {
      removeAll(except: before.addresses, before.routes)
      restore(before.mtu)
      throw error
    }
    removeAll(except: plan.addresses, plan.routes)
    // An address that goes takes along its on-link route and, when it was the first of its prefix,
    // the other addresses there. What is planned and was lost that way comes back.
    do throws(NetlinkError) {
      try add(plan)
    } catch {
      log.error("the device could not be completed", metadata: ["error": "\(error)"])
    }
  }

  /// Removes what was added, where the device itself stays.
  func tearDown() {
    guard keep, interfaceIndex != 0 else { return }
    removeAll(except: [], [])
  }

  /// Gives up root for good; this thread keeps what changing the device needs.
  func dropPrivileges(to user: String) throws(PrivilegesError) {
    try Privileges.drop(toUser: user, keeping: [.administerNetwork])
  }

  /// Work that waits, such as for the end of a thread.
  func run(_ body: @Sendable () -> Void) { body() }

  private func add(_ plan: DevicePlan) throws(NetlinkError) {
    for address in plan.addresses {
      let added = try netlink.use { (session) throws(NetlinkError) in
        try session.addAddress(
          address.address, length: address.onLinkPrefix.length, interfaceIndex: interfaceIndex)
      }
      if added, !addresses.contains(address) { addresses.append(address) }
    }
    for prefix in plan.routes {
      let added = try netlink.use { (session) throws(NetlinkError) in
        try session.addRoute(prefix, interfaceIndex: interfaceIndex)
      }
      if added, !routes.contains(prefix) { routes.append(prefix) }
    }
  }

  private func setMTU(_ octets: Int) throws(NetlinkError) {
    guard octets != mtu else { return }
    try netlink.use { (session) throws(NetlinkError) in
      try session.setLink(interfaceIndex, mtu: octets)
    }
    mtu = octets
  }

  private func restore(_ octets: Int) {
    do throws(NetlinkError) {
      try setMTU(octets)
    } catch {
      log.error("the MTU could not be set back", metadata: ["error": "\(error)"])
    }
  }

  private func removeAll(except keptAddresses: [InterfaceAddress], _ keptRoutes: [IPPrefix]) {
    let index = interfaceIndex
    for prefix in routes where !keptRoutes.contains(prefix) {
      attempt { (session) throws(NetlinkError) in
        try session.removeRoute(prefix, interfaceIndex: index)
      }
    }
    routes.removeAll { !keptRoutes.contains($0) }
    for address in addresses where !keptAddresses.contains(address) {
      attempt { (session) throws(NetlinkError) in
        try session.removeAddress(
          address.address, length: address.onLinkPrefix.length, interfaceIndex: index)
      }
    }
    addresses.removeAll { !keptAddresses.contains($0) }
  }

  /// For a start that failed: not even a device that is to be kept stays.
  private func removeDevice() {
    let index = interfaceIndex
    attempt { (session) throws(NetlinkError) in
      try session.removeLink(index)
      return true
    }
  }

  private func attempt(_ body: (inout NetlinkSession) throws(NetlinkError) -> Bool) {
    do throws(NetlinkError) {
      _ = try netlink.use(body)
    } catch {
      log.warning("something stays behind on the device", metadata: ["error": "\(error)"])
    }
  }

  /// What a killed run left on a device that it kept was its own, and is now ours to remove.
  private func adoptLeftovers() throws(NetlinkError) {
    let index = interfaceIndex
    let found = try netlink.use { (session) throws(NetlinkError) in
      (try session.addresses(interfaceIndex: index), try session.routes(interfaceIndex: index))
    }
    for entry in found.0 where !entry.address.isLinkLocalUnicast {
      let length = entry.address.isIPv4 ? entry.length - 96 : entry.length
      addresses.append(InterfaceAddress(address: entry.address, length: length))
    }
    let onLink = Set(found.0.map(\.prefix))
    routes = found.1.map(\.prefix).filter { !onLink.contains($0) }
  }
}

/// The session, once there is one. It is used on the keeper's thread only.
private final class NetlinkSlot {
  private var session: NetlinkSession?

  func open(namespace: String?) throws(NetlinkError) {
    session = try NetlinkSession(namespace: namespace)
  }

  func use<Outcome>(
    _ body: (inout NetlinkSession) throws(NetlinkError) -> Outcome
  ) throws(NetlinkError) -> Outcome {
    guard var taken = session.take() else {
      throw .exchange(action: "configuring the device", reason: "there is no session")
    }
    let outcome: Outcome
    do throws(NetlinkError) {
      outcome = try body(&taken)
    } catch {
      session = consume taken
      throw error
    }
    session = consume taken
    return outcome
  }
}
