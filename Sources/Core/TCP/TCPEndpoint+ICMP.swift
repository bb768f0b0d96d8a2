import Primitives
import Wire

// What ICMP errors about our segments mean to an endpoint (RFC 5927, RFC 5461).
//
// One that says "too big" changes the segment size. Of those that say "unreachable" none ends a
// connection that stands: networks mend, and anybody who guesses a sequence number could send one.
// Before it stands, the ones that no waiting mends do.

extension TCPEndpoint {
  /// A segment of ours that begins at `sequence` was larger than the next link's MTU.
  /// - Returns: why that was not heard; nil when it was: transmit then.
  package mutating func packetTooBig(
    mtu: Int, isIPv4: Bool, quoting sequence: SequenceNumber, at now: MonotonicInstant,
    memory: inout TCPMemory
  ) -> DropReason? {
    guard state.sends else { return .icmpUnmatched }
    // RFC 8201 §4: there is no such IPv6 link.
    guard isIPv4 || mtu >= Int(Self.pathOctetsMin(isIPv4: false)) else { return .icmpBadMTU }
    let headers = (isIPv4 ? 40 : 60) + (usesTimestamps ? 12 : 0)
    return send.packetTooBig(limit: mtu - headers, quoting: sequence, at: now, memory: &memory)
  }

  /// Whether a hard error about a segment that begins at `sequence` ends the connection: in
  /// SYN-RECEIVED, about our SYN-ACK (RFC 1122 §4.2.3.9, RFC 5461 §2.2).
  package func isEndedByHardError(quoting sequence: SequenceNumber) -> Bool {
    state == .synReceived && send.outstanding > 0 && sequence == send.unacknowledged
  }
}
