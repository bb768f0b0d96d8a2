// Routes that outlive their rules.
//
// Flows of a rule that a reload removed or changed go on, and the host must go on to route their
// addresses into the device. Which of those rules still have flows is known to the workers alone, so
// they are asked: after each reload and, while any such rule has flows, again and again, less and less
// often. With none there is no timer.

import Configuration
import Logging
import Primitives
import Worker

extension Daemon {
  /// The first wait for flows of rules that are gone, and the longest.
  private static let watchIntervalMin = Interval.milliseconds(250)
  private static let watchIntervalMax = Interval.seconds(5)

  /// The rules that a reload takes away, of the configuration that still runs.
  func leavingRules(_ difference: ReloadDifference) -> [LeavingRule] {
    let known = Set(leaving)
    return (difference.removedRules + difference.changedRules.map(\.old)).map {
      LeavingRule($0, of: configuration)
    }.filter { !known.contains($0) }
  }

  /// Takes back what only rules without flows needed.
  func releaseRoutes() async {
    guard !leaving.isEmpty else { return }
    let retired = await snapshots().flatMap(\.rules).filter { $0.retired && $0.activeFlows > 0 }
    let used = Set(retired.map { [$0.name, $0.listen] })
    leaving.removeAll { !used.contains([$0.name, $0.listen]) }
    let plan = DevicePlan(configuration, leaving: leaving)
    guard plan != self.plan else { return }
    do {
      try await shrinkDevice(to: plan)
    } catch {
      log.warning("routes of removed rules stay", metadata: ["error": "\(error)"])
    }
    postOwnPrefixes()
  }

  /// Tells the workers what leads back into the device.
  func postOwnPrefixes() {
    post(.ownPrefixes(plan.ownPrefixes, addresses: plan.addresses))
  }

  func startRouteWatch() {
    guard !leaving.isEmpty, !isEnding else { return }
    routeWatch = Task.detached(executorPreference: executor) { [weak self, executor] in
      var interval = Self.watchIntervalMin
      while true {
        await executor.sleep(for: interval)
        guard !Task.isCancelled, let self else { return }
        await self.releaseRoutes()
        guard await !self.leaving.isEmpty else { return }
        interval = min(interval + interval, Self.watchIntervalMax)
      }
    }
  }

  /// Returns when the watch has ended: it and a reload do not both change the device.
  func stopRouteWatch() async {
    let watch = routeWatch
    routeWatch = nil
    watch?.cancel()
    await watch?.value
  }
}
