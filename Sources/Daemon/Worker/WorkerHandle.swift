import Kernel
import Logging
import Primitives
import Stack
import Synchronization
import TunDevice

// A worker from outside: from its start on, only the mailbox reaches it.
//
// The loop is made on its own thread, so that its memory comes from a part of the heap that no other
// worker writes to; `start` waits until that has been done, so that whatever can fail has failed before
// anything is said to run.

/// A worker as the rest of the daemon has it: a thread that owns a queue of the device, and a
/// mailbox.
package final class WorkerHandle: Sendable {
  /// What a loop is made of.
  private struct Parts: ~Copyable, Sendable {
    let settings: WorkerSettings
    let rules: RuleSet
    let queue: TunQueue
    let log: Logger
  }

  private struct Parked: ~Copyable {
    var parts: Parts?
    var thread: Thread?
  }

  private let mailbox: Mailbox
  private let parked: Mutex<Parked>
  private let name: String
  private let didFail: @Sendable (WorkerFailure) -> Void

  /// A worker that does not run yet. Packets wait in the device's queue, and messages in the mailbox.
  ///
  /// - Parameter didFail: called on the worker's thread, at most once, when the worker has ended
  ///   without being told to; the callee must not wait.
  package init(
    settings: WorkerSettings, rules: RuleSet, queue: consuming TunQueue, log: Logger,
    didFail: @escaping @Sendable (WorkerFailure) -> Void
  ) throws(SystemError) {
    self.didFail = didFail
    name = "ferry-worker-\(settings.place?.number ?? 0)"
    mailbox = try Mailbox()
    parked = Mutex(
      Parked(parts: Parts(settings: settings, rules: rules, queue: queue, log: log), thread: nil))
  }

  /// Starts the worker's thread, with the capabilities of the thread that calls, and waits until the
  /// worker is about to make its first turn.
  package func start() throws(SystemError) {
    guard let parts = parked.withLock({ $0.parts.take() }) else { return }
    let outcome = try StartOutcome()
    var thread: Thread? = try Thread.spawn(name: name, parts) { [mailbox, didFail] parts in
      do throws(SystemError) {
        var loop = try Self.loop(of: parts, mailbox)
        outcome.tell(nil)
        if let failure = loop.run() { didFail(failure) }
      } catch {
        mailbox.close()
        outcome.tell(error)
      }
    }
    if let error = try outcome.wait() { throw error }
    parked.withLock { $0.thread = thread.take() }
  }

  /// Consumes the parts, so that the thread does not hold its first rules for ever.
  private static func loop(
    of parts: consuming Parts, _ mailbox: Mailbox
  ) throws(SystemError) -> WorkerLoop {
    try WorkerLoop(
      settings: parts.settings, rules: parts.rules, queue: parts.queue, mailbox: mailbox,
      log: parts.log)
  }

  package func post(_ message: WorkerMessage) { mailbox.post(message) }

  /// Waits until the worker has returned, after `.stop`. One that was never started returns at once,
  /// and answers nobody.
  package func join() {
    let thread = parked.withLock { parked -> Thread? in
      if parked.parts.take() != nil { mailbox.close() }
      return parked.thread.take()
    }
    thread?.join()
  }
}

/// What a thread says, once, to the one that started it.
private final class StartOutcome: Sendable {
  private let error = Mutex<SystemError?>(nil)
  private let told: EventCounter

  init() throws(SystemError) { told = try EventCounter() }

  func tell(_ error: SystemError?) {
    self.error.withLock { $0 = error }
    told.signal()
  }

  func wait() throws(SystemError) -> SystemError? {
    var epoll = try Epoll()
    try epoll.add(told.number, token: 0, interests: .readable)
    while told.drain() == 0 { _ = try epoll.wait(until: nil, now: MonotonicClock.now()) }
    return error.withLock { $0 }
  }
}
