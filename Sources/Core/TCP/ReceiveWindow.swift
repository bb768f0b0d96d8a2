import Primitives
import Wire

// How much a client may send ahead of what the target has taken.
//
// The window is what the flow can keep by itself. What the target's socket could take besides is not
// added: how much that is changes with every acknowledgement of its peer and with the kernel's own tuning
// of its buffer, and an edge that was told is never taken back (RFC 9293 §3.8.6). It need not be: as long
// as the socket takes what arrives, the whole window is open again after each turn.
//
// A window that is too small for the path shows: a whole one of it is taken within two round trips. It is
// then doubled, up to the widest, so that a client far away fills the path while a near one pins no more
// than it needs. The least round trip counts, not the smoothed one, which the window's own queue would
// raise. Near clients get the usual window, or share it (`BulkCensus`). One that is alone, and whose
// target takes what it sends as it comes, gets some times that, so that client and worker need not take
// turns; in large frames only, since the device's queue is bounded in frames.
//
// A target that takes nothing stalls the client too, whose octets are kept and not acknowledged, since
// nobody but us has them. Its retransmission timer must not find them so: shortly before it would, the
// owner is asked to have the target's socket take what is kept, whatever its buffer's bound (relief).
// Then everything is acknowledged, the window closes as the target's own would, and the client waits
// for as long as it likes. It opens again when the socket has room, half as wide as before: a target
// that stalls is not to be given that much again, until it has taken a whole window in one go.

package struct ReceiveWindow: BitwiseCopyable, Sendable {
  /// What is kept this long without progress is to be relieved: less than any peer's least
  /// retransmission time-out, which is 200 ms among kernels.
  package static let reliefDelay = Interval.milliseconds(150)
  /// The narrowest that stalls make a window, octets.
  static let narrowest: UInt32 = 128 * 1024
  /// Clients with round trips shorter than this are near, microseconds.
  static let nearRoundTrip: UInt32 = 2_000
  /// Usual windows of a near client that is alone.
  package static let windowsAlone: UInt32 = 4
  /// A near client that is alone gets more if a window of it is taken within this.
  static let nearWindowTime = Interval.milliseconds(4)
  /// Octets of a frame, on the average, of a near client that gets more.
  static let largeFrameOctets: UInt32 = 8 * 1024

  /// Octets offered ahead of what the target has taken.
  package private(set) var limit: UInt32
  private var usual: UInt32
  private var widest: UInt32
  /// Octets that a near client is offered, with a view to others; `.max` of one that is not known to be
  /// near.
  private var share = UInt32.max
  /// See `BulkCensus.saw`.
  var seen: UInt8 = 0
  /// A window's worth from where the present measurement began.
  private var measuredEdge: SequenceNumber
  private var measuredSince = MonotonicInstant.zero
  /// Frames since then, or so many that it does not matter.
  private var frames: UInt16 = 0
  /// When the owner is to be asked for relief.
  package private(set) var reliefAt = MonotonicInstant.distantFuture
  /// The target's socket holds more than it should: nothing more is offered.
  package private(set) var isHeldBack = false
  private var isNarrowed = false

  init(usual: UInt32, widest: UInt32, start: SequenceNumber) {
    limit = usual
    self.usual = usual
    self.widest = max(usual, widest)
    measuredEdge = start + Int(usual)
  }

  /// What lasts while nothing arrives.
  struct Settled: BitwiseCopyable {
    fileprivate var measuredSince: MonotonicInstant
    fileprivate var measuredEdge: SequenceNumber
    fileprivate var limit: UInt32
  }

  /// nil when a target's stall is being dealt with, or the bounds are others than these.
  func settled(usual: UInt32, widest: UInt32) -> Settled? {
    guard self.usual == usual, self.widest == max(usual, widest), reliefAt == .distantFuture,
      !isHeldBack, !isNarrowed
    else { return nil }
    return Settled(measuredSince: measuredSince, measuredEdge: measuredEdge, limit: limit)
  }

  init(_ settled: Settled, usual: UInt32, widest: UInt32) {
    self.init(usual: usual, widest: widest, start: settled.measuredEdge)
    limit = settled.limit
    measuredEdge = settled.measuredEdge
    measuredSince = settled.measuredSince
    // A near client may not be alone any more: it is looked at with its next octets, as is a far one.
    if limit > usual, limit <= Self.windowsAlone * usual { share = usual }
  }

  /// Offers more from now on, never less.
  mutating func widen(to usual: UInt32, widest: UInt32) {
    self.usual = max(self.usual, usual)
    self.widest = max(self.widest, widest)
    limit = max(limit, usual)
  }

  /// The target took octets up to `edge`.
  /// - Parameters:
  ///   - isDrained: nothing is left that it could take.
  ///   - roundTrip: the least one to the client, microseconds; `.max` when none is known.
  ///   - mayWiden: there is memory for a wider window.
  mutating func targetTook(
    upTo edge: SequenceNumber, isDrained: Bool, roundTrip: UInt32, mayWiden: Bool,
    at now: MonotonicInstant
  ) {
    if reliefAt != .distantFuture {
      reliefAt = isDrained ? .distantFuture : now + Self.reliefDelay
    }
    guard measuredEdge.precedesOrEquals(edge) else { return }
    if limit < usual {
      limit = min(usual, limit * 2)
    } else if limit < widest, mayWiden, roundTrip != .max {
      if roundTrip >= Self.nearRoundTrip {
        if (now - measuredSince).microseconds <= 2 * Int(roundTrip) {
          limit = min(widest, limit * 2)
        }
      } else if limit < share, isDrained, now - measuredSince <= Self.nearWindowTime,
        UInt32(frames) * Self.largeFrameOctets <= limit
      {
        limit = min(share, limit * 2)
      }
    }
    measuredEdge = edge + Int(limit)
    measuredSince = now
    frames = 0
  }

  /// Counts the client among those that send in bulk.
  /// - Parameters:
  ///   - roundTrip: as for `targetTook`.
  ///   - isAlone: see `Company`.
  mutating func count(
    _ octets: Int, roundTrip: UInt32, isAlone: Bool, in census: inout BulkCensus,
    at now: MonotonicInstant
  ) {
    guard roundTrip < Self.nearRoundTrip else {
      share = .max
      return
    }
    census.saw(octets, mark: &seen, at: now)
    let alone = min(widest, Self.windowsAlone * usual)
    share = census.share(of: usual, alone: isAlone ? alone : nil, at: now)
    if limit > usual, UInt32(frames) * Self.largeFrameOctets > limit { limit = usual }
  }

  /// Octets to offer ahead of what the target has taken. What near clients share and what a device that
  /// overflows leaves them (`WindowCap`) is at least two segments: with less they would wait for each
  /// other's timers (RFC 1122 §4.2.3.3, §4.2.3.4), and segments may be as large as an MTU of 65535.
  /// Far clients' octets are on their way and not in the device's queue; neither bounds them.
  func offer(cap: UInt32, segmentOctets: Int) -> Int {
    guard share != .max else { return Int(limit) }
    return min(Int(limit), max(2 * segmentOctets, Int(min(share, cap))))
  }

  /// The target's socket did not take all that there was.
  mutating func targetFilled(at now: MonotonicInstant) {
    if reliefAt == .distantFuture, !isHeldBack { reliefAt = now + Self.reliefDelay }
  }

  /// In-order octets arrived. A window that is held back is still open as far as it was offered: a
  /// client whose congestion window was narrower fills it now, and nothing tells that the socket is
  /// full, since it is not tried.
  mutating func octetsArrived(at now: MonotonicInstant) {
    if frames < .max { frames += 1 }
    if isHeldBack, reliefAt == .distantFuture { reliefAt = now + Self.reliefDelay }
  }

  /// Whether relief is due now; asked once.
  mutating func reliefIsDue(at now: MonotonicInstant) -> Bool {
    guard reliefAt <= now else { return false }
    reliefAt = .distantFuture
    return true
  }

  /// Relief is tried: the window stays where it is until the target's socket has room.
  mutating func holdBack() { isHeldBack = true }

  /// The target's socket was made to take what was kept: once a stall, the window narrows.
  mutating func relieved(at edge: SequenceNumber) {
    guard !isNarrowed else { return }
    isNarrowed = true
    limit = max(min(limit, Self.narrowest), limit / 2)
    measuredEdge = edge + Int(limit)
  }

  /// The target's socket has room again.
  /// - Returns: whether the window was held back.
  mutating func targetHasRoom() -> Bool {
    defer {
      isHeldBack = false
      isNarrowed = false
    }
    return isHeldBack
  }
}
