import Primitives

// One UDP session: a five-tuple with a kernel socket of its own, as long as datagrams move.
//
// UDP has no end, so a session ends by silence. A session that the target has never answered is worth
// less than a conversation: it ends after a quarter of the rule's time-out. No timer is touched per
// datagram: the time of the last one is noted, and the deadline looks at it when it comes.

package struct UDPSession: BitwiseCopyable {
  private var lastActivity: MonotonicInstant
  /// The target has answered at least once.
  package private(set) var isAnswered = false

  package init(at now: MonotonicInstant) { lastActivity = now }

  package mutating func clientSpoke(at now: MonotonicInstant) { lastActivity = now }

  package mutating func targetSpoke(at now: MonotonicInstant) {
    lastActivity = now
    isAnswered = true
  }

  /// When the session ends unless somebody speaks.
  package func expiry(timeout: Interval) -> MonotonicInstant {
    lastActivity
      + (isAnswered ? timeout : Interval(nanoseconds: max(timeout.nanoseconds / 4, 1)))
  }
}
