// `portferry run`, from the path of a file to the end of the process.

import Configuration
import Kernel
import Logging
import ServiceLifecycle
import Synchronization

package enum Supervisor {
  /// Runs the daemon in the foreground until it is told to end; the calling thread, which must be the
  /// main one, is used for it.
  ///
  /// `DaemonSignals.block` must have been called before the first thread was made: a signal that comes
  /// during the start waits until the daemon listens for it.
  ///
  /// - Parameter path: the configuration file, now and at every reload.
  /// - Throws: why it could not start.
  package static func run(path: String) throws(StartFailure) {
    let outcome = Mutex<StartFailure?>(nil)
    let executor = MainExecutor()
    Task.detached(executorPreference: executor) {
      do throws(StartFailure) {
        try await runServices(path: path, executor: executor)
      } catch {
        outcome.withLock { $0 = error }
      }
      executor.finish()
    }
    executor.run()
    if let failure = outcome.withLock({ $0 }) { throw failure }
  }

  private static func runServices(
    path: String, executor: MainExecutor
  ) async throws(StartFailure) {
    let outcome = ConfigurationFile.load(path)
    guard let configuration = outcome.configuration else { throw StartFailure(outcome) }
    let output = LogOutput(configuration.daemon.log)
    let log = output.logger("supervisor")
    for warning in outcome.warnings { log.record(warning) }
    let daemon = try await Daemon.start(
      path: path, configuration: configuration, output: output, executor: executor)
    // Two SIGHUPs during one reload are one more reload.
    let (reloads, requests) = AsyncStream.makeStream(
      of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let (ends, endings) = AsyncStream.makeStream(of: String.self)
    var services: [any Service] = [
      DaemonService(daemon: daemon),
      ReloadService(daemon: daemon, requests: reloads, continuation: requests),
      SignalService(endings: ends, log: log),
    ]
    if let notification = ServiceNotification(), let interval = notification.watchdogInterval {
      services.append(
        WatchdogService(
          daemon: daemon, notification: notification, interval: interval, executor: executor,
          log: log))
    }
    do {
      try DaemonSignals.listen(
        log: log, reload: { requests.yield() }, end: { endings.yield($0) })
      try await group(services, log: output.logger("lifecycle")).run()
    } catch {
      // No service throws: there was no thread for the signals.
      await daemon.stop()
      throw StartFailure(error)
    }
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
