import Primitives
import TCP
import Wire

// Initial sequence numbers (RFC 6528, RFC 9293 §3.4.1) and timestamp offsets (RFC 7323 §7.1).
//
// ISN = M + F(five-tuple, secret): M counts 4 µs, F is SipHash-2-4, whose secret nobody learns from what
// it yields. So numbers of one five-tuple rise with time, and those of another tell nothing about them.
// The hash of the flow index would not do: it is fast, and not made to be looked at from outside.

struct InitialSequence: BitwiseCopyable, Sendable {
  private let secret: (UInt64, UInt64)

  /// - Parameter secret: from the system's entropy, drawn once at start and told to nobody.
  init(secret: (UInt64, UInt64)) { self.secret = secret }

  /// What is a five-tuple's own.
  struct Secrets {
    var sequenceOffset: UInt32
    var timestampOffset: UInt32

    /// ISS of a connection that begins now.
    /// - Parameter last: SND.NXT of the connection in TIME-WAIT that gives way. The new one begins
    ///   beyond everything that it sent (RFC 1122 §4.2.2.13), which may have outrun the clock.
    func sequence(at now: MonotonicInstant, after last: SequenceNumber? = nil) -> SequenceNumber {
      let clock = UInt32(truncatingIfNeeded: now.nanoseconds / 4_000)
      let sequence = SequenceNumber(clock &+ sequenceOffset)
      guard let last else { return sequence }
      let floor = InitialSequence.floor(after: last)
      return sequence.precedes(floor) ? floor : sequence
    }
  }

  /// The first number for a connection that follows one in TIME-WAIT whose SND.NXT is `last`.
  static func floor(after last: SequenceNumber) -> SequenceNumber { last + 0x1_0000 }

  func secrets(of tuple: FiveTuple) -> Secrets {
    var hash = SipHash(secret.0, secret.1)
    hash.add(tuple.client.high)
    hash.add(tuple.client.low)
    hash.add(tuple.virtual.high)
    hash.add(tuple.virtual.low)
    hash.add(UInt64(tuple.clientPort) << 16 | UInt64(tuple.virtualPort))
    let value = hash.finish(words: 5)
    return Secrets(
      sequenceOffset: UInt32(truncatingIfNeeded: value),
      timestampOffset: UInt32(truncatingIfNeeded: value >> 32))
  }
}
