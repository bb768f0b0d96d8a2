// Memory that a program in the kernel shares with this process: the one value of an array map (bpf(2)).

import CLinux
import Kernel

package struct SharedMap: ~Copyable {
  private let descriptor: Descriptor
  /// Zeros at first. It stays when the map is closed, as long as the process runs: who uses it is not known
  /// here.
  package let memory: UnsafeMutableRawPointer

  /// For the instructions of a program, which keeps the map once it is loaded.
  package var number: CInt { descriptor.number }

  /// - Throws: EPERM where this process may not make maps (CAP_BPF), EINVAL before Linux 5.5.
  package init(octets: Int) throws(SystemError) {
    let number = try SystemError.check(clinux_make_shared_map(UInt32(octets)), .mapCreate)
    let map = Descriptor(adopting: number)
    var error: CInt = 0
    guard let mapped = clinux_map_shared(number, octets, &error) else {
      throw SystemError(code: -error, call: .mmap)
    }
    descriptor = map
    memory = mapped
  }
}
