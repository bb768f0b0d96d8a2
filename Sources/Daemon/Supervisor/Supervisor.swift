// `portferry run`, from the path of a file to the end of the process.

import Configuration
import Kernel
import Logging
import ServiceLifecycle
import Synchronization
import Worker

/// Why the daemon ended that had started.
package enum DaemonEnd: Sendable, Equatable {
  /// The name of the signal that asked for it.
  case signal(String)
  /// It could not go on; the log says why.
  case failure(WorkerFailure)
}

package enum Supervisor {
  /// Runs the daemon in the foreground until it is told to end; the calling thread, which must be the
  /// main one, is used for it.
  ///
  /// `DaemonSignals.block` must have been called before the first thread was made: a signal that comes
  /// during the start waits until the daemon listens for it.
  ///
  /// - Parameter path: the configuration file, now and at every reload.
  /// - Returns: why it ended.
  /// - Throws: why it could not start.
  package static func run(path: String) throws(StartFailure) -> DaemonEnd {
    ResidentMemory.keepLittleFreed()
    let outcome = Mutex<Result<DaemonEnd, StartFailure>?>(nil)
    let executor = MainExecutor()
    Task.detached(executorPreference: executor) {
      do throws(StartFailure) {
        let end = try await runServices(path: path, executor: executor)
        outcome.withLock { $0 = .success(end) }
      } catch {
        outcome.withLock { $0 = .failure(error) }
      }
      executor.finish()
    }
    executor.run()
    guard let outcome = outcome.withLock({ $0 }) else {
      throw StartFailure("the daemon ended without a word")
    }
    return try outcome.get()
  }

  private static func runServices(
    path: String, executor: MainExecutor
  ) async throws(StartFailure) -> DaemonEnd {
    let outcome = ConfigurationFile.load(path)
    guard let configuration = outcome.configuration else { throw StartFailure(outcome) }
    let output = LogOutput(configuration.daemon.log)
    let log = output.logger("supervisor")
    for warning in outcome.warnings { log.record(warning) }
    let (ends, endings) = AsyncStream.makeStream(of: DaemonEnd.self)
    let daemon = try await Daemon.start(
      path: path, configuration: configuration, output: output, executor: executor,
      workerFailed: { endings.yield(.failure($0)) })
    // Two SIGHUPs during one reload are one more reload.
    let (reloads, requests) = AsyncStream.makeStream(
      of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let ending = EndingService(endings: ends, device: configuration.device.name, log: log)
    var services: [any Service] = [
      DaemonService(daemon: daemon),
      ReloadService(daemon: daemon, requests: reloads, continuation: requests),
      ending,
    ]
    if let notification = ServiceNotification(), let interval = notification.watchdogInterval {
      services.append(
        WatchdogService(
          daemon: daemon, notification: notification, interval: interval, executor: executor,
          log: log))
    }
    do {
      try DaemonSignals.listen(
        log: log, reload: { requests.yield() }, end: { endings.yield(.signal($0)) })
      ResidentMemory.forgetCode()  // that of the start
      try await group(services, log: output.logger("lifecycle")).run()
    } catch {
      // No service throws: there was no thread for the signals.
      await daemon.stop()
      throw StartFailure(error)
    }
    return ending.reason
  }

  /// The end of any service is the end of the daemon.
  private static func group(_ services: [any Service], log: Logger) -> ServiceGroup {
    ServiceGroup(
      configuration: ServiceGroupConfiguration(
        services: services.map { service in
          ServiceGroupConfiguration.ServiceConfiguration(
            service: service, successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .gracefullyShutdownGroup)
        }, logger: log))
  }
}
