import Configuration
import Kernel
import Logging
import Synchronization
import TunDevice

// A worker from outside. The loop is made here, so that whatever can fail fails before anything runs,
// and then moved to its own thread; from then on only the mailbox reaches it.

/// A worker as the rest of the daemon has it: a thread that owns a queue of the device, and a
/// mailbox.
package final class WorkerHandle: Sendable {
  private struct Parked: ~Copyable {
    var loop: WorkerLoop?
    var thread: Thread?
  }

  private let mailbox: Mailbox
  private let parked: Mutex<Parked>

  private let didFail: @Sendable (WorkerFailure) -> Void

  /// Makes a worker that does not run yet. Packets wait in the device's queue.
  ///
  /// - Parameter didFail: called on the worker's thread, at most once, when the worker has ended
  ///   without being told to; the callee must not wait.
  package init(
    settings: WorkerSettings, rules: [ForwardRule], queue: consuming TunQueue, log: Logger,
    didFail: @escaping @Sendable (WorkerFailure) -> Void
  ) throws(SystemError) {
    self.didFail = didFail
    let mailbox = try Mailbox()
    self.mailbox = mailbox
    let loop = try WorkerLoop(
      settings: settings, rules: rules, queue: queue, mailbox: mailbox, log: log)
    parked = Mutex(Parked(loop: loop, thread: nil))
  }

  /// Starts the worker's thread, with the capabilities of the thread that calls.
  package func start() throws(SystemError) {
    let didFail = didFail
    let result = parked.withLock { parked -> SystemError? in
      guard let loop = parked.loop.take() else { return nil }
      do throws(SystemError) {
        parked.thread = try Thread.spawn(name: "portferry-worker", loop) { loop in
          var loop = loop
          if let failure = loop.run() { didFail(failure) }
        }
        return nil
      } catch {
        return error
      }
    }
    if let result { throw result }
  }

  package func post(_ message: WorkerMessage) { mailbox.post(message) }

  /// Waits until the worker has returned, after `.stop`. One that was never started returns at once,
  /// and answers nobody.
  package func join() {
    let thread = parked.withLock { parked -> Thread? in
      if parked.loop.take() != nil { mailbox.close() }
      return parked.thread.take()
    }
    thread?.join()
  }
}
