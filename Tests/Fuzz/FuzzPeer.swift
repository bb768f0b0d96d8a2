import Primitives
import TCP
import Wire

// A client at one five-tuple: builds packets relative to what it knows of its conversation, and
// checks what the stack sends.
//
// An octet of the upload is a function of its sequence number, so that every segment of a peer, wherever
// it lies, says the same; an octet of the download is one of its place in the stream. What is checked of
// an answer: acknowledgments never go back, nor does the right edge of the window; nothing is
// acknowledged that the target did not take; nothing is sent beyond what was ever offered, or that the
// target did not say.

final class FuzzPeer {
  /// What was learnt from a SYN-ACK on.
  struct Conversation {
    var initialSent: UInt32  // IRS of the stack
    var initialReceived: UInt32  // its ISS
    var shift: Int
    /// The SYN-ACK took the offer of ECN.
    var isCapable = false
    /// The target's socket; nil where the handshake comes first.
    var socket: FuzzSocket?
    /// Relative to `initialSent`.
    var acknowledged = 1
    var windowEnd = 0
  }

  let index: Int
  let client: IPAddress
  let virtual: IPAddress
  let clientPort: UInt16
  let virtualPort: UInt16
  let isTCP: Bool

  private var initial: UInt32 = 0xFFFF_F000
  private(set) var sequence: UInt32 = 0
  private(set) var next: UInt32 = 0
  private var lastAcknowledged: UInt32 = 0
  /// The latest segment, as it was sent.
  private(set) var lastSaid = TCPHeader(
    sourcePort: 0, destinationPort: 0, sequence: SequenceNumber(0),
    acknowledgment: SequenceNumber(0), flags: [], window: 0)
  private var shift = 0
  /// The largest shift of the SYNs since the last conversation began: one of them was held.
  private var shiftMax = 0
  private var usesTimestamps = false
  private var timestamp: UInt32 = 0
  /// The right edge of the windows offered in this conversation, relative to `initialReceived`.
  private var offered = 65_536
  private(set) var conversation: Conversation?
  var lastDialled: FuzzSocket?

  init(
    _ index: Int, _ client: IPAddress, _ clientPort: UInt16, _ virtual: IPAddress,
    _ virtualPort: UInt16, isTCP: Bool
  ) {
    self.index = index
    self.client = client
    self.clientPort = clientPort
    self.virtual = virtual
    self.virtualPort = virtualPort
    self.isTCP = isTCP
  }

  static var all: [FuzzPeer] {
    let client4 = IPAddress(v4: 0xC000_0207)
    let client6 = IPAddress(high: 0x2001_0DB8 << 32, low: 7)
    let virtual4 = IPAddress(v4: 0x0A4D_000A)
    let virtual6 = IPAddress(high: 0xFD77 << 48, low: 0x10)
    return [
      FuzzPeer(0, client4, 40_000, virtual4, 8000, isTCP: true),
      FuzzPeer(1, client4, 40_001, virtual4, 8001, isTCP: true),
      FuzzPeer(2, client6, 40_002, virtual6, 8002, isTCP: true),
      FuzzPeer(3, client4, 40_003, virtual4, 8003, isTCP: false),
      FuzzPeer(4, client6, 40_004, virtual6, 8004, isTCP: false),
      FuzzPeer(5, client4, 40_005, virtual4, 9999, isTCP: true),  // no rule
    ]
  }

  var tuple: FiveTuple {
    FiveTuple(
      client: client, virtual: virtual, clientPort: clientPort, virtualPort: virtualPort,
      transport: isTCP ? .tcp : .udp)
  }

  var owesAcknowledgment: Bool { conversation != nil && lastAcknowledged != next }

  func window(_ variant: UInt8) -> UInt16 {
    switch variant & 7 {
    case 0: 0
    case 1: 1
    case 2: 100
    case 3: 1460
    case 4: 10_000
    default: 0xFFFF
    }
  }

  // MARK: Packets

  func syn(_ choice: UInt8, at now: MonotonicInstant) -> [UInt8] {
    if choice & 128 != 0 { initial &+= 0x0100_0000 }
    sequence = initial
    var options = TCPOptions()
    if choice & 1 != 0 { options.maximumSegmentSize = choice & 2 != 0 ? 1 : 1460 }
    if choice & 4 != 0 { options.windowScale = choice & 2 != 0 ? 14 : 7 }
    shiftMax = max(shiftMax, Int(options.windowScale ?? 0))
    options.sackPermitted = choice & 8 != 0
    usesTimestamps = choice & 16 != 0
    let flags: TCPFlags = choice & 32 != 0 ? [.syn, .ece, .cwr] : .syn
    let packet = make(
      flags, sequence: sequence, acknowledgment: 0, window: choice & 64 != 0 ? 0 : 0xFFFF,
      options: options, octets: 0, at: now)
    sequence &+= 1
    return packet
  }

  /// - Parameters:
  ///   - sequenceDelta: to where the peer's stream stands, or to what the stack has acknowledged.
  ///   - advances: what it carries counts as said.
  ///   - ecn: the low bits of its traffic class.
  func segment(
    _ flags: TCPFlags, octets: Int = 0, sequenceDelta: Int = 0, acknowledgmentDelta: Int = 0,
    fromAcknowledged: Bool = false, window: UInt16? = nil, advances: Bool = false,
    options: TCPOptions = TCPOptions(), ecn: UInt8 = 0, at now: MonotonicInstant
  ) -> [UInt8] {
    var base = sequence
    if fromAcknowledged, let conversation {
      base = conversation.initialSent &+ UInt32(truncatingIfNeeded: conversation.acknowledged)
    }
    let octets = min(octets, 65_400)
    let start = base &+ UInt32(truncatingIfNeeded: sequenceDelta)
    let packet = make(
      flags, sequence: start,
      acknowledgment: next &+ UInt32(truncatingIfNeeded: acknowledgmentDelta),
      window: window ?? 0xFFFF, options: options, octets: octets, ecn: ecn, at: now)
    if advances {
      sequence &+= UInt32(octets)
      if flags.contains(.fin) { sequence &+= 1 }
    }
    return packet
  }

  func reset(_ variant: UInt8, at now: MonotonicInstant) -> [UInt8] {
    switch variant & 3 {
    case 0: segment(.rst, fromAcknowledged: true, at: now)
    case 1: segment(.rst, sequenceDelta: 100, fromAcknowledged: true, at: now)
    case 2: segment([.rst, .ack], sequenceDelta: -1, at: now)
    default: segment(.rst, at: now)
    }
  }

  /// An acknowledgment that names blocks beside it, in units of 128 octets.
  func selective(
    _ variant: UInt8, _ first: UInt8, _ second: UInt8, at now: MonotonicInstant
  ) -> [UInt8] {
    let backwards = Int(variant) * 256
    let base = next &- UInt32(backwards)
    var options = TCPOptions()
    let starts = [first & 15, second & 15]
    let lengths = [first >> 4, second >> 4]
    for (start, length) in zip(starts, lengths) {
      let begin = base &+ UInt32(start) &* 256
      options.sackBlocks.append(
        SACKBlock(
          start: SequenceNumber(begin), end: SequenceNumber(begin &+ UInt32(length) &* 256)))
    }
    return segment(.ack, acknowledgmentDelta: -backwards, options: options, at: now)
  }

  private func make(
    _ flags: TCPFlags, sequence: UInt32, acknowledgment: UInt32, window: UInt16,
    options: TCPOptions, octets: Int, ecn: UInt8 = 0, at now: MonotonicInstant
  ) -> [UInt8] {
    var options = options
    if usesTimestamps, !flags.contains(.rst) {
      options.timestamp = TCPTimestamp(
        value: UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000), echo: timestamp)
    }
    if flags.contains(.ack), !flags.contains(.syn) {
      lastAcknowledged = acknowledgment
      noteOffer(acknowledgment, window)
    }
    let header = TCPHeader(
      sourcePort: clientPort, destinationPort: virtualPort, sequence: SequenceNumber(sequence),
      acknowledgment: SequenceNumber(acknowledgment), flags: flags, window: window, options: options
    )
    lastSaid = header
    let payload = Array(FuzzPattern.upload.octets(at: Int(sequence), count: octets))
    return FuzzPackets.frame(payload) { memory, slices in
      PacketWriter.tcp(
        to: memory, source: self.client, destination: self.virtual, header: header, payload: slices,
        payloadOctets: octets, segmentOctets: octets > 1460 ? 1000 : 0, trafficClass: ecn,
        checksum: octets > 1460 ? .offloaded : .computed)
    }
  }

  private func noteOffer(_ acknowledgment: UInt32, _ window: UInt16) {
    guard let conversation else { return }
    let distance = Int(Int32(bitPattern: acknowledgment &- conversation.initialReceived))
    // An acknowledgment of what was not sent yet may come true.
    if distance >= -(1 << 30) { offered = max(offered, distance + Int(window) << shift) }
  }

  func datagram(_ octets: Int, _ variant: UInt8, at now: MonotonicInstant) -> [UInt8] {
    let octets = min(octets, 65_400)
    let segment = variant & 1 != 0 && octets > 1000 ? 1000 : 0
    let payload = [UInt8](repeating: 0x55, count: octets)
    return FuzzPackets.frame(payload) { memory, slices in
      PacketWriter.udp(
        to: memory, source: self.client, destination: self.virtual, sourcePort: self.clientPort,
        destinationPort: self.virtualPort, payload: slices, payloadOctets: octets,
        segmentOctets: segment, checksum: segment > 0 ? .offloaded : .computed)
    }
  }

  /// An echo request, or an error about a segment that the stack may have sent.
  func message(_ variant: UInt8, _ detail: UInt8) -> [UInt8] {
    if variant & 1 == 0 {
      return FuzzPackets.icmp(
        from: client, to: virtual, type: client.isIPv4 ? 8 : 128, code: 0, rest: 1,
        body: [UInt8](repeating: 7, count: Int(detail) * 4))
    }
    let quoted = FuzzPackets.quotation(
      from: virtual, virtualPort, to: client, clientPort, isTCP: isTCP,
      sequence: next &+ UInt32(truncatingIfNeeded: Int(Int8(bitPattern: detail)) * 64))
    let isTooBig = variant & 2 != 0
    let type: UInt8 = client.isIPv4 ? 3 : isTooBig ? 2 : 1
    let code: UInt8 = client.isIPv4 ? (isTooBig ? 4 : detail & 15) : isTooBig ? 0 : detail & 7
    return FuzzPackets.icmp(
      from: client, to: virtual, type: type, code: code,
      rest: isTooBig ? UInt32(variant) * 64 : 0, body: quoted)
  }

  func fragments(of frame: [UInt8], cut: UInt8) -> [[UInt8]] {
    FuzzPackets.fragments(of: frame, from: client, to: virtual, isTCP: isTCP, cut: Int(cut))
  }

  // MARK: Answers

  /// - Parameter trafficClass: of its packet.
  func receive(_ header: TCPHeader, payload: UnsafeRawBufferPointer, trafficClass: UInt8) {
    if let echoed = header.options.timestamp { timestamp = echoed.value }
    if trafficClass != 0 {
      // RFC 3168 §6.1.1, §6.1.4: data of those who have agreed, and nothing else.
      require(trafficClass == 2 && !payload.isEmpty, "ECT(0) on data alone")
      require(conversation?.isCapable == true, "ECT(0) for those who agreed")
    }
    guard !header.flags.contains(.rst) else { return }
    if header.flags.contains(.syn) { return answered(header) }
    guard var conversation else { fatalError("broken: a segment before the SYN-ACK") }
    defer { self.conversation = conversation }
    if conversation.socket == nil {  // answered by a cookie: the dial comes behind it
      conversation.socket = takeDialled(initial: conversation.initialSent &+ 1)
    }
    let acknowledged = Int(
      Int32(bitPattern: header.acknowledgment.rawValue &- conversation.initialSent))
    require(acknowledged >= conversation.acknowledged, "acknowledgments do not go back")
    conversation.acknowledged = acknowledged
    let windowEnd = acknowledged + Int(header.window) << conversation.shift
    require(windowEnd >= conversation.windowEnd, "the window's right edge is not taken back")
    conversation.windowEnd = windowEnd
    let taken = conversation.socket.map { $0.takenOctets + ($0.finishTold ? 1 : 0) } ?? 0
    require(acknowledged <= 1 + taken, "only what the target took is acknowledged")

    let start = Int(
      Int32(bitPattern: header.sequence.rawValue &- conversation.initialReceived))
    let end = start + payload.count
    require(payload.isEmpty || start >= 1, "data is behind the SYN")
    require(end <= offered + 1, "nothing beyond the offered window but a probe")
    let said = conversation.socket?.saidOctets ?? 0
    require(end <= said + 2, "nothing that the target did not say")
    require(
      payload.isEmpty || FuzzPattern.download.matches(payload, at: start - 1),
      "the target's octets as they were")
    let isFinal = header.flags.contains(.fin)
    if isFinal {
      require(conversation.socket?.finishRead == true, "FIN only behind the target's end")
      require(end == said + 1, "FIN behind the last octet")
    }
    let known = Int(Int32(bitPattern: next &- conversation.initialReceived))
    let reached = end + (isFinal ? 1 : 0)
    if start <= known, reached > known { next = next &+ UInt32(reached - known) }
  }

  /// The socket that was dialled and belongs to no conversation yet.
  private func takeDialled(initial: UInt32) -> FuzzSocket? {
    defer { lastDialled = nil }
    lastDialled?.initial = initial
    return lastDialled
  }

  /// A segment comes to its flow only now, and there may be another one than when it was sent.
  func arrivesLate(_ said: TCPHeader) {
    if said.flags.contains(.syn) {
      shiftMax = max(shiftMax, Int(said.options.windowScale ?? 0))
    } else if said.flags.contains(.ack) {
      noteOffer(said.acknowledgment.rawValue, said.window)
    }
  }

  /// A segment was taken for an answer to a cookie: a flow begins with what it says. While a cookie is
  /// good, it may do so again when the flow is gone, with the same numbers.
  func cookieReturned(in said: TCPHeader) {
    var scale: UInt8?
    if let stamp = said.options.timestamp, stamp.echo & 15 != 15 {
      scale = UInt8(stamp.echo & 15)
    }
    conversation = Conversation(
      initialSent: said.sequence.rawValue &- 1,
      initialReceived: said.acknowledgment.rawValue &- 1, shift: scale == nil ? 0 : 8)
    lastDialled = nil
    next = said.acknowledgment.rawValue
    shift = Int(scale ?? 0)
    shiftMax = 0
    offered = 65_536
    noteOffer(next, said.window)
  }

  /// A socket was closed: if it was never answered, it is nobody's.
  func closed(_ socket: FuzzSocket) {
    if lastDialled === socket, conversation == nil || conversation?.socket != nil {
      lastDialled = nil
    }
  }

  private func answered(_ header: TCPHeader) {
    require(header.flags.contains(.ack), "a SYN comes with an acknowledgment")
    if conversation?.initialReceived == header.sequence.rawValue {
      conversation?.isCapable = header.flags.contains(.ece)
      return
    }
    next = header.sequence.rawValue &+ 1
    lastAcknowledged = header.sequence.rawValue
    shift = shiftMax
    shiftMax = 0
    let socket = takeDialled(initial: header.acknowledgment.rawValue)
    // A cookie: what rests in TIME-WAIT goes on speaking until it has come back.
    if socket == nil, conversation != nil { return }
    conversation = Conversation(
      initialSent: header.acknowledgment.rawValue &- 1,
      initialReceived: header.sequence.rawValue,
      shift: Int(header.options.windowScale ?? 0), isCapable: header.flags.contains(.ece),
      socket: socket)
    offered = 65_536
  }
}
