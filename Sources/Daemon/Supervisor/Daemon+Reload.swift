// SIGHUP: the new file takes the old one's place whole, or not at all.
//
// The file is parsed and checked before anything changes. The device is compared with the file as it
// is now, so that a reload also mends what others did to it. What can fail (to add device addresses and
// routes, to set the MTU) is done first and undone on failure; handing the rules to the workers cannot
// fail. What workers share of the rules is made here; each takes it in one step between two packets, and
// the old is freed here when all have. Routes that only flows of
// removed or changed rules need go when those have ended, see Daemon+Routes. A change that needs a restart
// refuses the whole reload, so that what runs is always one file and never a mixture of two.

import Configuration
import Control
import Kernel
import Logging
import Stack
import Worker

extension Daemon {
  func reload() async {
    notify { notification throws(SystemError) in
      try notification.reloading(at: MonotonicClock.now())
    }
    await stopRouteWatch()
    let isApplied = await applyFile()
    await releaseRoutes()
    startRouteWatch()
    reloads.lastWasRefused = !isApplied
    if isApplied { reloads.applied += 1 } else { reloads.refused += 1 }
    let suffix = isApplied ? "" : "; the newest reload was refused"
    notify { notification throws(SystemError) in
      try notification.ready(status: self.statusLine + suffix)
    }
  }

  /// - Returns: whether the file is what runs now.
  private func applyFile() async -> Bool {
    let outcome = ConfigurationFile.load(path)
    if let failure = outcome.readFailure {
      var fields: Logger.Metadata = ["file": "\(path)"]
      if let user = configuration.daemon.user { fields["user"] = "\(user)" }
      refuse(failure.message, fields)
      return false
    }
    for diagnostic in outcome.diagnostics { log.record(diagnostic) }
    guard let new = outcome.configuration else {
      refuse(
        "the file has errors, each in a line of its own above",
        ["file": "\(path)", "errors": "\(outcome.errors.count)"])
      return false
    }
    let difference = ReloadDifference(from: configuration, to: new)
    guard !difference.needsRestart else {
      let keys = difference.restartKeys.joined(separator: ", ")
      refuse("a change of \(keys) needs a restart", ["keys": "\(keys)"])
      return false
    }
    let leaving = leaving + leavingRules(difference)
    do {
      try await changeDevice(to: DevicePlan(new, leaving: leaving))
    } catch {
      refuse("the device cannot follow", ["error": "\(error)"])
      return false
    }
    self.leaving = leaving
    await install(new, mtu: difference.mtu)
    log.notice(
      "reloaded",
      metadata: [
        "added": "\(difference.addedRules.count)", "removed": "\(difference.removedRules.count)",
        "changed": "\(difference.changedRules.count)",
        "unchanged": "\(difference.unchangedRules.count)",
      ])
    return true
  }

  private func install(_ new: Configuration, mtu: Int?) async {
    configuration = new
    output.follow(new.daemon.log)
    let old = rules
    rules = RuleSet(new.forwards, after: old, isShared: workers.count > 1)
    post(
      .install(rules, unmatched: new.daemon.unmatched, drainTimeout: new.daemon.drainTimeout))
    keepUntilTaken(old)
    if let mtu { post(.mtu(mtu)) }
    postOwnPrefixes()
    await resolver.watch(hostNames(of: new))
    await resolver.publishAll()
  }

  /// Keeps the rules that ran until now until every worker has the new ones, so that none has to free
  /// them. A worker that hangs keeps them for ever.
  private func keepUntilTaken(_ old: RuleSet) {
    let workers = workers
    Task.detached(executorPreference: executor) {
      for worker in workers {
        await withCheckedContinuation { continuation in
          worker.post(.reached { continuation.resume() })
        }
      }
      withExtendedLifetime(old) {}
    }
  }

  private func refuse(_ why: String, _ fields: Logger.Metadata) {
    log.error("reload refused, the running rules stay: \(why)", metadata: fields)
  }
}
