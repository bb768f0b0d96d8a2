// The clocks and the entropy that Core is handed: each read in one place.

import CLinux
import Glibc
import Primitives

/// CLOCK_MONOTONIC: what deadlines and `Epoll.wait` count in.
package enum MonotonicClock {
  /// Nanoseconds since the host started, time asleep left out.
  package static func now() -> MonotonicInstant {
    var time = timespec()
    // Fails only for a clock that does not exist.
    clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicInstant(
      nanoseconds: UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000
        &+ UInt64(truncatingIfNeeded: time.tv_nsec))
  }
}

/// The kernel's random numbers, for secrets: hash seeds, initial sequence numbers.
package enum Entropy {
  /// 64 random bits. Waits while the host has gathered too little entropy, at boot only.
  package static func word() throws(SystemError) -> UInt64 {
    var word: UInt64 = 0
    while true {
      let octets = clinux_random(&word, MemoryLayout<UInt64>.size)
      if octets == MemoryLayout<UInt64>.size { return word }
      if octets < 0 && octets != -Int(EINTR) {
        throw SystemError(code: CInt(truncatingIfNeeded: -octets), call: .getrandom)
      }
    }
  }
}
