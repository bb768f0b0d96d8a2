// Failed system calls as values.
//
// This module is the only one that reads `errno`, and it does so right behind the call. Both halves
// of an error are plain numbers, so that one fits a register, costs nothing to pass up from the hot
// path, and becomes text only where somebody reads it. Outcomes that belong to normal work
// (nothing to read, end of stream) are no errors: see `Transfer`.

import Glibc

/// The system calls that a `SystemError` can name.
package enum SystemCall: String, Sendable, BitwiseCopyable {
  case accept, bind, capset, close, connect, getrandom, getrlimit, getsockname, getsockopt, ioctl
  case fcntl, fork, listen, mmap, open, prctl, read, readv, recvfrom, recvmmsg, recvmsg, send
  case sendmmsg, sendmsg, sendto, setgroups, setns, setresgid, setresuid, setrlimit, setsockopt
  case shutdown, socket, socketpair, stat, unlink, unshare, write, writev
  case epollCreate = "epoll_create1"
  case epollControl = "epoll_ctl"
  case epollWait = "epoll_pwait2"
  case eventCounter = "eventfd"
  case createThread = "pthread_create"
  case userLookup = "getpwnam_r"
  case tunAttach = "TUNSETIFF"
  case tunFeatures = "TUNGETFEATURES"
  case tunHeader = "TUNSETVNETHDRSZ"
  case tunOffload = "TUNSETOFFLOAD"
  case tunPersist = "TUNSETPERSIST"
  case tunSteering = "TUNSETSTEERINGEBPF"
  case mapCreate = "bpf(BPF_MAP_CREATE)"
  case programLoad = "bpf(BPF_PROG_LOAD)"
  case programRun = "bpf(BPF_PROG_TEST_RUN)"
  case netlink = "rtnetlink"
  /// Not a call: an error that the network reported later (SO_ERROR).
  case pending = "socket error"
}

/// An error number and the call that returned it.
package struct SystemError: Error, Hashable, Sendable, BitwiseCopyable {
  /// The error number, positive.
  package var code: CInt
  package var call: SystemCall

  package init(code: CInt, call: SystemCall) {
    self.code = code
    self.call = call
  }

  /// The calling thread's `errno`, read at once.
  init(_ call: SystemCall) { self.init(code: errno, call: call) }

  /// Checks the answer of a shim of CLinux: its result, or the negated error number thrown.
  package static func check(
    _ answer: CInt, _ call: SystemCall
  ) throws(SystemError) -> CInt {
    guard answer >= 0 else { throw SystemError(code: -answer, call: call) }
    return answer
  }

  /// The peer, or the host on its behalf, said no: the port is closed.
  package var isRefused: Bool { code == ECONNREFUSED }
  /// There is no way to the host or it does not answer at the link.
  package var isUnreachable: Bool {
    code == ENETUNREACH || code == EHOSTUNREACH || code == EHOSTDOWN || code == ENETDOWN
      || code == ENONET
  }
  /// No route, as opposed to a host that does not answer.
  package var isNetworkUnreachable: Bool { code == ENETUNREACH || code == ENETDOWN }
  /// The kernel gave up waiting for the peer.
  package var isTimedOut: Bool { code == ETIMEDOUT }
  /// The peer cut the connection.
  package var isReset: Bool { code == ECONNRESET || code == EPIPE }
  /// The process lacks a capability or a file permission, or a firewall forbids it.
  package var isNotPermitted: Bool { code == EPERM || code == EACCES }
  /// The process or the system is out of descriptors.
  package var isOutOfDescriptors: Bool { code == EMFILE || code == ENFILE }
  /// No local port is left for this target.
  package var isOutOfPorts: Bool { code == EADDRNOTAVAIL }
  /// The kernel is out of buffers; trying later can help.
  package var isOutOfMemory: Bool { code == ENOBUFS || code == ENOMEM }
  /// The user's bound on watched descriptors is reached (proc_sys_fs(5), epoll/max_user_watches).
  package var isOutOfWatches: Bool { code == ENOSPC }
  /// A datagram larger than the path or the protocol takes.
  package var isMessageTooLong: Bool { code == EMSGSIZE }
  package var isMissing: Bool { code == ENOENT }
  package var isDeviceMissing: Bool { code == ENODEV || code == ENXIO }
  package var alreadyExists: Bool { code == EEXIST }
  package var isBusy: Bool { code == EBUSY }
  package var isInvalid: Bool { code == EINVAL }
  package var isUnsupported: Bool { code == ENOSYS || code == EOPNOTSUPP }
  package var isInputOutput: Bool { code == EIO }
  package var isInterrupted: Bool { code == EINTR }
  /// The address is taken by another socket.
  package var isAddressInUse: Bool { code == EADDRINUSE }
}

extension SystemError: CustomStringConvertible {
  /// "connect: Connection refused (ECONNREFUSED)"
  package var description: String { "\(call.rawValue): \(reason)" }

  /// "Connection refused (ECONNREFUSED)"
  package var reason: String {
    guard let words = strerror(code) else { return "error \(code)" }
    let text = String(cString: words)
    guard let symbol = Self.symbols[code] else { return "\(text) (\(code))" }
    return "\(text) (\(symbol))"
  }

  // glibc's own table (strerrorname_np) is hidden from Swift by a feature macro.
  private static let symbols: [CInt: String] = [
    EPERM: "EPERM", ENOENT: "ENOENT", EINTR: "EINTR", EIO: "EIO", ENXIO: "ENXIO", EBADF: "EBADF",
    EAGAIN: "EAGAIN", ENOMEM: "ENOMEM", EACCES: "EACCES", EFAULT: "EFAULT", EBUSY: "EBUSY",
    EEXIST: "EEXIST", ENODEV: "ENODEV", ENOTDIR: "ENOTDIR", EISDIR: "EISDIR", EINVAL: "EINVAL",
    ENFILE: "ENFILE", EMFILE: "EMFILE", ENOTTY: "ENOTTY", ENOSPC: "ENOSPC", EPIPE: "EPIPE",
    ERANGE: "ERANGE", E2BIG: "E2BIG",
    ENAMETOOLONG: "ENAMETOOLONG", ENOSYS: "ENOSYS", ELOOP: "ELOOP", ENONET: "ENONET",
    EPROTO: "EPROTO", EBADFD: "EBADFD", ENOTSOCK: "ENOTSOCK", EDESTADDRREQ: "EDESTADDRREQ",
    EMSGSIZE: "EMSGSIZE", ENOPROTOOPT: "ENOPROTOOPT", EPROTONOSUPPORT: "EPROTONOSUPPORT",
    EOPNOTSUPP: "EOPNOTSUPP", EAFNOSUPPORT: "EAFNOSUPPORT", EADDRINUSE: "EADDRINUSE",
    EADDRNOTAVAIL: "EADDRNOTAVAIL", ENETDOWN: "ENETDOWN", ENETUNREACH: "ENETUNREACH",
    ECONNABORTED: "ECONNABORTED", ECONNRESET: "ECONNRESET", ENOBUFS: "ENOBUFS",
    EISCONN: "EISCONN", ENOTCONN: "ENOTCONN", ETIMEDOUT: "ETIMEDOUT",
    ECONNREFUSED: "ECONNREFUSED", EHOSTDOWN: "EHOSTDOWN", EHOSTUNREACH: "EHOSTUNREACH",
    EALREADY: "EALREADY", EINPROGRESS: "EINPROGRESS", ESTALE: "ESTALE",
  ]
}

extension SystemError {
  /// The calls that can be interrupted are made again until they are not: nothing here waits for a
  /// signal.
  static func retrying(
    _ call: SystemCall, _ attempt: () -> Int
  ) throws(SystemError) -> Int {
    while true {
      let result = attempt()
      if result >= 0 { return result }
      let code = errno
      if code != EINTR { throw SystemError(code: code, call: call) }
    }
  }
}
