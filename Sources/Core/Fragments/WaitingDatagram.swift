import Primitives
import Wire

// A datagram that waits for its fragments, and the source that it is put down to.

/// The index that stands for none.
let none = UInt32.max

/// What fragments of one datagram have in common (RFC 791 §3.2, RFC 8200 §4.5), but for the source.
struct DatagramName: BitwiseCopyable, Equatable {
  var destination: IPAddress
  var identification: UInt32
  /// 0 in IPv6, whose identification is not per protocol.
  var transport: UInt8

  init(_ header: IPHeader) {
    destination = header.destination
    identification = header.identification
    transport = header.isIPv4 ? header.transport : 0
  }
}

struct WaitingDatagram: BitwiseCopyable {
  var name: DatagramName
  /// Its slot among the sources.
  var source: UInt32
  var isIPv4: Bool
  var deadline: MonotonicInstant
  /// Octets that are here.
  var octets = 0
  /// Octets that it will have; 0 until the last fragment came.
  var totalOctets = 0
  var fragments = 0

  /// The first fragment's payload, 0 until it came, and what was in front of it.
  var firstOctets = 0
  var firstHeaderOctets = 0
  var transport: UInt8 = 0
  var hopLimit: UInt8 = 0
  var trafficClass: UInt8 = 0

  /// A bit for each ECN codepoint seen.
  var codepoints: UInt8 = 0
  /// Why nothing of it is kept and nothing more of it is taken (RFC 5722 §4).
  var refusal: DropReason?

  /// Neighbours among the datagrams of the family, by age.
  var older = none
  var newer = none
  /// Neighbours among the datagrams of the source, by age.
  var olderOfSource = none
  var newerOfSource = none

  init(name: DatagramName, source: UInt32, isIPv4: Bool, deadline: MonotonicInstant) {
    self.name = name
    self.source = source
    self.isIPv4 = isIPv4
    self.deadline = deadline
  }

  /// DSCP of the first fragment, and the ECN codepoint of all (RFC 3168 §5.3): a mark of congestion
  /// is kept, but not where a fragment's sender cannot have meant it. Mixtures of the other three,
  /// on which the RFC is silent, claim the least.
  ///
  /// Throws `fragmentECNMixed` for CE beside Not-ECT.
  func joinedTrafficClass() throws(DropReason) -> UInt8 {
    let dscp = trafficClass & 0xFC
    let (notCapable, capable0, congested): (UInt8, UInt8, UInt8) = (1 << 0, 1 << 2, 1 << 3)
    if codepoints & congested != 0 {
      guard codepoints & notCapable == 0 else { throw .fragmentECNMixed }
      return dscp | 3
    }
    if codepoints & notCapable != 0 { return dscp }
    return dscp | (codepoints & capable0 != 0 ? 2 : 1)
  }
}

/// An address whose datagrams wait.
struct FragmentSource: BitwiseCopyable {
  var address: IPAddress
  /// The next source in the bucket.
  var next: UInt32
  var octets = 0
  /// 0 in slots that are free.
  var datagrams = 0
  var oldest = none
  var newest = none

  init(address: IPAddress, next: UInt32) {
    self.address = address
    self.next = next
  }
}
