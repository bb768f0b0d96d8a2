// A count that one thread raises and another waits for: sem_overview(7).

import Glibc

/// Unchecked, since it is one address of memory that the C library made for threads to share.
package struct Semaphore: ~Copyable, @unchecked Sendable {
  private let semaphore: UnsafeMutablePointer<sem_t>

  /// At 0.
  package init() {
    semaphore = .allocate(capacity: 1)
    semaphore.initialize(to: sem_t())
    // Fails only where the count is too large, or the kernel knows no futex.
    sem_init(semaphore, 0, 0)
  }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  /// Raises the count; wakes one that waits. What was written before is seen by whoever it wakes.
  package func signal() { sem_post(semaphore) }

  /// Whether the count is above 0.
  package var isRaised: Bool {
    var count: CInt = 0
    sem_getvalue(semaphore, &count)
    return count > 0
  }

  /// Waits until the count is above 0, and lowers it.
  package func wait() {
    while sem_wait(semaphore) != 0 {}
  }
}
