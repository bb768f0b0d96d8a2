// Giving up root, keeping what a forwarder needs.
//
// The C library changes user and group in all threads, but capabilities belong to a thread: those
// that run already lose every one of them, and new threads inherit their maker's. Hence: call this
// on the thread that later needs the capabilities, before it starts others that need them. Packets are
// carried without any; sockets that take more than `net.core.wmem_max`, low ports, transparent sources
// and changes of the device need them.

import CLinux
import Glibc

/// Capabilities (linux/capability.h) that can be kept.
package struct Capabilities: OptionSet, Sendable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }

  /// CAP_NET_BIND_SERVICE
  package static let bindLowPorts = Capabilities(rawValue: 1 << 10)
  /// CAP_NET_ADMIN
  package static let administerNetwork = Capabilities(rawValue: 1 << 12)
  /// CAP_NET_RAW
  package static let rawSockets = Capabilities(rawValue: 1 << 13)
}

package enum PrivilegesError: Error, Equatable, Sendable {
  case unknownUser(String)
  case system(SystemError)
}

extension PrivilegesError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unknownUser(let name): "user \(name) does not exist: make it, or correct daemon.user"
    case .system(let error) where error.isNotPermitted:
      "becoming daemon.user is not permitted: this needs root (CAP_SETUID, CAP_SETGID)"
    case .system(let error): "privileges cannot be given up: \(error)"
    }
  }
}

package enum Privileges {
  /// Whether the process runs as root.
  package static var isRoot: Bool { geteuid() == 0 }

  /// Becomes another user for good: real, effective and saved user and group, no other groups, no
  /// capability but those kept, and no way to gain one by executing a file.
  package static func drop(
    toUser name: String, keeping kept: Capabilities
  ) throws(PrivilegesError) {
    let (user, group) = try lookUp(name)
    do throws(SystemError) {
      _ = try SystemError.check(clinux_keep_capabilities(true), .prctl)
      _ = try SystemError.check(clinux_leave_groups(), .setgroups)
      _ = try SystemError.check(clinux_become_group(group), .setresgid)
      _ = try SystemError.check(clinux_become_user(user), .setresuid)
      _ = try SystemError.check(clinux_set_capabilities(kept.rawValue), .capset)
      _ = try SystemError.check(clinux_keep_capabilities(false), .prctl)
      _ = try SystemError.check(clinux_refuse_new_privileges(), .prctl)
    } catch {
      throw .system(error)
    }
  }

  /// Gives up all capabilities of the calling thread, and of no other.
  package static func dropCapabilities() throws(SystemError) {
    _ = try SystemError.check(clinux_set_capabilities(0), .capset)
  }

  private static func lookUp(_ name: String) throws(PrivilegesError) -> (uid_t, gid_t) {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    let code = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { text in
      text.baseAddress.map { getpwnam_r(name, &entry, $0, text.count, &found) } ?? ENOMEM
    }
    guard code == 0 else { throw .system(SystemError(code: code, call: .userLookup)) }
    guard found != nil else { throw .unknownUser(name) }
    return (entry.pw_uid, entry.pw_gid)
  }
}
