import Glibc
import Synchronization

// Several threads at one number: under a lock that is fought for, which ThreadSanitizer must not report,
// or with "race" under none, which it must. They count for many slices of time then: with a thread that has
// ended before another begins there is no race to be seen.

final class Shared: @unchecked Sendable {
  static let one = Shared()
  let locked = Mutex(0)
  var unlocked = 0

  func count(locking: Bool) {
    for _ in 0..<(locking ? 200_000 : 10_000_000) {
      if locking { locked.withLock { $0 += 1 } } else { unlocked += 1 }
    }
  }
}

@main struct Contention {
  static func main() {
    let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? =
      CommandLine.arguments.contains("race")
      ? { _ in
        Shared.one.count(locking: false)
        return nil
      }
      : { _ in
        Shared.one.count(locking: true)
        return nil
      }
    let threads = (0..<4).map { _ in
      var thread = pthread_t()
      precondition(pthread_create(&thread, nil, body, nil) == 0, "pthread_create")
      return thread
    }
    for thread in threads { pthread_join(thread, nil) }
  }
}
