// Jobs on their way to the thread that runs them: the part that the executors here share.
//
// A pthread condition on CLOCK_MONOTONIC, and not libdispatch: its thread pool, once used, wakes up
// every second to look after itself (workqueue monitoring on Linux), and an idle daemon makes no
// wake-up at all. For the same reason nothing in the Supervisor runs on Swift's global executor.

import Glibc
import Primitives

final class JobQueue: @unchecked Sendable {
  // The mutex guards what follows it; both stay where they are allocated, as pthreads demands.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let arrival = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [UnownedJob] = []
  private var isWoken = false

  init() {
    mutex.initialize(to: pthread_mutex_t())
    arrival.initialize(to: pthread_cond_t())
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(arrival, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(arrival)
    pthread_mutex_destroy(mutex)
    arrival.deallocate()
    mutex.deallocate()
  }

  func push(_ job: UnownedJob) {
    pthread_mutex_lock(mutex)
    jobs.append(job)
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(arrival)
  }

  /// Makes `take` return although there is no job.
  func wake() {
    pthread_mutex_lock(mutex)
    isWoken = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(arrival)
  }

  /// Waits for jobs, a wake-up or the deadline; then says which jobs there are, maybe none.
  func take(until deadline: MonotonicInstant?) -> [UnownedJob] {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while jobs.isEmpty && !isWoken {
      guard let deadline else {
        pthread_cond_wait(arrival, mutex)
        continue
      }
      var time = timespec(
        tv_sec: Int(deadline.nanoseconds / 1_000_000_000),
        tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
      if pthread_cond_timedwait(arrival, mutex, &time) != 0 { break }
    }
    isWoken = false
    let taken = jobs
    jobs.removeAll()
    return taken
  }
}
