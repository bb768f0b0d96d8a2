import Primitives
import TCP
import Wire

// A client that is our own engine: a `TCPEndpoint` at the other end of the link.
//
// The engine has no active open. The twin sends a SYN of its own making, and when the SYN-ACK is in it
// plays the handshake with the roles reversed: the SYN-ACK, read as a SYN, is held by a new endpoint,
// whose answer is thrown away because the client's SYN has said it already, and an acknowledgement
// made up from the SYN-ACK completes it. From then on everything is the engine's: windows, recovery,
// timers, the end. One arrival is one turn; the application's pace is `ClientPlan`'s.

final class Twin: Client {
  static let memoryOctets = 8 << 20

  let plan: ClientPlan
  let addressing: Addressing
  let uploadKey: Int
  let downloadKey: Int
  let initial: UInt32
  private let stampOffset: UInt32
  private let segmentOctets: UInt16
  var phase = ClientPhase.idle
  private(set) var outcome = ClientOutcome.none
  var outbox: [(packet: [UInt8], segmentOctets: Int)] = []
  var endpoint: TCPEndpoint?
  var memory = TCPMemory(octets: Twin.memoryOctets, flows: 1)
  private var frames = FrameQueue()
  let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 64)
  private let path: TCPPath

  private var stampsOn = false
  private var synSentAt = MonotonicInstant.zero
  private var tries = 0
  private var retryAt = MonotonicInstant.distantFuture
  private var resetAt = MonotonicInstant.distantFuture
  var written = 0
  var writeAt = MonotonicInstant.distantFuture
  var hasFinished = false
  var downloaded = 0
  var finishReceived = false
  var readAt = MonotonicInstant.distantFuture
  var hasStalled = false
  private var keepaliveAt = MonotonicInstant.distantFuture

  init(
    _ plan: ClientPlan, _ addressing: Addressing, uploadKey: Int, downloadKey: Int,
    dice: inout Dice
  ) {
    self.plan = plan
    self.addressing = addressing
    self.uploadKey = uploadKey
    self.downloadKey = downloadKey
    initial = dice.percent(40) ? UInt32.max &- UInt32(dice.below(40_000)) : dice.word()
    stampOffset = dice.percent(30) ? UInt32.max &- UInt32(dice.below(5_000)) : dice.word()
    segmentOctets = UInt16(plan.maximumSegment ?? 536)
    let isBursty = plan.superSegments > 1
    path = TCPPath(
      // An endpoint sends from `virtual` to `client`.
      tuple: FiveTuple(
        client: addressing.virtualAddress, virtual: addressing.clientAddress,
        clientPort: addressing.virtualPort, virtualPort: addressing.clientPort, transport: .tcp),
      checksum: isBursty ? .offloaded : .computed, burstOctets: isBursty ? 60_000 : 0)
  }

  deinit { slices.deallocate() }

  var highest: Int {
    guard let endpoint else { return 1 }
    return Int(endpoint.send.next.rawValue &- initial)
  }

  var timeouts: Int { 0 }

  var nextDeadline: MonotonicInstant {
    let own = min(min(retryAt, resetAt), min(min(writeAt, readAt), keepaliveAt))
    return min(own, endpoint?.nextDeadline ?? .distantFuture)
  }

  var leftover: String? {
    let held = (
      memory.chunks.count, memory.sent.count, memory.stores.count, memory.pending.count
    )
    if held != (0, 0, 0, 0) { return "chunks, records, stores, pending \(held)" }
    if nextDeadline != .distantFuture { return "a timer at \(nextDeadline.nanoseconds)" }
    return nil
  }

  // MARK: Opening

  func open(at now: MonotonicInstant) {
    phase = .opening
    if let after = plan.resetAfter { resetAt = now + after }
    sendSYN(at: now)
  }

  private func sendSYN(at now: MonotonicInstant) {
    var segment = Segment()
    segment.sequence = initial
    segment.flags = plan.offersECN ? Flag.syn | Flag.ece | Flag.cwr : Flag.syn
    segment.window = UInt16(min(plan.bufferOctets, 65_535))
    segment.maximumSegment = Int(segmentOctets)
    segment.scale = plan.scale
    segment.permitsSACK = plan.permitsSACK
    if plan.usesTimestamps {
      segment.timestamp = (
        UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000) &+ stampOffset, 0
      )
    }
    synSentAt = now
    retryAt = now + .milliseconds(1_000 << min(tries, 4))
    emit(segment)
  }

  private func emit(_ segment: Segment) {
    outbox.append(
      (Packets.build(addressing, segment, key: uploadKey, offset: 0, octets: 0), 0))
  }

  private func begin(with answer: TCPHeader, at now: MonotonicInstant) {
    stampsOn = answer.options.timestamp != nil
    var syn = answer
    syn.flags =
      plan.offersECN && answer.flags.contains(.ece) ? [.syn, .ece, .cwr] : .syn
    var endpoint = TCPEndpoint(
      holding: syn, isIPv4: addressing.isIPv4, initialSequence: SequenceNumber(initial),
      timestampOffset: stampOffset,
      settings: TCPSettings(
        segmentOctets: segmentOctets, windowOctets: UInt32(plan.bufferOctets),
        timeWait: .seconds(20)), at: now)
    endpoint.answer()
    _ = endpoint.transmit(at: synSentAt, path: path, memory: &memory, frames: &frames)
    frames.removeAll()
    var acknowledgment = answer
    acknowledgment.flags = .ack
    acknowledgment.sequence = answer.sequence + 1
    acknowledgment.window = answer.window >> UInt16(answer.options.windowScale ?? 0)
    let empty = TCPSegment(header: acknowledgment, payload: Slice(nil, 0))
    _ = endpoint.segmentArrives(empty, at: now, memory: &memory)
    // The SYN-ACK again: its answer is the acknowledgement that the stack waits for.
    _ = endpoint.segmentArrives(
      TCPSegment(header: answer, payload: Slice(nil, 0)), at: now, memory: &memory)
    self.endpoint = endpoint
    phase = .open
    retryAt = .distantFuture
    keepaliveAt = now + Peer.keepaliveInterval
    write(at: now)
  }

  func unreachable() {
    guard phase == .opening else { return }
    end(.unreachable)
  }

  private func end(_ outcome: ClientOutcome) {
    if self.outcome == .none { self.outcome = outcome }
    phase = .gone
    retryAt = .distantFuture
    resetAt = .distantFuture
    stopApplication()
    endpoint?.release(memory: &memory)
  }

  private func stopApplication() {
    writeAt = .distantFuture
    readAt = .distantFuture
    keepaliveAt = .distantFuture
  }

  // MARK: Events

  func timer(at now: MonotonicInstant) {
    guard phase != .gone else { return }
    if resetAt <= now {
      resetAt = .distantFuture
      if phase == .opening || phase == .open { return abort(at: now) }
    }
    if phase == .opening {
      guard retryAt <= now else { return }
      tries += 1
      if tries > 7 { end(.gaveUp) } else { sendSYN(at: now) }
      return
    }
    if let deadline = endpoint?.nextDeadline, deadline <= now {
      let outcome = endpoint?.handleDeadline(at: now, memory: &memory) ?? []
      if outcome.contains(.closed) {
        end(phase == .lingering ? .finished : .gaveUp)
        return
      }
    }
    if writeAt <= now { write(at: now) }
    if keepaliveAt <= now { keepAlive(at: now) }
    // What is read here is never kept for a later turn: nothing is compared that was not said.
    if readAt <= now { read(at: now) }
    transmit(at: now)
  }

  /// An application that closes with SO_LINGER 0.
  private func abort(at now: MonotonicInstant) {
    if phase == .opening {
      var segment = Segment()
      segment.sequence = initial &+ 1
      segment.flags = Flag.rst
      emit(segment)
    } else {
      _ = endpoint?.reset(path: path, frames: &frames)
      drain()
    }
    end(.resetByUs)
  }

  /// The engine asks nobody for a sign of life; its user does, so that a lost reset is found out.
  private func keepAlive(at now: MonotonicInstant) {
    keepaliveAt = now + Peer.keepaliveInterval
    guard let endpoint, endpoint.send.next == endpoint.send.unacknowledged else { return }
    var segment = Segment()
    segment.sequence = endpoint.send.next.rawValue &- 1
    segment.acknowledgment =
      endpoint.receive.acknowledgment(finishTaken: finishReceived).rawValue
    segment.flags = Flag.ack
    if stampsOn {
      segment.timestamp = (
        UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000) &+ stampOffset, 0
      )
    }
    emit(segment)
  }

  func receive(_ packet: [UInt8], said: Int, saidAll: Bool, at now: MonotonicInstant) throws {
    try packet.withUnsafeBytes { bytes in
      guard let parsed = try? ParsedPacket(parsing: bytes.bytes),
        case .tcp(let header) = parsed.transport, let base = bytes.baseAddress
      else { throw Violation("the twin cannot read a packet: \(packet.prefix(60))") }
      let payload = Slice(
        UnsafeMutableRawPointer(mutating: base + parsed.payloadOffset), parsed.payloadOctets)
      let segment = TCPSegment(
        header: header, payload: payload, isCongestionMarked: parsed.ip.isCongestionMarked)
      try arrives(segment, said, saidAll, at: now)
    }
  }

  private func arrives(
    _ segment: TCPSegment, _ said: Int, _ saidAll: Bool, at now: MonotonicInstant
  ) throws {
    switch phase {
    case .idle, .gone: return refuse(segment)
    case .opening:
      let flags = segment.header.flags
      guard flags.contains(.ack) else { throw Violation("no ACK in answer to a SYN") }
      guard segment.header.acknowledgment.rawValue == initial &+ 1 else { return refuse(segment) }
      if flags.contains(.rst) { return end(.resetByStack) }
      guard flags.contains(.syn) else { return }
      begin(with: segment.header, at: now)
    case .open, .lingering:
      let outcome = endpoint?.segmentArrives(segment, at: now, memory: &memory) ?? []
      if outcome.contains(.reset) {
        return end(phase == .lingering ? .finished : .resetByStack)
      }
      if outcome.contains(.refuse) { refuse(segment) }
      try checkEdges()
      if let failure { throw failure }
      guard downloaded + (endpoint?.receive.untakenOctets ?? 0) <= said else {
        throw Violation("the twin has \(downloaded) octets and more, the target said \(said)")
      }
      if readAt == .distantFuture { read(at: now) }
      if let failure { throw failure }
      guard saidAll || !finishReceived else { throw Violation("FIN, the target has not finished") }
      endpoint?.settle(memory: &memory)
      memory.turnEnded()
      if outcome.contains(.closed) { return end(.finished) }
      write(at: now)
    }
    transmit(at: now)
  }

  /// RCV.NXT, what is acknowledged, and the window's right edge only move forward.
  private func checkEdges() throws {
    guard let receive = endpoint?.receive else { return }
    let now = [receive.next, receive.taken, receive.advertised]
    if !edges.isEmpty, zip(now, edges).contains(where: { $0.distance(from: $1) < 0 }) {
      throw Violation("an edge of the twin's moved back: \(edges) to \(now)")
    }
    edges = now
  }

  private var edges: [SequenceNumber] = []
  var failure: Violation?

  private func refuse(_ segment: TCPSegment) {
    _ = TCPEndpoint.refuse(segment, path: path, frames: &frames)
    drain()
  }

  private func transmit(at now: MonotonicInstant) {
    guard endpoint != nil, phase != .gone else { return }
    while !(endpoint?.transmit(at: now, path: path, memory: &memory, frames: &frames) ?? true) {
      drain()
    }
    drain()
    if phase == .open, finishReceived, endpoint?.state == .timeWait {
      phase = .lingering
      outcome = .finished
      stopApplication()
    }
  }

  private func drain() {
    for index in 0..<frames.count {
      var frame: [UInt8] = []
      for slice in frames.slices(of: index) {
        frame.append(contentsOf: UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
      }
      var packet = Array(frame[10...])
      if frame[0] & 1 != 0 { Packets.complete(&packet) }
      outbox.append((packet, frame[1] == 0 ? 0 : Int(frame[4]) | Int(frame[5]) << 8))
    }
    frames.removeAll()
  }
}
