import Primitives

// What a device that loses packets leaves of every near client's window.
//
// Clients send into the device's queue, which is bounded in packets, and the kernel drops what it finds no
// room for. Each client sees its own losses only, while the sum of the windows overflows the queue
// again. So each overflow halves what all are offered, and while nothing more is lost it doubles, once a
// second, until it is no bound any more. What was offered already is never taken back. Far clients are
// not narrowed: their octets are on their way, and their own congestion control answers the loss; nor is
// the window of a SYN-ACK, since a client begins with less (RFC 6928).

package struct WindowCap: BitwiseCopyable, Sendable {
  /// Octets; with less, clients on a fast path would stand still between two turns.
  package static let narrowest: UInt32 = 16 * 1024
  /// From an overflow, or from the last step, to the next step back.
  package static let relaxation = Interval.seconds(1)

  /// Octets that a near client may be offered at most; `.max`: as many as its own window is wide.
  package private(set) var octets = UInt32.max
  private var relaxAt = MonotonicInstant.distantFuture

  package init() {}

  /// The device's queue has overflowed.
  /// - Parameter usual: the window without a bound.
  package mutating func narrow(usual: UInt32, at now: MonotonicInstant) {
    octets = max(Self.narrowest, min(octets, usual) / 2)
    relaxAt = now + Self.relaxation
  }

  /// Takes the steps back that are due; asked before windows are told, so that nobody wakes for it.
  /// - Parameter widest: the widest window that there is.
  @inline(__always)
  package mutating func relax(widest: UInt32, at now: MonotonicInstant) {
    if relaxAt <= now { stepBack(widest: widest, at: now) }
  }

  @inline(never)
  private mutating func stepBack(widest: UInt32, at now: MonotonicInstant) {
    while relaxAt <= now {
      octets = octets < widest / 2 ? octets * 2 : .max
      relaxAt = octets == .max ? .distantFuture : relaxAt + Self.relaxation
    }
  }
}
