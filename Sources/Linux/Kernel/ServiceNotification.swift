// Telling systemd how the service is: the sd_notify(3) protocol, spoken directly.
//
// A notification is one datagram of VAR=VALUE lines to the Unix socket that $NOTIFY_SOCKET names; an
// "@" in front stands for the abstract namespace. Without the variable there is nobody to tell, and
// nothing is made. Vsock addresses are left out: they are for whole virtual machines.

import Glibc
import Primitives

package struct ServiceNotification: Sendable {
  private let path: [UInt8]
  /// How often the watchdog wants a sign of life at the latest; send at half of it. Nil without one.
  package let watchdogInterval: Interval?

  /// - Parameters:
  ///   - socket: a path, or "@" and an abstract name; nil is returned for anything else.
  ///   - watchdogInterval: $WATCHDOG_USEC, when $WATCHDOG_PID is this process or missing.
  package init?(socket: String, watchdogInterval: Interval? = nil) {
    var path = Array(socket.utf8)
    guard let first = path.first, path.count > 1,
      path.count < MemoryLayout.size(ofValue: sockaddr_un().sun_path)
    else { return nil }
    if first == UInt8(ascii: "@") {
      path[0] = 0
    } else if first != UInt8(ascii: "/") {
      return nil
    }
    self.path = path
    self.watchdogInterval = watchdogInterval
  }

  /// What the service manager gave this process; nil when there is none.
  package init?(variable: (String) -> String? = environment) {
    guard let socket = variable("NOTIFY_SOCKET") else { return nil }
    var interval: Interval?
    let isOurs = variable("WATCHDOG_PID").map { Int32($0) == getpid() } ?? true
    if isOurs, let microseconds = variable("WATCHDOG_USEC").flatMap({ Int($0) }), microseconds > 0 {
      interval = .microseconds(microseconds)
    }
    self.init(socket: socket, watchdogInterval: interval)
  }

  /// A variable of the process's environment.
  package static func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }

  /// Sends lines such as "READY=1" as one notification. Never waits.
  package func send(_ lines: [String]) throws(SystemError) {
    let type = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    let number = socket(AF_UNIX, type, 0)
    guard number >= 0 else { throw SystemError(.socket) }
    let descriptor = Descriptor(adopting: number)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path) }
    // An abstract name ends with the address, a path with its zero octet, which is counted too.
    let offset = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2
    let length = socklen_t(offset + path.count + (path.first == 0 ? 0 : 1))
    let text = Array(lines.joined(separator: "\n").utf8)
    let flags = CInt(MSG_NOSIGNAL | MSG_DONTWAIT)
    let sent = withUnsafeBytes(of: &name) { octets in
      octets.withMemoryRebound(to: sockaddr.self) { rebound in
        sendto(descriptor.number, text, text.count, flags, rebound.baseAddress, length)
      }
    }
    guard sent == text.count else { throw SystemError(.sendto) }
  }

  /// The service works. `status` is a line for `systemctl status`.
  package func ready(status: String) throws(SystemError) {
    try send(["READY=1", "STATUS=\(status)"])
  }

  /// A reload begins; `ready` ends it. The instant is CLOCK_MONOTONIC, as Type=notify-reload wants it.
  package func reloading(at now: MonotonicInstant) throws(SystemError) {
    try send(["RELOADING=1", "MONOTONIC_USEC=\(now.nanoseconds / 1_000)"])
  }

  package func stopping() throws(SystemError) { try send(["STOPPING=1"]) }

  /// A sign of life.
  package func watchdog() throws(SystemError) { try send(["WATCHDOG=1"]) }
}
