// The bound on open descriptors: a flow takes one.

import Glibc

package enum ResourceLimits {
  /// Raises the soft bound on open descriptors to `wanted`, or as near as the hard bound or, with
  /// CAP_SYS_RESOURCE, the host allows. Never lowers it.
  ///
  /// - Returns: the bound in force now.
  package static func raiseOpenFiles(to wanted: Int) throws(SystemError) -> Int {
    var bound = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &bound) == 0 else {
      throw SystemError(.getrlimit)
    }
    let goal = rlim_t(max(0, min(wanted, hostMax())))
    if bound.rlim_cur >= goal { return Int(clamping: bound.rlim_cur) }
    var raised = rlimit(rlim_cur: goal, rlim_max: max(goal, bound.rlim_max))
    if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { return Int(goal) }
    bound.rlim_cur = min(goal, bound.rlim_max)
    guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &bound) == 0 else {
      throw SystemError(.setrlimit)
    }
    return Int(clamping: bound.rlim_cur)
  }

  /// What no process exceeds (proc_sys_fs(5), nr_open); a host that does not tell has the kernel's default.
  private static func hostMax() -> Int {
    var text = [UInt8](repeating: 0, count: 32)
    guard let file = try? Descriptor.open("/proc/sys/fs/nr_open", flags: O_RDONLY),
      case .octets(let count) = text.withUnsafeMutableBytes({ file.read(into: $0) })
    else { return 1 << 20 }
    let digits = text.prefix(count).prefix { $0 != 10 }
    return Int(String(decoding: digits, as: UTF8.self)) ?? 1 << 20
  }
}
