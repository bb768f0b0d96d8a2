// Removing a socket's file after root was given up.
//
// A file goes when its directory may be written to, and a directory such as /run belongs to root. A
// thread that kept the right to write everywhere would make the daemon as good as root; so a process
// of its own keeps it, which has no memory, no descriptor and no ear in common with the daemon but one
// pipe, and knows from its birth which file it is for. It is forked, and not executed, since the
// program's file may be out of reach. Killed with the daemon or after it, it leaves the file: the next
// run replaces a file that nobody listens on.

import CLinux
import Glibc

package struct SocketFileRemover: ~Copyable, Sendable {
  private let process: CInt
  /// Our end of the pipe, a pair of sockets: writing to one whose reader is gone raises no SIGPIPE.
  private let pipe: CInt

  /// Starts the process, which has the caller's rights from now on.
  ///
  /// - Parameters:
  ///   - path: a socket's file, which exists.
  ///   - directory: goes with the file when it is empty then.
  package init(path: String, directory: String?) throws(SystemError) {
    var ends: [CInt] = [-1, -1]
    let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw SystemError(.socketpair) }
    let reading = Descriptor(adopting: ends[0])
    let writing = Descriptor(adopting: ends[1])
    let answer =
      if let directory {
        clinux_start_remover(reading.number, path, directory)
      } else {
        clinux_start_remover(reading.number, path, nil)
      }
    process = try SystemError.check(answer, .fork)
    pipe = writing.release()
  }

  // The end of the pipe is the process's end.
  deinit {
    close(pipe)
    _ = clinux_await_process(process)
  }

  /// Removes file and directory, and returns when that is done.
  package consuming func remove() {
    var word: UInt8 = 1
    _ = send(pipe, &word, 1, CInt(MSG_NOSIGNAL))
  }
}
