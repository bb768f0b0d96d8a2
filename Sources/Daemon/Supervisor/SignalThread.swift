// The signals that the daemon listens to, taken by a thread that does nothing else.
//
// They are blocked in every thread and fetched with sigwait: no handler runs, no system call anywhere is
// interrupted, and one that came during the start is still pending. (UnixSignals of the service
// lifecycle package is built on libdispatch, which the daemon keeps out of its process, see JobQueue.)
// The second signal that asks for the end is obeyed right here, whatever the rest is doing.

import Glibc
import Kernel
import Logging

package enum DaemonSignals {
  /// Blocks the signals in the calling thread and in all that it makes. Call it first: a thread that
  /// exists already could still be interrupted by them.
  package static func block() {
    var set = all
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Starts listening, to the end of the process.
  ///
  /// - Parameters:
  ///   - reload: SIGHUP came.
  ///   - end: the first SIGTERM or SIGINT came, whose name is given.
  static func listen(
    log: Logger, reload: @escaping @Sendable () -> Void, end: @escaping @Sendable (String) -> Void
  ) throws(SystemError) {
    _ = try Thread.spawn(name: "ferry-signals") {
      var set = all
      var isEnding = false
      while true {
        var signal: CInt = 0
        guard sigwait(&set, &signal) == 0 else { continue }
        if signal == SIGHUP {
          reload()
        } else if isEnding {
          log.warning("ending at once", metadata: ["signal": "\(name(signal))"])
          _exit(1)
        } else {
          isEnding = true
          end(name(signal))
        }
      }
    }
  }

  private static func name(_ signal: CInt) -> String { signal == SIGINT ? "SIGINT" : "SIGTERM" }

  private static var all: sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, signal) }
    return set
  }
}
