// Datagrams that travel as one: between the device and us as a super-packet (VIRTIO_NET_HDR_GSO_UDP_L4),
// between us and a target's socket as one message (UDP_SEGMENT, UDP_GRO; udp(7)).
//
// All of them have the same length but the last, which may be shorter and not empty. Whoever takes a run
// apart gets the same datagrams back. Most of what a datagram costs, it costs on its way through the
// kernel's layers, and a run goes that way once.
//
// The two bounds are those of what is joined here or sent to a target. What a target's socket, or the device,
// gives as one may exceed both: it can have 128 datagrams (Linux 6.10), and as many octets as UDP's length
// lets a datagram have, 65,507 over IPv4 and 65,527 over IPv6. Whoever passes one on whole asks first
// (`Stack.joinsDatagrams`).

@usableFromInline package struct DatagramRun: BitwiseCopyable, Equatable, Sendable {
  /// Datagrams of a run that is joined here: UDP_MAX_SEGMENTS of kernels before Linux 6.10.
  @inlinable package static var datagramsMax: Int { 64 }
  /// Octets of a run that is joined here: with the longest headers it still is an IPv4 packet.
  package static let octetsMax = 65_400

  /// The length of each but the last.
  @usableFromInline package private(set) var segmentOctets = 0
  @usableFromInline package private(set) var datagrams = 0
  /// The sum of their lengths.
  package private(set) var octets = 0

  package init() {}

  /// A piece by itself, of any length.
  /// - Parameter segmentOctets: the length of its datagrams but the last; 0: it is one datagram.
  package init(_ octets: Int, segmentOctets: Int = 0) {
    self.octets = octets
    self.segmentOctets = segmentOctets > 0 ? min(segmentOctets, octets) : octets
    datagrams = Self.datagrams(octets, self.segmentOctets)
  }

  /// Whether another datagram may follow.
  private var isOpen: Bool { octets > 0 && octets == datagrams * segmentOctets }

  /// Puts a piece behind the others, if together they still are a run, and within both bounds.
  @usableFromInline package mutating func join(_ piece: DatagramRun) -> Bool {
    guard isOpen, piece.octets > 0,
      piece.segmentOctets == segmentOctets
        || (piece.datagrams == 1 && piece.octets < segmentOctets),
      datagrams + piece.datagrams <= Self.datagramsMax, octets + piece.octets <= Self.octetsMax
    else { return false }
    datagrams += piece.datagrams
    octets += piece.octets
    return true
  }

  /// The length of a datagram that begins at an offset of the run.
  package func datagramOctets(at offset: Int) -> Int { min(segmentOctets, octets - offset) }

  private static func datagrams(_ octets: Int, _ segmentOctets: Int) -> Int {
    segmentOctets > 0 ? (octets + segmentOctets - 1) / segmentOctets : 1
  }
}
