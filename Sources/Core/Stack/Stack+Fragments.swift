import Configuration
import Fragments
import ICMP
import Primitives
import SocketTable
import TCP
import Wire

// Fragments: kept for addresses that a rule covers, joined, and then treated as if the device had
// given the packet whole.
//
// Its transport checksum is verified like any other's: what the device said about the fragments says
// nothing about their sum. The whole packet stays where it is until the target pass ends.

extension Stack {
  /// Keeps a fragment.
  /// - Returns: the whole packet, with a virtio-net header, once nothing of it is missing.
  mutating func reassemble(
    _ arrival: Arrival, at now: MonotonicInstant
  ) throws(DropReason) -> UnsafeRawBufferPointer? {
    let ip = arrival.packet.ip
    guard rules.table.covers(ip.destination) else {
      // The same answer as to a whole datagram, whose beginning this is.
      if settings.rejectsUnmatched, ip.transport == IPProtocol.udp, ip.fragmentOffset == 0 {
        counters.refusals += 1
        sendUnreachable(.port, about: arrival, at: now)
      }
      throw .notForUs
    }
    return try fragments.receive(
      arrival.octets.bytes, header: ip, at: now, drops: &memory.drops)
  }

  /// Forgets datagrams whose fragments did not all come, and tells the senders of those whose first
  /// fragment did (RFC 1122 §3.3.2, RFC 8200 §4.5).
  mutating func expireFragments(at now: MonotonicInstant) {
    while let expired = fragments.popExpired(at: now, drops: &memory.drops) {
      guard let first = expired.firstFragment else { continue }
      guard icmpLimiter.take(at: now) else {
        memory.drops.count(.rateLimited)
        continue
      }
      do {
        try ICMPResponder.reassemblyTimeExceeded(
          quoting: first.bytes, header: try IPHeader(parsing: first.bytes), into: &frames)
        counters.icmpErrors += 1
      } catch {
        memory.drops.count(error)
      }
    }
  }

  /// Datagrams that wait for fragments, the octets they hold, and datagrams completed since the start.
  package var reassembly: (waiting: Int, octets: Int, completed: UInt64) {
    (fragments.datagrams, fragments.octets, fragments.completedTotal)
  }
}
