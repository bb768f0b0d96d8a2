import Primitives
import Wire

// SYN cookies (RFC 4987 §3.6): an answer to a SYN that keeps nothing.
//
// When too many SYNs are unanswered by their senders, a further one is answered at once, by a SYN-ACK
// whose sequence number is all that is remembered of it. Who acknowledges that number has received
// the answer, and so sends from the address that he claims; his ACK says again what his SYN said, and
// only then a target is dialled. The number holds, added to a secret of the five-tuple's own,
//
//   5 bits   the time, in periods of 64 s
//   3 bits   the client's segment size, as one of eight
//   24 bits  a keyed hash (SipHash-2-4) of five-tuple, client's sequence number, time and size
//
// What else a SYN offers rides in the low bits of our timestamp, which the client echoes: a client
// without timestamps gets neither window scaling nor SACK, and nobody ECN. Not kept: the SYN-ACK is not sent again
// (the client's SYN comes again), and its round trip is not measured. Nor is it kept that a cookie has come
// back: while it is good, it begins another flow of the same numbers once the first is gone.
//
// A SYN that would follow a connection in TIME-WAIT must be answered beyond that one's numbers (RFC 1122
// §4.2.2.13), which a cookie knows nothing of. Where it does not lie there by itself, it goes out half
// the number space further on. TIME-WAIT knows by its own numbers which of the two to look for; it begins
// anew with the answer, so that it does not end while that is on its way. But a full flow table may evict
// it, as the youngest after all others: then a cookie that was moved is not known any more, and the
// client that acknowledges it is reset, and may try again.

package struct SYNCookies: Sendable {
  /// The window of an answer that keeps nothing, octets: what a client can make us hold before its
  /// target is connected.
  package static let windowOctets: UInt32 = 32 * 1024
  /// A cookie is good for this long at least, and twice as long at most.
  package static let period = Interval.seconds(64)
  /// The segment sizes that a cookie can remember, octets.
  static let segmentSizes: [8 of UInt16] = [88, 536, 1220, 1360, 1400, 1440, 1460, 8940]
  /// Low bits of a timestamp that hold options.
  static let optionsMask: UInt32 = 0x1F
  private static let sackBit: UInt32 = 0x10
  private static let noScale: UInt32 = 0xF

  private let keys: (UInt64, UInt64)

  /// - Parameter secret: drawn from the system's entropy once at start, told to nobody.
  package init(secret: (UInt64, UInt64)) { keys = secret }

  // MARK: Sequence numbers

  /// The sequence number that answers `syn`.
  /// - Parameter floor: where it may begin, when a connection in TIME-WAIT is before it.
  func sequence(
    for syn: TCPHeader, tuple: FiveTuple, beyond floor: SequenceNumber? = nil,
    at now: MonotonicInstant
  ) -> SequenceNumber {
    let wanted = syn.options.maximumSegmentSize ?? Self.segmentSizes[1]
    var index = 0
    for i in 1..<Self.segmentSizes.count where Self.segmentSizes[i] <= wanted { index = i }
    let cookie = sequence(of: Self.periods(now), index, tuple, syn.sequence)
    guard let floor, cookie.precedes(floor) else { return cookie }
    return cookie + Self.halfTheNumbers
  }

  private static let halfTheNumbers = 1 << 31

  /// What a client that acknowledges a cookie had said in its SYN; nil when `header` acknowledges none.
  /// - Parameter floor: as for `sequence`.
  package func syn(
    acknowledgedBy header: TCPHeader, tuple: FiveTuple, beyond floor: SequenceNumber? = nil,
    at now: MonotonicInstant
  ) -> TCPHeader? {
    let sequence = header.acknowledgment - 1
    guard let floor else { return syn(header, cookie: sequence, tuple, at: now) }
    guard floor.precedesOrEquals(sequence) else { return nil }
    return syn(header, cookie: sequence, tuple, at: now)
      ?? syn(header, cookie: sequence + Self.halfTheNumbers, tuple, at: now)
  }

  private func syn(
    _ header: TCPHeader, cookie: SequenceNumber, _ tuple: FiveTuple, at now: MonotonicInstant
  ) -> TCPHeader? {
    let clientSequence = header.sequence - 1
    let tagged = cookie.rawValue &- tupleSecret(tuple)
    let index = Int(tagged >> 24 & 7)
    let current = Self.periods(now)
    // Of the next period, by a worker whose turn began later than this one's.
    for periods in [current, current &- 1, current &+ 1] where periods & 31 == tagged >> 27 {
      guard sequence(of: periods, index, tuple, clientSequence) == cookie else { continue }
      var syn = header
      syn.sequence = clientSequence
      syn.acknowledgment = SequenceNumber(0)
      syn.flags = .syn
      syn.options = TCPOptions()
      syn.options.maximumSegmentSize = Self.segmentSizes[index]
      if let timestamp = header.options.timestamp {
        syn.options.timestamp = TCPTimestamp(value: timestamp.value, echo: 0)
        syn.options.sackPermitted = timestamp.echo & Self.sackBit != 0
        let scale = timestamp.echo & Self.noScale
        syn.options.windowScale = scale == Self.noScale ? nil : UInt8(scale)
      }
      return syn
    }
    return nil
  }

  private func sequence(
    of periods: UInt32, _ index: Int, _ tuple: FiveTuple, _ clientSequence: SequenceNumber
  ) -> SequenceNumber {
    let hash = mac(
      tuple, UInt64(clientSequence.rawValue), UInt64(periods) << 8 | UInt64(index) << 1 | 1)
    let tag = UInt32(truncatingIfNeeded: hash) & 0x00FF_FFFF
    return SequenceNumber(
      ((periods & 31) << 27 | UInt32(index) << 24 | tag) &+ tupleSecret(tuple))
  }

  private func tupleSecret(_ tuple: FiveTuple) -> UInt32 {
    UInt32(truncatingIfNeeded: mac(tuple, 0, 0))
  }

  private static func periods(_ now: MonotonicInstant) -> UInt32 {
    UInt32(truncatingIfNeeded: now.nanoseconds / UInt64(Self.period.nanoseconds))
  }

  // MARK: Options

  /// The latest timestamp not after `clock` that says what the SYN offered.
  static func timestamp(_ clock: UInt32, for options: TCPOptions) -> UInt32 {
    var bits = options.windowScale.map { UInt32($0) } ?? noScale
    if options.sackPermitted { bits |= sackBit }
    let value = clock & ~optionsMask | bits
    return value > clock ? value &- (optionsMask + 1) : value
  }

  /// What of a SYN survives being answered by a cookie.
  static func reduced(_ syn: TCPHeader) -> TCPHeader {
    var syn = syn
    syn.flags.subtract([.ece, .cwr])  // ECN is not remembered, and so not agreed to
    if syn.options.timestamp == nil {
      syn.options.windowScale = nil
      syn.options.sackPermitted = false
    }
    return syn
  }

  // MARK: SipHash-2-4

  private func mac(_ tuple: FiveTuple, _ first: UInt64, _ second: UInt64) -> UInt64 {
    var hash = SipHash(keys.0, keys.1)
    hash.add(tuple.client.high)
    hash.add(tuple.client.low)
    hash.add(tuple.virtual.high)
    hash.add(tuple.virtual.low)
    hash.add(first << 32 | UInt64(tuple.clientPort) << 16 | UInt64(tuple.virtualPort))
    hash.add(second)
    return hash.finish(words: 6)
  }
}

extension TCPEndpoint {
  /// A SYN was answered by a cookie that TIME-WAIT is needed to know by: its whole time begins anew.
  package mutating func answeredByCookie(at now: MonotonicInstant) { restartTimeWait(at: now) }
}
