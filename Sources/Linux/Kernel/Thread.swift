// Threads of our own, for loops that wait in the kernel.
//
// Workers do not run on Swift's cooperative pool: they block. Every signal is blocked in them, so that
// signals reach the thread that the supervisor means, and no call here is interrupted.

import CLinux
import Glibc

/// A running thread. Join it; one that is dropped instead runs on, on its own.
package struct Thread: ~Copyable, Sendable {
  private let handle: pthread_t

  deinit { pthread_detach(handle) }

  /// Starts a thread that runs `body` on `context` and ends.
  ///
  /// - Parameters:
  ///   - name: shown by ps and top; cut to 15 octets.
  ///   - context: moved to the thread; what a worker owns.
  package static func spawn<Context: ~Copyable>(
    name: String, _ context: consuming sending Context,
    _ body: @escaping @Sendable (consuming Context) -> Void
  ) throws(SystemError) -> Thread {
    let moved = UnsafeMutablePointer<Context>.allocate(capacity: 1)
    moved.initialize(to: context)
    // The one address crosses to the thread, which takes both the value and the memory over.
    let address = UInt(bitPattern: moved)
    do throws(SystemError) {
      return try spawn(name: name) {
        guard let moved = UnsafeMutablePointer<Context>(bitPattern: address) else { return }
        let context = moved.move()
        moved.deallocate()
        body(context)
      }
    } catch {
      moved.deinitialize(count: 1)
      moved.deallocate()
      throw error
    }
  }

  /// Starts a thread that runs `body` and ends.
  package static func spawn(
    name: String, _ body: @escaping @Sendable () -> Void
  ) throws(SystemError) -> Thread {
    let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
    // A thread inherits its maker's mask: blocked here, no signal can slip in before it runs.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, &before)
    var handle = pthread_t()
    let code = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        _ = clinux_name_thread(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    pthread_sigmask(SIG_SETMASK, &before, nil)
    guard code == 0 else {
      start.release()
      throw SystemError(code: code, call: .createThread)
    }
    return Thread(handle: handle)
  }

  /// Processors that the calling thread may run on.
  package static var processors: Int { Int(clinux_processors()) }

  /// The processor that the calling thread runs on just now.
  package static var currentProcessor: Int { Int(clinux_current_processor()) }

  /// Waits until the thread has ended.
  package consuming func join() {
    let handle = self.handle
    discard self
    pthread_join(handle, nil)
  }
}

/// A thread as the scheduler knows it.
package struct ThreadNumber: BitwiseCopyable, Sendable {
  private let number: CInt

  /// The calling thread.
  package static var current: ThreadNumber { ThreadNumber(number: clinux_thread_number()) }

  /// Lets the thread run on the processors that the calling one may run on, but for one. Best effort: where
  /// that leaves none, all is as it was.
  package func keepOff(_ processor: Int) { _ = clinux_keep_off(number, CInt(processor)) }
}

private final class ThreadStart: Sendable {
  let name: String
  let body: @Sendable () -> Void

  init(name: String, body: @escaping @Sendable () -> Void) {
    var octets = Array(name.utf8.prefix(15))
    while String(validating: octets, as: UTF8.self) == nil { octets.removeLast() }
    self.name = String(decoding: octets, as: UTF8.self)
    self.body = body
  }
}
