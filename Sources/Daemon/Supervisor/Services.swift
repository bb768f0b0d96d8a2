// The daemon's long-running tasks, as services of one group.
//
// EndingService ends with the first SIGTERM or SIGINT, or when a worker cannot go on, which shuts the
// group down; DaemonService then takes everything down and ends last. A second SIGTERM or SIGINT ends the process at once: the
// kernel closes what is open, and a device that is not kept goes with it. None of these wakes up by
// itself but the watchdog, which exists only where the service manager asked for it.

import Kernel
import Logging
import Primitives
import ServiceLifecycle
import Synchronization
import Worker

/// Ends with the first reason for the daemon's end.
final class EndingService: Service {
  private let endings: AsyncStream<DaemonEnd>
  private let device: String
  private let log: Logger
  private let found = Mutex(DaemonEnd.signal("SIGTERM"))

  init(endings: AsyncStream<DaemonEnd>, device: String, log: Logger) {
    self.endings = endings
    self.device = device
    self.log = log
  }

  /// The reason, once there was one.
  var reason: DaemonEnd { found.withLock { $0 } }

  func run() async {
    for await end in endings {
      found.withLock { $0 = end }
      switch end {
      case .signal(let signal): log.notice("ending", metadata: ["signal": "\(signal)"])
      case .failure(.device(let error)):
        log.critical(
          "the device \(device) was deleted or cannot be read any more, ending",
          metadata: ["error": "\(error.map(\.description) ?? "end of stream")"])
      case .failure(.waiting(let error)):
        log.critical("a worker cannot wait for packets, ending", metadata: ["error": "\(error)"])
      }
      return
    }
  }
}

struct ReloadService: Service {
  let daemon: Daemon
  let requests: AsyncStream<Void>
  let continuation: AsyncStream<Void>.Continuation

  func run() async {
    // Not `cancelOnGracefulShutdown`: it makes a task of its own on the global executor.
    await withGracefulShutdownHandler {
      for await _ in requests { await daemon.reload() }
    } onGracefulShutdown: {
      continuation.finish()
    }
  }
}

struct DaemonService: Service {
  let daemon: Daemon

  func run() async {
    // Throws only when the task is cancelled, which means the same here.
    try? await gracefulShutdown()
    await daemon.stop()
  }
}

/// Tells the service manager that the workers answer; silence makes it restart the daemon.
struct WatchdogService: Service {
  let daemon: Daemon
  let notification: ServiceNotification
  let interval: Interval
  let executor: MainExecutor
  let log: Logger

  func run() async {
    await cancelWhenGracefulShutdown {
      // Two signs of life in an interval: one that comes late is no reason for a restart.
      while !Task.isCancelled {
        await executor.sleep(for: Interval(nanoseconds: interval.nanoseconds / 2))
        guard !Task.isCancelled, await daemon.workersAnswer() else { continue }
        do throws(SystemError) {
          try notification.watchdog()
        } catch {
          log.warning("the watchdog could not be told", metadata: ["error": "\(error)"])
        }
      }
    }
  }
}
