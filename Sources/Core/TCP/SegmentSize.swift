import Primitives
import Wire

// How large a segment may be: what both ends agreed on, less what the path is known not to take.
//
// Three things change it.
// - ICMP says that a segment was too big (RFC 1191, RFC 8201). Whoever can guess a sequence number can
//   say so, hence RFC 5927 §7.2: what contradicts experience, since a larger segment has been
//   acknowledged, is believed only when the retransmission timer expires too.
// - Segments of full size vanish without a word (RFC 2923 §2.1). After the second time-out for the same
//   data it is sent as what every IPv6 path takes, after the fourth as the least size; after the
//   sixth, when neither has helped, size was not the matter, and the round begins anew.
// - Ten minutes later the agreed size is tried again (RFC 1191 §6.3). On a path that still drops it in
//   silence that costs two time-outs.
//
// The least size is that of an IPv4 path of 552 octets, and of 1280 for IPv6. Claims of less are claims
// of that: no link in use has less, and small segments are a way to make a sender work
// (RFC 5927 §7.1). A path that does take less, as RFC 791 permits, is not served.

package struct SegmentSize: BitwiseCopyable {
  package enum Verdict: Sendable { case lowered, noted, ignored }

  /// Payload that a packet of IPv6's least MTU holds, timestamps among its options.
  static let safeOctets: UInt16 = 1280 - 60 - 12
  /// How long a lowered size stands.
  static let memorySeconds: UInt32 = 600

  /// Octets of payload of a segment now.
  package private(set) var octets: UInt16
  /// What both ends agreed on.
  package let octetsMax: UInt16
  private let octetsMin: UInt16
  /// What ICMP claims, and is not believed yet; 0: nothing.
  private var claimed: UInt16 = 0
  /// The largest that was acknowledged.
  private var passed: UInt16 = 0
  /// What was in use before the agreed size was tried again, while that may still be in flight; 0: no.
  private var triedFrom: UInt16 = 0
  private var triedAt = SequenceNumber(0)
  private var loweredSeconds: UInt32 = 0
  /// Lowered by time-outs, and nothing was acknowledged since.
  private var isGuess = false

  init(octets: UInt16, octetsMin: UInt16) {
    self.octets = octets
    octetsMax = octets
    self.octetsMin = octetsMin
  }

  /// A path that takes the agreed size, as far as anything is known.
  struct Settled: BitwiseCopyable {
    fileprivate(set) var octets: UInt16
    fileprivate var octetsMin: UInt16
    fileprivate var passed: UInt16
  }

  /// nil when the path has shown, or is said, to take less.
  var settled: Settled? {
    guard octets == octetsMax, claimed == 0, triedFrom == 0, !isGuess else { return nil }
    return Settled(octets: octets, octetsMin: octetsMin, passed: passed)
  }

  init(_ settled: Settled) {
    self.init(octets: settled.octets, octetsMin: settled.octetsMin)
    passed = settled.passed
  }

  /// ICMP says that the path takes no more than this.
  mutating func told(_ limit: Int, at now: MonotonicInstant) -> Verdict {
    let bounded = UInt16(clamping: max(limit, Int(octetsMin)))
    guard bounded < octets else { return .ignored }
    guard passed <= bounded else {
      claimed = bounded
      return .noted
    }
    lower(to: bounded, at: now)
    return .lowered
  }

  /// Of the segments in flight that are full, the least size.
  var octetsInFlight: UInt16 { triedFrom == 0 ? octets : min(octets, triedFrom) }

  /// Something was acknowledged.
  /// - Parameters:
  ///   - record: octets of it that were sent as one, and once.
  ///   - again: octets that were sent as one, but not for the first time: small originals may have arrived
  ///     late, so that this proves no size that was not proven before.
  ///   - edge: SND.UNA.
  mutating func acknowledged(_ record: Int, again: Int, upTo edge: SequenceNumber) {
    if triedFrom != 0, triedAt.precedes(edge) { triedFrom = 0 }
    let most = Int(octetsInFlight)
    var segment = UInt16(clamping: min(record, most))
    let segmentAgain = UInt16(clamping: min(again, most))
    if segmentAgain <= passed { segment = max(segment, segmentAgain) }
    if segment > passed { passed = segment }
    if segment > claimed { claimed = 0 }
    if segment > 0 { isGuess = false }
  }

  /// The retransmission timer expired.
  /// - Parameters:
  ///   - times: in a row, for the same data.
  ///   - first: octets that wait there for an acknowledgement, sent as one.
  mutating func timedOut(_ times: Int, first: Int, at now: MonotonicInstant) {
    if claimed > 0 {
      lower(to: claimed, at: now)
      return
    }
    switch times % 6 {
    case 2: guess(Self.safeOctets, first, at: now)
    case 4: guess(octetsMin, first, at: now)
    case 0 where isGuess:
      isGuess = false
      octets = octetsMax
    default: break
    }
  }

  /// Time to try the agreed size again.
  /// - Parameter next: SND.NXT.
  mutating func raiseIfDue(next: SequenceNumber, at now: MonotonicInstant) {
    guard Self.seconds(now) &- loweredSeconds >= Self.memorySeconds, octets < octetsMax else {
      return
    }
    triedFrom = octets
    triedAt = next
    octets = octetsMax
    claimed = 0
  }

  private mutating func guess(_ limit: UInt16, _ first: Int, at now: MonotonicInstant) {
    let bounded = max(limit, octetsMin)
    guard bounded < octets, first > Int(bounded) else { return }
    lower(to: bounded, at: now)
    isGuess = true
  }

  private mutating func lower(to limit: UInt16, at now: MonotonicInstant) {
    octets = limit
    passed = min(passed, limit)
    claimed = 0
    isGuess = false
    loweredSeconds = Self.seconds(now)
  }

  private static func seconds(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
  }
}
