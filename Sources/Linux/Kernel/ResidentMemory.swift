// Memory that the process holds and will not want again.

import CLinux
import Glibc

package enum ResidentMemory {
  /// Octets that each arena of the C library may keep free at its end.
  package static let freedOctetsMax = 64 * 1024

  /// Has the C library give back to the kernel what lies free at the end of an arena. By itself it keeps at
  /// least 128 KiB there, and more once more was freed (mallopt(3)): what a table leaves behind that
  /// has grown, and nobody wants again. To be called before there are threads.
  ///
  /// - Returns: whether the C library offers that.
  @discardableResult package static func keepLittleFreed() -> Bool {
    clinux_keep_freed(CInt(freedOctetsMax)) == 0
  }

  /// Gives whole pages back to the kernel; they are zeros when they are touched again (madvise(2),
  /// MADV_DONTNEED).
  ///
  /// - Parameter memory: of the process's own, beginning at a page.
  package static func release(_ memory: UnsafeMutableRawBufferPointer) {
    _ = madvise(memory.baseAddress, memory.count, MADV_DONTNEED)
  }

  /// Takes the program's code and constants out of the process's memory, as far as they lie in its file.
  /// What runs on is mapped again as it is reached (madvise(2), MADV_DONTNEED); what only a start needs
  /// is not, and is no longer counted as resident.
  ///
  /// - Returns: whether the kernel did so.
  @discardableResult package static func forgetCode() -> Bool { clinux_forget_code() == 0 }
}
