// Waiting for readiness, until a deadline.
//
// A worker has one `Epoll`. Events land in an array that is allocated once; a turn waits, then walks
// `event(0)`, `event(1)`, …. What an event belongs to is the caller's 64-bit token, with a generation in
// it so that an event for a descriptor closed earlier in the same turn is recognised as stale.
// Deadlines are nanoseconds (epoll_pwait2, Linux 5.11); older kernels get milliseconds, rounded up so
// that a wait never ends early and spins.

import CLinux
import Glibc
import Primitives

/// What to be told about a descriptor. Errors and hang-ups are told unasked.
package struct EpollInterests: FlagSet, Sendable, BitwiseCopyable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let readable = EpollInterests(rawValue: 0x001)
  package static let writable = EpollInterests(rawValue: 0x004)
  /// Urgent data: a read stops in front of it, so a short read proves nothing.
  package static let urgent = EpollInterests(rawValue: 0x002)
  /// The peer shut down its sending half.
  package static let readHangup = EpollInterests(rawValue: 0x2000)
  /// Tell changes, not states.
  package static let edgeTriggered = EpollInterests(rawValue: 1 << 31)
}

/// What a descriptor is ready for.
package struct EpollReadiness: FlagSet, Sendable, BitwiseCopyable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let readable = EpollReadiness(rawValue: 0x001)
  package static let writable = EpollReadiness(rawValue: 0x004)
  package static let urgent = EpollReadiness(rawValue: 0x002)
  /// An error is pending: `TargetSocket.pendingError`.
  package static let failed = EpollReadiness(rawValue: 0x008)
  /// Both halves are shut down.
  package static let hangup = EpollReadiness(rawValue: 0x010)
  /// The peer shut down its sending half.
  package static let readHangup = EpollReadiness(rawValue: 0x2000)

  /// How a connection attempt went is known.
  package static let dialed: EpollReadiness = [.writable, .failed, .hangup]
  /// A short read does not mean that there is no more.
  package static let readToEnd: EpollReadiness = [.hangup, .readHangup, .failed, .urgent]
  /// Neither half stands any more, or an error is pending.
  package static let dead: EpollReadiness = [.hangup, .failed]
}

package struct Epoll: ~Copyable {
  /// Events that one wait delivers; the rest come with the next.
  package static let eventsMax = 256

  private let descriptor: Descriptor
  private let events: UnsafeMutablePointer<epoll_event>
  private var readyCount = 0
  private var hasNanosecondTimeouts = true

  package init() throws(SystemError) {
    let number = epoll_create1(CInt(EPOLL_CLOEXEC))
    guard number >= 0 else { throw SystemError(.epollCreate) }
    descriptor = Descriptor(adopting: number)
    events = .allocate(capacity: Self.eventsMax)
    events.initialize(repeating: epoll_event(), count: Self.eventsMax)
  }

  deinit { events.deallocate() }

  package func add(
    _ number: CInt, token: UInt64, interests: EpollInterests
  ) throws(SystemError) {
    try control(EPOLL_CTL_ADD, number, token, interests)
  }

  /// Replaces a descriptor's token and interests. With `edgeTriggered`, what is ready now is told
  /// again.
  package func modify(
    _ number: CInt, token: UInt64, interests: EpollInterests
  ) throws(SystemError) {
    try control(EPOLL_CTL_MOD, number, token, interests)
  }

  /// Not needed before a descriptor's only owner closes it.
  package func remove(_ number: CInt) throws(SystemError) {
    try control(EPOLL_CTL_DEL, number, 0, [])
  }

  private func control(
    _ operation: CInt, _ number: CInt, _ token: UInt64, _ interests: EpollInterests
  ) throws(SystemError) {
    var event = epoll_event()
    event.events = interests.rawValue
    event.data.u64 = token
    guard epoll_ctl(descriptor.number, operation, number, &event) == 0 else {
      throw SystemError(.epollControl)
    }
  }

  /// Waits until something is ready or the deadline is reached.
  ///
  /// - Parameters:
  ///   - deadline: nil waits for ever; one that is not after `now` looks and returns at once.
  ///   - now: `MonotonicClock.now()`, as recently read as the caller likes.
  /// - Returns: how many events there are; 0 at the deadline.
  package mutating func wait(
    until deadline: MonotonicInstant?, now: MonotonicInstant
  ) throws(SystemError) -> Int {
    readyCount = 0
    let left = deadline.map { max(0, ($0 - now).nanoseconds) }
    if hasNanosecondTimeouts {
      let answer = waitNanoseconds(left)
      if answer >= 0 || answer == -EINTR {
        readyCount = Int(max(0, answer))
        return readyCount
      }
      // EPERM: container runtimes of that age answer unknown calls with it.
      guard answer == -ENOSYS || answer == -EPERM else {
        throw SystemError(code: -answer, call: .epollWait)
      }
      hasNanosecondTimeouts = false
    }
    let milliseconds = left.map { CInt(min(($0 + 999_999) / 1_000_000, Int64(CInt.max))) } ?? -1
    let count = epoll_wait(descriptor.number, events, CInt(Self.eventsMax), milliseconds)
    guard count >= 0 || errno == EINTR else { throw SystemError(.epollWait) }
    readyCount = Int(max(0, count))
    return readyCount
  }

  private func waitNanoseconds(_ left: Int64?) -> CInt {
    guard let left else {
      return clinux_epoll_wait(descriptor.number, events, CInt(Self.eventsMax), nil)
    }
    var timeout = timespec(
      tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
    return clinux_epoll_wait(descriptor.number, events, CInt(Self.eventsMax), &timeout)
  }

  /// The event at a position below what `wait` returned.
  package func event(_ index: Int) -> (token: UInt64, readiness: EpollReadiness) {
    precondition(index >= 0 && index < readyCount, "event")
    let event = events[index]
    return (event.data.u64, EpollReadiness(rawValue: event.events))
  }
}
