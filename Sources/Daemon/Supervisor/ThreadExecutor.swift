// An actor's thread.
//
// Two kinds of work need a thread of their own: what waits in the kernel without an end that we set
// (getaddrinfo, joining a worker), which would hold up everything else, and what depends on the
// thread itself (capabilities belong to a thread, see Privileges). An actor that names this executor
// runs there and nowhere else. Without work the thread waits without a timeout. It lives as long as the
// process: nothing here is made more than once.

import Kernel

final class ThreadExecutor: SerialExecutor {
  private let queue = JobQueue()

  /// - Parameter name: shown by ps and top.
  init(name: String) throws(SystemError) {
    // The thread keeps the executor alive, and is let go of: it ends with the process.
    _ = try Thread.spawn(name: name) { [self] in run() }
  }

  func enqueue(_ job: consuming ExecutorJob) { queue.push(UnownedJob(job)) }

  private func run() -> Never {
    while true {
      for job in queue.take(until: nil) { job.runSynchronously(on: asUnownedSerialExecutor()) }
    }
  }
}
