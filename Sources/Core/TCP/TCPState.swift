import Primitives
import Wire

// The words of the TCP engine: states, what a segment meant, what an endpoint is told at its birth.

/// Connection states of RFC 9293 §3.3.2. `listen` is a client's SYN that is held: the target is
/// being connected, and nothing has been answered.
package enum TCPState: UInt8, Sendable, BitwiseCopyable {
  case listen, synReceived, established, finWait1, finWait2, closing, timeWait, closeWait, lastAck
  case closed

  /// Whether the peer may still send data.
  var receives: Bool {
    switch self {
    case .synReceived, .established, .finWait1, .finWait2: true
    case .listen, .closing, .timeWait, .closeWait, .lastAck, .closed: false
    }
  }

  /// Whether data may be sent (and sent again).
  var sends: Bool {
    switch self {
    case .established, .closeWait, .finWait1, .closing, .lastAck: true
    case .listen, .synReceived, .finWait2, .timeWait, .closed: false
    }
  }

  /// Whether our FIN is queued or sent.
  var isFinishing: Bool {
    switch self {
    case .finWait1, .finWait2, .closing, .timeWait, .lastAck, .closed: true
    case .listen, .synReceived, .established, .closeWait: false
    }
  }
}

extension TCPFlags {
  /// SYN without ACK: a client's first word.
  var isOpening: Bool { contains(.syn) && !contains(.ack) }
}

/// What arrived means to the one who joins both sides.
package struct SegmentOutcome: FlagSet, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The handshake is complete.
  package static let established = SegmentOutcome(rawValue: 1 << 0)
  /// In-order payload waits to be gathered.
  package static let payload = SegmentOutcome(rawValue: 1 << 1)
  /// The peer's FIN is in order: nothing follows what is pending now.
  package static let finished = SegmentOutcome(rawValue: 1 << 2)
  /// The send buffer has room that it lacked before.
  package static let room = SegmentOutcome(rawValue: 1 << 3)
  /// The peer reset the connection; the endpoint is closed.
  package static let reset = SegmentOutcome(rawValue: 1 << 4)
  /// Nothing more will happen; the endpoint is closed in good order.
  package static let closed = SegmentOutcome(rawValue: 1 << 5)
  /// There is, or may be, something to transmit.
  package static let transmit = SegmentOutcome(rawValue: 1 << 6)
  /// The segment must be answered with a reset (RFC 9293 §3.10.7): it belongs to no connection
  /// that we know.
  package static let refuse = SegmentOutcome(rawValue: 1 << 7)
  /// The endpoint entered TIME-WAIT.
  package static let timeWait = SegmentOutcome(rawValue: 1 << 8)
  /// A SYN of a later incarnation reached TIME-WAIT (RFC 6191): forget this endpoint, take the SYN.
  package static let reincarnated = SegmentOutcome(rawValue: 1 << 9)
  /// What the target has not taken must be taken by its socket now (`ReceiveWindow`).
  package static let relieve = SegmentOutcome(rawValue: 1 << 10)
  /// Octets of ours that were in flight have been acknowledged.
  package static let progress = SegmentOutcome(rawValue: 1 << 11)
  /// Beside `closed`: the peer did not answer any more.
  package static let gone = SegmentOutcome(rawValue: 1 << 12)
}

/// A checked segment.
package struct TCPSegment: BitwiseCopyable {
  package var header: TCPHeader
  /// Lies in the device's read buffer until the turn ends.
  package var payload: Slice
  /// The network has marked it (CE).
  package var isCongestionMarked: Bool

  package init(header: TCPHeader, payload: Slice, isCongestionMarked: Bool = false) {
    self.header = header
    self.payload = payload
    self.isCongestionMarked = isCongestionMarked
  }
}

/// The fixed choices of an endpoint.
package struct TCPSettings: BitwiseCopyable, Sendable {
  /// The largest segment we take and send, octets, before options (RFC 6691): from the MTU.
  package var segmentOctets: UInt16
  /// The receive window, octets.
  package var windowOctets: UInt32
  /// What the receive window may grow to for a client far away, octets.
  package var windowOctetsMax: UInt32
  /// Octets kept towards a peer that is neither close nor far away.
  package var sendBufferOctets: UInt32
  /// Octets kept towards a peer far away.
  package var sendBufferOctetsMax: UInt32
  package var algorithm: CongestionControl.Algorithm
  /// 2·MSL (RFC 9293 §3.6.1), shorter as kernels have it.
  package var timeWait: Interval
  /// Silence after which a client is asked whether it is there (RFC 9293 §3.8.4); zero: never.
  package var keepalive: Interval

  package init(
    segmentOctets: UInt16, windowOctets: UInt32 = 960 * 1024,
    windowOctetsMax: UInt32 = UInt32(ReceiveStore.windowOctetsMax),
    sendBufferOctets: UInt32 = 4 << 20, sendBufferOctetsMax: UInt32 = 16 << 20,
    algorithm: CongestionControl.Algorithm = .cubic, timeWait: Interval = .seconds(60),
    keepalive: Interval = .zero
  ) {
    self.segmentOctets = segmentOctets
    self.windowOctets = min(windowOctets, UInt32(ReceiveStore.windowOctetsMax))
    self.windowOctetsMax = min(windowOctetsMax, UInt32(ReceiveStore.windowOctetsMax))
    self.sendBufferOctets = sendBufferOctets
    self.sendBufferOctetsMax = max(sendBufferOctets, sendBufferOctetsMax)
    self.algorithm = algorithm
    self.timeWait = timeWait
    self.keepalive = keepalive
  }
}

extension TCPSettings {
  /// What a client is offered at first, and what it may come to be offered, octets; more than 65 535
  /// only if it scales its windows.
  func window(scales: Bool) -> (usual: UInt32, widest: UInt32) {
    scales ? (windowOctets, windowOctetsMax) : (min(windowOctets, 0xFFFF), 0xFFFF)
  }
}

/// Where an endpoint's packets go, and how they are dressed.
package struct TCPPath: BitwiseCopyable {
  package var tuple: FiveTuple
  package var checksum: ChecksumMode
  /// Octets of payload one frame may carry: 64 KiB less headers with segmentation offload, 0
  /// without.
  package var burstOctets: Int
  /// Whether a super-packet may carry CWR: the device then leaves it on the first segment alone
  /// (virtio 1.2 §5.1.6.2, VIRTIO_NET_HDR_GSO_ECN).
  package var cutsReduced: Bool

  package init(
    tuple: FiveTuple, checksum: ChecksumMode, burstOctets: Int, cutsReduced: Bool = true
  ) {
    self.tuple = tuple
    self.checksum = checksum
    self.burstOctets = burstOctets
    self.cutsReduced = cutsReduced
  }
}
