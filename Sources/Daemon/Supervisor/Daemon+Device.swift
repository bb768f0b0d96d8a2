// The device as it should be: changed by reloads, put right when something got lost.
//
// The kernel tells that something changed (DeviceWatch), RepairPace says when to look, the keeper looks
// and repairs. Changes and looks are whole calls of the keeper, one after the other: a look never sees a
// change half made.

import Kernel

extension Daemon {
  /// Makes the device as planned, whatever others made of it, see `DeviceKeeper.apply`.
  func changeDevice(to plan: DevicePlan) async throws {
    guard !isEnding else { return }
    try await keeper.apply(plan)
    self.plan = plan
  }

  /// Takes from the device what a plan does not want any more.
  func shrinkDevice(to plan: DevicePlan) async throws {
    guard !isEnding else { return }
    try await keeper.shrink(to: plan)
    self.plan = plan
  }

  func startDeviceWatch() async throws {
    let watch = try await keeper.watch()
    deviceWatch = watch
    repairs = Task.detached(executorPreference: executor) { [keeper, executor] in
      var pace = RepairPace()
      for await _ in watch.changes {
        var condition: DeviceCondition
        repeat {
          await executor.sleep(for: pace.wait(at: MonotonicClock.now()))
          guard !Task.isCancelled else { return }
          condition = await keeper.look()
          pace.looked(condition, at: MonotonicClock.now())
        } while condition == .failing
        if condition == .gone { return }
      }
    }
  }

  /// Returns when nothing is looked at or repaired any more.
  func stopDeviceWatch() async {
    deviceWatch?.end()
    deviceWatch = nil
    repairs?.cancel()
    await repairs?.value
    repairs = nil
  }
}
