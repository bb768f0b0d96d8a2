import Primitives
import Wire

// A segment size that changes under a stream in flight: what was too big is sent again at once, and
// that is no congestion (RFC 1191 §6.3, RFC 8201 §5.4). The congestion window keeps its octets.

extension SendSide {
  /// ICMP says that segments of more than `limit` octets of payload are too big for the path, and
  /// quotes one that begins at `sequence`.
  /// - Returns: why that was not heard; nil when it was.
  mutating func packetTooBig(
    limit: Int, quoting sequence: SequenceNumber, at now: MonotonicInstant,
    memory: inout TCPMemory
  ) -> DropReason? {
    // RFC 5927 §4.1: SND.UNA ≤ SEG.SEQ < SND.NXT
    guard unacknowledged.precedesOrEquals(sequence), sequence.precedes(next) else {
      return .icmpUnmatched
    }
    let before = segmentOctets
    switch segmentSize.told(limit, at: now) {
    case .ignored: return .icmpBadMTU
    case .noted: return nil
    case .lowered: break
    }
    segmentSizeChanged(from: before)
    scoreboard.loseLarger(than: Int(segmentOctets), records: memory.sent)
    recovery.cancelTailProbe()
    retransmitAt = .distantFuture  // armed anew with what goes out
    return nil
  }

  /// The retransmission timer expired, and all that is outstanding is marked lost.
  mutating func segmentSizeTimedOut(at now: MonotonicInstant, memory: borrowing TCPMemory) {
    guard scoreboard.first != noSlot else { return }
    let before = segmentOctets
    segmentSize.timedOut(
      Int(backoff), first: memory.sent[scoreboard.first].octets, at: now)
    guard segmentOctets != before else { return }
    segmentSizeChanged(from: before)
    congestion.pace(windowOctets: Int(segmentOctets))  // one segment, as after every time-out
  }

  mutating func raiseSegmentSizeIfDue(at now: MonotonicInstant) {
    guard !recovery.isActive, !scoreboard.hasLost else { return }
    let before = segmentOctets
    segmentSize.raiseIfDue(next: next, at: now)
    segmentSizeChanged(from: before)
  }

  private mutating func segmentSizeChanged(from before: UInt16) {
    guard segmentOctets != before else { return }
    congestion.segmentSizeChanged(from: Int(before), to: Int(segmentOctets))
  }
}
