// The daemon's life: what is opened in which order, and taken down in the opposite one.
//
//   configuration → device with addresses and routes → workers → status server → privileges
//   → workers' threads → ready
//
// Nothing is half started: a step that fails takes down what the earlier ones made and says why in
// one sentence. The data path belongs to the workers and is touched from here by messages only; a worker
// that cannot go on is told to `workerFailed`, which ends the daemon. Reloads are in Daemon+Reload,
// routes that outlive their rules in Daemon+Routes, what the device loses meanwhile in Daemon+Device, its
// queue that overflows in Daemon+Overflow.

import Configuration
import Control
import Glibc
import Kernel
import Logging
import Primitives
import Stack
import TunDevice
import Worker

actor Daemon {
  /// Descriptors besides those of flows: log, status connections, configuration, and four of each
  /// worker.
  private static func reservedDescriptors(workers: Int) -> Int { max(256, 128 + 4 * workers) }

  let path: String
  let output: LogOutput
  let log: Logger
  let notification: ServiceNotification?
  let resolver: NameResolver
  let executor: MainExecutor
  let keeper: DeviceKeeper
  private let workerFailed: @Sendable (WorkerFailure) -> Void
  private var identity: StatusReport.Identity
  private let startedAt = MonotonicClock.now()
  private(set) var workers: [WorkerHandle] = []
  private var control: ControlServer?

  /// What runs now.
  var configuration: Configuration
  /// Its rules as the workers have them.
  var rules = RuleSet([])
  var reloads = StatusReport.Reloads()
  private(set) var isEnding = false
  /// What the device is to have now.
  var plan: DevicePlan
  /// Tells of changes of the device, and the task that puts it right.
  var deviceWatch: DeviceWatch?
  var repairs: Task<Void, Never>?
  /// Looks whether the device's queue overflows when a worker falls behind.
  var overflowWatch: Task<Void, Never>?
  /// Packets that were lost so since the log was told.
  var untoldDrops: UInt64 = 0
  var overflowToldAt: MonotonicInstant?
  /// Rules that are gone from the configuration and may still have flows.
  var leaving: [LeavingRule] = []
  /// Runs while `leaving` has any.
  var routeWatch: Task<Void, Never>?

  /// Starts the daemon on a configuration; when this returns, packets are carried.
  ///
  /// - Parameter workerFailed: called from any thread when a worker cannot go on.
  static func start(
    path: String, configuration: Configuration, output: LogOutput, executor: MainExecutor,
    workerFailed: @escaping @Sendable (WorkerFailure) -> Void
  ) async throws(StartFailure) -> Daemon {
    do {
      let daemon = try Daemon(
        path: path, configuration: configuration, output: output, executor: executor,
        workerFailed: workerFailed)
      do {
        try await daemon.bringUp()
      } catch {
        await daemon.takeDown()
        throw error
      }
      return daemon
    } catch {
      throw StartFailure(error)
    }
  }

  private init(
    path: String, configuration: Configuration, output: LogOutput, executor: MainExecutor,
    workerFailed: @escaping @Sendable (WorkerFailure) -> Void
  ) throws {
    self.path = path
    self.executor = executor
    self.configuration = configuration
    self.workerFailed = workerFailed
    plan = DevicePlan(configuration)
    self.output = output
    log = output.logger("supervisor")
    notification = ServiceNotification()
    keeper = try DeviceKeeper(log: output.logger("device"))
    let audience = WorkerAudience()
    self.audience = audience
    resolver = NameResolver(log: output.logger("names"), executor: executor) { name, addresses in
      audience.post(.resolved(name: name, addresses: addresses))
    }
    identity = StatusReport.Identity(
      version: portferryVersion, device: configuration.device.name,
      flowCountMax: configuration.daemon.maxFlows, startedAt: UTCTime.now().milliseconds / 1000)
  }

  /// Who hears of resolved names; the resolver exists before the workers do.
  private let audience: WorkerAudience

  private func bringUp() async throws {
    // The control socket must not be anybody else's for a moment, see ControlSocketFile.
    umask(0o077)
    let account = try configuration.daemon.user.map { name throws(StartFailure) in
      guard let account = UserAccount.find(name) else {
        throw StartFailure(PrivilegesError.unknownUser(name))
      }
      return account
    }
    let queues = configuration.workers(cores: Thread.processors)
    let openFiles = try raiseDescriptorBound(workers: queues)
    let opened = try await keeper.open(configuration, queues: queues)
    try await startDeviceWatch()
    let fallsBehind = await startOverflowWatch()
    try makeWorkers(opened, fallsBehind: fallsBehind)
    let endpoints = ControlEndpoints(
      status: configuration.daemon.status, control: configuration.daemon.control,
      owner: account?.owner)
    if endpoints.status != nil || endpoints.control != nil {
      control = try await ControlServer.start(
        endpoints,
        source: { [weak self, executor] answer in
          Task.detached(executorPreference: executor) {
            if let report = await self?.report() { answer(report) }
          }
        }, log: output.logger("control"))
    }
    if let account { try await keeper.dropPrivileges(to: account.name) }
    try await keeper.start(workers)
    await resolver.watch(hostNames(of: configuration))
    tellBound(openFiles, workers: queues)
    var fields: Logger.Metadata = [
      "version": "\(portferryVersion)", "device": "\(configuration.device.name)",
      "workers": "\(workers.count)",
      "rules": "\(configuration.forwards.count)",
    ]
    if let page = configuration.pageURL { fields["page"] = "\(page)" }
    log.notice("ready", metadata: fields)
    notify { notification throws(SystemError) in try notification.ready(status: self.statusLine) }
  }

  /// Sets how many flows there are descriptors for, at most those configured.
  ///
  /// - Returns: how many open files are allowed.
  private func raiseDescriptorBound(workers: Int) throws(SystemError) -> Int {
    let flows = configuration.daemon.maxFlows
    let reserved = Self.reservedDescriptors(workers: workers)
    let granted = try ResourceLimits.raiseOpenFiles(to: flows + reserved)
    identity.flowCountMax = min(flows, max(workers, granted - reserved))
    return granted
  }

  /// Not before the start has succeeded: a failure is one sentence.
  private func tellBound(_ granted: Int, workers: Int) {
    let wanted = configuration.daemon.maxFlows + Self.reservedDescriptors(workers: workers)
    guard granted < wanted else { return }
    log.warning(
      "fewer open files are allowed than daemon.max_flows needs: new clients wait when those are used",
      metadata: [
        "allowed": "\(granted)", "wanted": "\(wanted)", "flows": "\(identity.flowCountMax)",
      ])
  }

  /// Makes a worker for each queue; the keeper starts their threads: packets and messages wait until
  /// then. Flows are divided evenly: a flow table is one worker's own, and so are its descriptors.
  private func makeWorkers(
    _ opened: consuming DeviceKeeper.Opened, fallsBehind: @escaping @Sendable () -> Void
  ) throws(SystemError) {
    let count = opened.device.queueCount
    let maxFlows = identity.flowCountMax
    var handOvers: [HandOver] = []
    if opened.steering != nil { for _ in 0..<count { handOvers.append(try HandOver()) } }
    rules = RuleSet(configuration.forwards, isShared: count > 1)
    // The same for all: sequence numbers and timestamps of a five-tuple go on where the last conversation's
    // ended, wherever that lived (RFC 6528, RFC 7323 §7.1).
    let seed = (try Entropy.word(), try Entropy.word())
    for number in 0..<count {
      let settings = WorkerSettings(
        mtu: configuration.device.mtu,
        maxFlows: max(1, maxFlows / count + (number < maxFlows % count ? 1 : 0)),
        unmatched: configuration.daemon.unmatched,
        drainTimeout: configuration.daemon.drainTimeout,
        seed: seed, ownPrefixes: plan.ownPrefixes, ownAddresses: plan.addresses,
        place: opened.steering.map {
          WorkerPlace(steering: $0, number: number, handOvers: handOvers)
        }, fallsBehind: fallsBehind)
      let worker = try WorkerHandle(
        settings: settings, rules: rules, queue: opened.device.takeQueue(number),
        log: output.logger("worker"), didFail: workerFailed)
      workers.append(worker)
      audience.add(worker)
    }
  }

  /// Ends the daemon: everything that it added is gone when this returns.
  func stop() async {
    notify { notification throws(SystemError) in try notification.stopping() }
    await takeDown()
    log.notice("ended")
  }

  private func takeDown() async {
    isEnding = true
    await stopDeviceWatch()
    await stopOverflowWatch()
    await stopRouteWatch()
    await resolver.stop()
    await control?.stop()
    control = nil
    let ending = workers
    workers = []
    audience.removeAll()
    for worker in ending { worker.post(.stop) }
    for worker in ending { await keeper.run { worker.join() } }
    await keeper.tearDown()
  }

  func post(_ message: WorkerMessage) { audience.post(message) }

  /// A line for `systemctl status`.
  var statusLine: String {
    "\(configuration.forwards.count) rules on \(configuration.device.name)"
  }

  /// Tells the service manager, where there is one; that it cannot be told stops nothing.
  func notify(_ body: (ServiceNotification) throws(SystemError) -> Void) {
    guard let notification else { return }
    do throws(SystemError) {
      try body(notification)
    } catch {
      log.warning("the service manager could not be told", metadata: ["error": "\(error)"])
    }
  }
}

extension Daemon {
  /// The daemon as of now. Waits for the workers; never returns when one hangs. Workers that have
  /// ended are missing.
  func report() async -> StatusReport {
    let snapshots = await snapshots()
    return StatusReport(
      identity: identity, uptime: MonotonicClock.now() - startedAt, reloads: reloads,
      unresolvedNames: await resolver.unresolved, workers: snapshots,
      droppedPackets: await keeper.droppedPackets())
  }

  /// Returns once every worker has made a turn, or has none to make; never when one hangs.
  func workersAnswer() async -> Bool { await snapshots().count == workers.count }

  func snapshots() async -> [WorkerSnapshot] {
    var snapshots: [WorkerSnapshot] = []
    for worker in workers {
      let snapshot = await withCheckedContinuation { continuation in
        worker.post(.snapshot { continuation.resume(returning: $0) })
      }
      if let snapshot { snapshots.append(snapshot) }
    }
    return snapshots
  }
}

/// The host names that rules lead to.
func hostNames(of configuration: Configuration) -> Set<String> {
  var names: Set<String> = []
  for rule in configuration.forwards {
    if case .name(let name) = rule.target.host { names.insert(name) }
  }
  return names
}
