import Primitives

// One UDP session: a five-tuple with a kernel socket of its own, as long as datagrams move.
//
// UDP has no end, so a session ends by silence. A session that the target has never answered is worth
// less than a conversation: it ends after a quarter of the rule's time-out. No timer is touched per
// datagram: the time of the last one is noted, and the deadline looks at it when it comes.
//
// A path to the client that takes less than the device does is remembered for ten minutes: datagrams
// leave in fragments of that length. Whoever sends the ICMP error can only make fragments smaller, down
// to the least that every path takes.
//
// So is, for as long, the length of datagrams that the kernel refused to send as a run: towards the
// target those leave one by one.

package struct UDPSession: BitwiseCopyable {
  /// The least MTU that a path is believed to have: IPv4's as in Linux, IPv6's by RFC 8200 §5.
  static let pathOctetsMinIPv4 = 552
  static let pathOctetsMinIPv6 = 1280
  /// How long a path's MTU is remembered (RFC 1191 §6.3).
  static let pathMemorySeconds: UInt32 = 600

  private var lastActivity: MonotonicInstant
  /// When `pathOctets` was learnt.
  private var pathSeconds: UInt32 = 0
  /// The path's MTU where it is less than the device's; 0: it is not known to be.
  private var pathOctets: UInt16 = 0
  /// The shortest datagrams of a run that was refused, 0: none was; and when.
  private var refusedOctets: UInt16 = 0
  private var refusedSeconds: UInt32 = 0
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

  /// ICMP says that the path to the client has this MTU.
  /// - Returns: whether that is less than what is used, and possible.
  package mutating func pathIsNarrow(
    mtu: Int, deviceMTU: Int, isIPv4: Bool, at now: MonotonicInstant
  ) -> Bool {
    guard isIPv4 || mtu >= Self.pathOctetsMinIPv6 else { return false }
    let bounded = max(mtu, isIPv4 ? Self.pathOctetsMinIPv4 : Self.pathOctetsMinIPv6)
    guard bounded < self.mtu(deviceMTU: deviceMTU, at: now) else { return false }
    pathOctets = UInt16(clamping: bounded)
    pathSeconds = Self.seconds(now)
    return true
  }

  /// Octets of the largest packet towards the client.
  package mutating func mtu(deviceMTU: Int, at now: MonotonicInstant) -> Int {
    guard pathOctets > 0 else { return deviceMTU }
    if Self.seconds(now) &- pathSeconds >= Self.pathMemorySeconds {
      pathOctets = 0
      return deviceMTU
    }
    return min(deviceMTU, Int(pathOctets))
  }

  /// The kernel does not send datagrams of this length to the target as a run.
  package mutating func runWasRefused(segmentOctets: Int, at now: MonotonicInstant) {
    let before = runSegmentOctetsMax(at: now)
    refusedOctets = UInt16(clamping: max(1, min(segmentOctets, before + 1)))
    refusedSeconds = Self.seconds(now)
  }

  /// The length of datagrams up to which the kernel is believed to send runs to the target.
  package mutating func runSegmentOctetsMax(at now: MonotonicInstant) -> Int {
    guard refusedOctets > 0 else { return Int(UInt16.max) }
    if Self.seconds(now) &- refusedSeconds >= Self.pathMemorySeconds {
      refusedOctets = 0
      return Int(UInt16.max)
    }
    return Int(refusedOctets) - 1
  }

  private static func seconds(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
  }
}
