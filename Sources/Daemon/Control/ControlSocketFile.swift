// The control socket's file: made private, replaced when stale, removed at exit.
//
// A Unix socket's file outlives its daemon when that was killed. Whether one is stale is asked of the
// kernel by connecting: refused means that nobody listens. Two daemons that start at the same moment
// on the same path can both find it stale; the second bind then wins and the first is unreachable
// there, which costs it nothing but its control socket.
//
// The mode is 0600 from the first moment because the process's umask is 0077 (see Supervisor); it is
// set again for embedders that run with another. Directory and file go to `owner`, whom the daemon
// becomes. What it may not remove then, for directories of root's, a process does that keeps root for
// nothing else (SocketFileRemover). Failures of these calls that matter show up in the bind that
// follows, which is why errno is not looked at here.

import Glibc
import Kernel
import NIOCore
import NIOPosix

struct ControlSocketFile: ~Copyable, Sendable {
  let path: String
  /// The directory that was made for it.
  private var ownDirectory: String?
  /// Where the process will not be root any more.
  private var remover: SocketFileRemover?

  init(path: String) { self.path = path }

  /// Makes the directory that is to hold the socket if it is missing; its parents must exist.
  mutating func makeDirectory(owner: FileOwner?) {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
    let directory = String(path[..<slash])
    guard mkdir(directory, 0o755) == 0 else { return }
    ownDirectory = directory
    // mkdir obeys the umask; others may look for the socket, its own mode keeps them out.
    _ = chmod(directory, 0o755)
    if let owner { _ = chown(directory, owner.user, owner.group) }
  }

  func makePrivate(owner: FileOwner?) {
    _ = chmod(path, 0o600)
    if let owner { _ = chown(path, owner.user, owner.group) }
  }

  /// Sees to it that `remove` works when the process has become somebody else. The file exists.
  mutating func keepRemovable() throws(SystemError) {
    remover = try SocketFileRemover(path: path, directory: ownDirectory)
  }

  /// Removes the file, and the directory if it was made here and nothing else is in it.
  consuming func remove() {
    if let remover = remover.take() { return remover.remove() }
    _ = unlink(path)
    if let ownDirectory { _ = rmdir(ownDirectory) }
  }

  /// Removes the directory if it was made here, for a file that could not be made.
  consuming func abandon() { if let ownDirectory { _ = rmdir(ownDirectory) } }

  /// Whether a socket lies there that nobody listens on.
  /// - Throws: when somebody does, or something else than a socket is in the way.
  func isStale(group: any EventLoopGroup) async throws(ControlError) -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0 else { return false }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw ControlError("\(path) exists and is not a socket; set daemon.control to another path")
    }
    do {
      let channel = try await ClientBootstrap(group: group).connect(unixDomainSocketPath: path)
        .get()
      try? await channel.close()
    } catch {
      return true
    }
    throw ControlError(
      "another daemon answers on \(path); stop it or set daemon.control to another path")
  }
}
