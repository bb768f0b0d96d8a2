// A device's queue that overflows: noticed, told, and answered by smaller windows.
//
// The kernel drops what it finds no room for in the queue, and counts it. Only when a worker falls behind,
// having found more packets than one of its turns takes, is that count read, some times a second: on a
// host with little traffic nothing wakes up here. When it has grown, every worker offers its clients
// less for a while (WindowCap), and the log says so, once a minute at most.

import Kernel
import Logging
import Primitives
import Worker

extension Daemon {
  /// Between two looks at the count.
  private static let overflowPause = Interval.milliseconds(250)
  /// Between two lines of the log.
  private static let overflowSilence = Interval.seconds(60)

  /// - Returns: what a worker calls that falls behind.
  func startOverflowWatch() async -> @Sendable () -> Void {
    let (calls, call) = AsyncStream.makeStream(
      of: Void.self, bufferingPolicy: .bufferingNewest(1))
    var known = await keeper.droppedPackets()
    overflowWatch = Task.detached(executorPreference: executor) { [weak self, keeper, executor] in
      for await _ in calls {
        let count = await keeper.droppedPackets()
        if let known, let count, count > known { await self?.deviceOverflowed(count - known) }
        known = count ?? known
        await executor.sleep(for: Self.overflowPause)
      }
    }
    return { call.yield() }
  }

  private func deviceOverflowed(_ packets: UInt64) {
    guard !isEnding else { return }
    post(.deviceOverflowed)
    untoldDrops += packets
    let now = MonotonicClock.now()
    guard overflowToldAt.map({ now - $0 >= Self.overflowSilence }) ?? true else { return }
    log.warning(
      "the device's queue overflows: the kernel drops packets, and clients are offered smaller windows",
      metadata: ["packets": "\(untoldDrops)"])
    overflowToldAt = now
    untoldDrops = 0
  }

  func stopOverflowWatch() async {
    overflowWatch?.cancel()
    await overflowWatch?.value
    overflowWatch = nil
  }
}
