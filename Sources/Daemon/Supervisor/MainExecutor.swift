// The thread that everything of the Supervisor runs on which has none of its own: the main thread.
//
// Every task is made with this executor as its preference, so that Swift's global executor, and with
// it libdispatch's thread pool, is never started (see JobQueue for why). It keeps time as well, since
// Task.sleep would start that pool too. Between jobs and deadlines the thread waits, and
// without a sleeper it waits without a timeout.
//
// The main thread must not end before the process does: the C library does not reach a main thread
// that has exited when root is given up.

import Kernel
import Primitives
import Synchronization

final class MainExecutor: TaskExecutor {
  private struct Sleeper {
    var deadline: MonotonicInstant
    /// Nil until the sleeping task has come to rest.
    var continuation: UnsafeContinuation<Void, Never>?
    var isCancelled = false
  }

  private struct State {
    var sleepers: [UInt64: Sleeper] = [:]
    var nextIdentifier: UInt64 = 0
    var isFinished = false
  }

  private let queue = JobQueue()
  private let state = Mutex(State())

  func enqueue(_ job: consuming ExecutorJob) { queue.push(UnownedJob(job)) }

  /// Runs tasks on the calling thread until `finish`.
  func run() {
    while !state.withLock({ $0.isFinished }) {
      let next = state.withLock { $0.sleepers.values.map(\.deadline).min() }
      for job in queue.take(until: next) { job.runSynchronously(on: asUnownedTaskExecutor()) }
      wakeSleepers(at: MonotonicClock.now())
    }
  }

  /// Lets `run` return.
  func finish() {
    state.withLock { $0.isFinished = true }
    queue.wake()
  }

  /// Waits for an interval, or until the task is cancelled.
  func sleep(for interval: Interval) async {
    let deadline = MonotonicClock.now() + interval
    let identifier = state.withLock { state in
      state.nextIdentifier += 1
      state.sleepers[state.nextIdentifier] = Sleeper(deadline: deadline)
      return state.nextIdentifier
    }
    await withTaskCancellationHandler {
      await withUnsafeContinuation { continuation in
        let isCancelled = state.withLock { state in
          guard state.sleepers[identifier]?.isCancelled == false else {
            state.sleepers[identifier] = nil
            return true
          }
          state.sleepers[identifier]?.continuation = continuation
          return false
        }
        if isCancelled { continuation.resume() } else { queue.wake() }
      }
    } onCancel: {
      cancel(identifier)
    }
  }

  private func cancel(_ identifier: UInt64) {
    let continuation = state.withLock { state -> UnsafeContinuation<Void, Never>? in
      guard let sleeper = state.sleepers[identifier] else { return nil }
      guard let continuation = sleeper.continuation else {
        state.sleepers[identifier]?.isCancelled = true
        return nil
      }
      state.sleepers[identifier] = nil
      return continuation
    }
    continuation?.resume()
  }

  private func wakeSleepers(at now: MonotonicInstant) {
    let due = state.withLock { state in
      let due = state.sleepers.filter { $0.value.deadline <= now && $0.value.continuation != nil }
      for identifier in due.keys { state.sleepers[identifier] = nil }
      return due.values.compactMap(\.continuation)
    }
    for continuation in due { continuation.resume() }
  }
}
