// An eBPF program of the type socket filter, checked and taken by the kernel.

import CLinux
import Kernel

/// A loaded program; gone with its owner, unless something else holds it, as a device does.
package struct SocketFilter: ~Copyable, Sendable {
  private let descriptor: Descriptor

  var number: CInt { descriptor.number }

  /// - Parameter instructions: each as struct bpf_insn lies in memory.
  /// - Throws: what the kernel's verifier says against it (EINVAL, EACCES), and EPERM where this
  ///   process may not load programs.
  package init(_ instructions: [UInt64]) throws(SystemError) {
    let answer = instructions.withUnsafeBytes { memory in
      clinux_load_socket_filter(memory.baseAddress, UInt32(instructions.count))
    }
    descriptor = Descriptor(adopting: try SystemError.check(answer, .programLoad))
  }

  /// What the program returns for an IP packet.
  package func run(on packet: [UInt8]) throws(SystemError) -> UInt32 {
    // An Ethernet header, which the kernel takes off again; the type is IPv4's or IPv6's.
    let type: [UInt8] = (packet.first ?? 0) >> 4 == 6 ? [0x86, 0xdd] : [0x08, 0x00]
    let frame = [UInt8](repeating: 2, count: 12) + type + packet
    var result: UInt32 = 0
    _ = try SystemError.check(
      clinux_run_socket_filter(descriptor.number, frame, UInt32(frame.count), &result),
      .programRun)
    return result
  }
}
