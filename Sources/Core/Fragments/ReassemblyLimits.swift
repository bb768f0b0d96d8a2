import Primitives
import Wire

// What all clients together, and one of them, may make a worker keep of unfinished datagrams.
//
// The figures are those of Linux where it has any: 4 MiB in all (ipfrag_high_thresh), 30 s for IPv4
// (ipfrag_time), 60 s for IPv6 (RFC 8200 §4.5). RFC 1122 §3.3.2 says that IPv4 SHOULD wait 60 to
// 120 s; that is deliberately less here, as in Linux: identifications are 16 bits wide and repeat
// within seconds at today's rates (RFC 4963), so that old fragments are more likely to be joined
// with a stranger's than with their own. `ReassemblyTimeTests` holds both.

package struct ReassemblyLimits: Sendable {
  /// The most that a datagram has behind its IP header.
  package static let payloadOctetsMax = 65_535

  /// Datagrams that wait for fragments at once.
  package var datagrams = 128
  /// Fragment payload that they hold together, in octets.
  package var octets = 4 << 20
  /// Of these, what belongs to one source address. At least one whole datagram's octets.
  package var datagramsPerSource = 32
  package var octetsPerSource = 1 << 20
  /// A whole datagram at the smallest MTU in use (576, IPv4) is 119.
  package var fragmentsPerDatagram = 128
  /// Whole datagrams whose memory is not yet given back by `endTurn`. A worker reads 256 packets a
  /// turn, and the shortest datagram takes two.
  package var completedPerTurn = 128
  /// From a datagram's first arrival, whichever fragment that is.
  package var timeoutIPv4 = Interval.seconds(30)
  package var timeoutIPv6 = Interval.seconds(60)

  package init() {}

  /// One worker's share of what several may keep together. No less than one source may keep: all
  /// fragments between two addresses come to one worker.
  package func shared(by workers: Int) -> Self {
    var share = self
    share.datagrams = max(min(datagrams, datagramsPerSource), datagrams / workers)
    share.octets = max(min(octets, octetsPerSource), octets / workers)
    return share
  }
}
