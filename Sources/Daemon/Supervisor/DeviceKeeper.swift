// The device and the host's side of it: made, changed by reloads, taken back.
//
// Runs on a thread of its own, which keeps CAP_NET_ADMIN when root is given up and then starts the
// workers' threads, which have it from there. It remembers what it added and removes that only: what the host had, it keeps. What is missing is found by listing
// what the device has, never by what it was given once: others may have changed it. A change first adds
// what is missing, which can fail and is undone then, and afterwards removes what is left over, where a
// failure is logged and leaves something behind. A device that is not kept takes its addresses and routes
// along when its last queue closes; for one that is kept they are removed by hand. What gets lost between
// two changes is DeviceKeeper+Repair's business.

import Configuration
import Kernel
import Logging
import Netlink
import Primitives
import Steering
import TunDevice
import Wire
import Worker

actor DeviceKeeper {
  /// Packets that wait in the device for a worker before the kernel drops.
  static let queueLength = 4000

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  let log: Logger
  let netlink = NetlinkSlot()
  private(set) var interfaceIndex = 0
  private var namespace: String?
  private var keep = false
  /// What the device is to have; nil before it has anything.
  private(set) var plan: DevicePlan?
  /// What was added here, and is removed here.
  private var added = DeviceContent()
  /// What the log has been told of the device's present condition, see DeviceKeeper+Repair.
  var told = ToldCondition()

  init(log: Logger) throws(SystemError) {
    self.log = log
    executor = try ThreadExecutor(name: "ferry-device")
  }

  /// A device with its queues, and where flows live when there are several.
  struct Opened: ~Copyable, Sendable {
    var device: TunDevice
    let steering: Steering?
  }

  /// Makes the device as configured, up and routed, and hands over its queues.
  ///
  /// The queues are the device's life: close them and, unless it is kept, the device is gone.
  /// - Parameter queues: wanted; where the kernel refuses several, there is one.
  func open(_ configuration: Configuration, queues: Int) throws -> Opened {
    let wanted = configuration.device
    let device = try openTun(wanted, queues: queues)
    let steering = try steer(device)
    interfaceIndex = device.interfaceIndex
    namespace = wanted.netns
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
      }
      try apply(plan)
      try awaitAddresses(plan)
    } catch {
      if keep { removeDevice() }
      throw error
    }
    log.info(
      "device is up",
      metadata: [
        "device": "\(wanted.name)", "mtu": "\(plan.mtu)", "offload": "\(device.features)",
        "queues": "\(device.queueCount)",
        "addresses": "\(excerpt(of: added.addresses))",
        "routes": "\(excerpt(of: added.prefixes))",
      ])
    return Opened(device: device, steering: steering)
  }

  private func openTun(
    _ wanted: DeviceConfiguration, queues: Int
  ) throws(TunDeviceError) -> TunDevice {
    func open(_ queues: Int) throws(TunDeviceError) -> TunDevice {
      try TunDevice.open(
        name: wanted.name, namespace: wanted.netns, queues: queues, offload: wanted.offload,
        keep: wanted.keep)
    }
    do throws(TunDeviceError) {
      return try open(queues)
    } catch {
      switch error {
      case .driverTooOld, .tooManyQueues, .system: guard queues > 1 else { throw error }
      case .missingDeviceNode, .notPermitted, .nameBusy, .badName, .namespace: throw error
      }
      let device = try open(1)
      log.warning(
        "the kernel refuses several queues; going on with one, and one worker",
        metadata: ["queues": "\(queues)", "error": "\(error)"])
      return device
    }
  }

  /// Tells the kernel which queue a flow's packets belong to.
  ///
  /// - Returns: where flows live; nil with one queue.
  private func steer(_ device: borrowing TunDevice) throws(SystemError) -> Steering? {
    guard device.queueCount > 1 else { return nil }
    let seed = (try Entropy.word(), try Entropy.word())
    do throws(SystemError) {
      let map = try SharedMap(octets: Homes.octets)
      let steering = Steering(workers: device.queueCount, seed: seed, homes: Homes(map.memory))
      let program = SteeringProgram.assemble(steering, map: map.number)
      try device.steer(by: try SocketFilter(program.map(\.word)))
      return steering
    } catch {
      device.steerByKernel()
      log.warning(
        "the kernel steers packets its own way; what comes to the wrong worker is handed over",
        metadata: ["queues": "\(device.queueCount)", "error": "\(error)"])
      return Steering(workers: device.queueCount, seed: seed, homes: .ofProcess())
    }
  }

  /// Waits, a second at most, until the kernel delivers to every address of the device: before that it
  /// would throw our first answers away.
  private func awaitAddresses(_ plan: DevicePlan) throws(NetlinkError) {
    for address in plan.addresses where !address.address.isIPv4 {
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

  /// A watch of the device, from before it may be changed by others.
  func watch() throws -> DeviceWatch {
    try DeviceWatch(
      try LinkWatch(namespace: namespace, interfaceIndex: interfaceIndex), log: log)
  }

  /// Makes the device as planned, whatever became of it: link, addresses, routes.
  ///
  /// - Throws: when something cannot be added; what was added before is taken back. That something
  ///   cannot be removed, or not restored after a removal took it along, is logged.
  func apply(_ plan: DevicePlan) throws(NetlinkError) {
    let before = added
    do throws(NetlinkError) {
      if let link = try setLink(plan.mtu) { tellLink(link) }
      tellLost(try add(plan))
    } catch {
      remove(except: before)
      if let old = self.plan { restore(old.mtu) }
      throw error
    }
    release(plan)
    complete(plan)
    told = ToldCondition()
  }

  /// Makes a plan the device's that wants less. A link that is down is left so, and has then nothing
  /// but what the kernel leaves it.
  func shrink(to plan: DevicePlan) throws(NetlinkError) {
    let before = added
    let isUp = try link()?.isUp == true
    do throws(NetlinkError) {
      if isUp { tellLost(try add(plan)) }
    } catch {
      remove(except: before)
      throw error
    }
    release(plan)
    if isUp { complete(plan) }
  }

  private func release(_ plan: DevicePlan) {
    self.plan = plan
    remove(except: DeviceContent(addresses: plan.addresses, prefixes: plan.prefixes))
  }

  /// An address that goes takes along its on-link route and, when it was the first of its prefix, the
  /// other addresses there. What is planned and was lost that way comes back.
  private func complete(_ plan: DevicePlan) {
    do throws(NetlinkError) {
      _ = try add(plan)
    } catch {
      log.error("the device could not be completed", metadata: ["error": "\(error)"])
    }
  }

  /// Removes what was added, where the device itself stays.
  func tearDown() {
    guard keep, interfaceIndex != 0 else { return }
    plan = nil
    remove(except: DeviceContent())
  }

  /// Gives up root for good; this thread keeps what changing the device needs, and so do the workers'
  /// threads, which it starts afterwards.
  func dropPrivileges(to user: String) throws(PrivilegesError) {
    try Privileges.drop(toUser: user, keeping: [.administerNetwork])
  }

  /// Starts the workers' threads from this one, so that they have what it kept: CAP_NET_ADMIN and no
  /// more, nothing inheritable or ambient, and no way to gain more.
  ///
  /// Workers need it to have a stalled target's socket take more than `net.core.wmem_max`
  /// (`TargetSocket.raiseSendBuffer`); without it the client of a target that takes nothing for some
  /// fifteen minutes gives up. The other way would be that workers ask this thread to. That keeps the
  /// capability from no attacker: threads share their memory, and who runs code of his own in one
  /// runs it in all. It would add a protocol about descriptors that may be closed, and name another
  /// socket, by the time that it is served, and it would have a stalled flow wait for whatever this
  /// thread does, such as to repair the device. A worker makes one privileged call, on its own
  /// socket. It never had more than this capability, not even between the change of user and now.
  func start(_ workers: [WorkerHandle]) throws(SystemError) {
    for worker in workers { try worker.start() }
  }

  /// Work that waits, such as for the end of a thread.
  func run(_ body: @Sendable () -> Void) { body() }

  /// The device's link; nil when it is gone.
  func link() throws(NetlinkError) -> Link? {
    let index = interfaceIndex
    return try netlink.use { (session) throws(NetlinkError) in try session.link(index) }
  }

  /// Packets that the device's queue had no room for, since it was made; nil when nobody tells.
  func droppedPackets() -> UInt64? {
    let index = interfaceIndex
    return try? netlink.use { (session) throws(NetlinkError) in
      try session.droppedPackets(index)
    }
  }

  /// Adds what is planned and missing, until something cannot be.
  ///
  /// - Returns: what was missing.
  private func add(_ plan: DevicePlan) throws(NetlinkError) -> DeviceContent {
    let addition = try add(plan, stopsAtFailure: true)
    if let failure = addition.failure { throw failure }
    return addition.content
  }

  /// What a run through a plan added, and the first thing that it could not add.
  struct Addition {
    var content = DeviceContent()
    var failure: NetlinkError?
  }

  /// Adds what is planned and missing; goes on behind a failure, or not.
  ///
  /// - Throws: when not even what there is can be listed.
  func add(_ plan: DevicePlan, stopsAtFailure: Bool) throws(NetlinkError) -> Addition {
    let index = interfaceIndex
    var addition = Addition()
    let held = try netlink.use { (session) throws(NetlinkError) in
      try session.addresses(interfaceIndex: index).map(\.interfaceAddress)
    }
    for address in plan.missingAddresses(from: held) {
      do throws(NetlinkError) {
        try netlink.use { (session) throws(NetlinkError) in
          // What ends IPv6 on the link (an MTU too small, a sysctl) ends this setting too.
          if !address.address.isIPv4 { try session.disableLinkLocalAddress(index) }
          try session.addAddress(
            address.address, length: address.onLinkPrefix.length, interfaceIndex: index)
        }
      } catch {
        addition.failure = addition.failure ?? error
        if stopsAtFailure { return addition }
        continue
      }
      addition.content.addresses.append(address)
      if !added.addresses.contains(address) { added.addresses.append(address) }
    }
    // Listed after the addresses came: their on-link prefixes came with them.
    let known = try netlink.use { (session) throws(NetlinkError) in try session.routesByPrefix() }
    let missing = plan.missingPrefixes { prefix in
      known[prefix]?.contains { $0.interfaceIndex == index } == true
    }
    let owned = Set(added.prefixes)
    for prefix in missing {
      do throws(NetlinkError) {
        try netlink.use { (session) throws(NetlinkError) in
          _ = try session.addRoute(prefix, interfaceIndex: index, known: known)
        }
      } catch {
        addition.failure = addition.failure ?? error
        if stopsAtFailure { return addition }
        continue
      }
      addition.content.prefixes.append(prefix)
      if !owned.contains(prefix) { added.prefixes.append(prefix) }
    }
    return addition
  }

  /// Sets the link up, with its limits.
  ///
  /// - Returns: what it was before, where it was something else.
  @discardableResult
  private func setLink(_ mtu: Int) throws(NetlinkError) -> Link? {
    guard let link = try link() else { throw .linkMissing(action: "configuring the device") }
    let isAsWanted = link.isUp && link.mtu == mtu && link.queueLength == Self.queueLength
    guard !isAsWanted else { return nil }
    let index = interfaceIndex
    try netlink.use { (session) throws(NetlinkError) in
      try session.setLink(index, up: true, mtu: mtu, queueLength: Self.queueLength)
    }
    return link
  }

  private func restore(_ mtu: Int) {
    do throws(NetlinkError) {
      try setLink(mtu)
    } catch {
      log.error("the MTU could not be set back", metadata: ["error": "\(error)"])
    }
  }

  private func remove(except kept: DeviceContent) {
    let index = interfaceIndex
    let prefixes = Set(kept.prefixes)
    for prefix in added.prefixes where !prefixes.contains(prefix) {
      attempt { (session) throws(NetlinkError) in
        try session.removeRoute(prefix, interfaceIndex: index)
      }
    }
    added.prefixes.removeAll { !prefixes.contains($0) }
    for address in added.addresses where !kept.addresses.contains(address) {
      attempt { (session) throws(NetlinkError) in
        try session.removeAddress(
          address.address, length: address.onLinkPrefix.length, interfaceIndex: index)
      }
    }
    added.addresses.removeAll { !kept.addresses.contains($0) }
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
    added.addresses = found.0.filter { !$0.address.isLinkLocalUnicast }.map(\.interfaceAddress)
    let onLink = Set(found.0.map(\.prefix))
    added.prefixes = found.1.map(\.prefix).filter { !onLink.contains($0) }
  }
}

extension LinkAddress {
  /// The same as the configuration writes it.
  fileprivate var interfaceAddress: InterfaceAddress {
    InterfaceAddress(address: address, length: address.isIPv4 ? length - 96 : length)
  }
}
