// A wake-up from another thread: eventfd(2).

import CLinux
import Glibc

/// Wakes an epoll that watches `number` for readability. Any thread may signal; one drains.
package struct EventCounter: ~Copyable, Sendable {
  private let descriptor: Descriptor

  package init() throws(SystemError) {
    let number = eventfd(0, CInt(EFD_CLOEXEC) | CInt(EFD_NONBLOCK))
    guard number >= 0 else { throw SystemError(.eventCounter) }
    descriptor = Descriptor(adopting: number)
  }

  /// For `Epoll.add`.
  package var number: CInt { descriptor.number }

  /// Wakes the other side. Signals before it drains are one.
  package func signal() {
    // Fails only when 2⁶⁴−2 signals are pending, and then the other side is awake already.
    _ = eventfd_write(descriptor.number, 1)
  }

  /// Signals since the last drain; 0 when there were none.
  @discardableResult
  package func drain() -> UInt64 {
    var count: UInt64 = 0
    return eventfd_read(descriptor.number, &count) == 0 ? count : 0
  }
}
