import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// A stack with a worker played by the test: whole packets in and out, target sockets that do as they
// are told.
//
// The passes are those of the real worker. What the device "read" is overwritten when the turn ends.
// Frames are copied out, and parsed, whenever the stack asks for them to be drained.

/// A target's socket.
struct FakeSocket {
  enum State { case connecting, open, closed, aborted }
  var state: State
  var received: [UInt8] = []
  var receivedDatagrams: [[UInt8]] = []
  /// Datagrams of each piece that was received.
  var receivedRuns: [Int] = []
  var finishReceived = false
  /// What the target says, and whether it has finished.
  var saying: [UInt8] = []
  var sayingDatagrams: [[UInt8]] = []
  var finishes = false
  var resets = false
  /// Octets that the target takes.
  var appetite = Int.max
  /// Octets that it takes beyond that, when it is made to.
  var relief = 0
}

/// A packet that the stack sent.
struct Reply {
  var ip: IPHeader
  var transport: ParsedPacket.Transport
  var payload: [UInt8]
  /// The whole IP packet.
  var octets: [UInt8]

  var tcp: TCPHeader? {
    if case .tcp(let header) = transport { header } else { nil }
  }
  var udp: UDPHeader? {
    if case .udp(let header) = transport { header } else { nil }
  }
  /// Type and code of an ICMP message, and the packet it quotes.
  var icmp: (type: UInt8, code: UInt8, quote: [UInt8])? {
    guard case .icmp = transport, payload.count >= 8 else { return nil }
    return (payload[0], payload[1], Array(payload[8...]))
  }
}

/// A copy of a stray.
struct LostFrame: Equatable {
  var worker: Int
  var frame: [UInt8]
  var wasFragmented: Bool
}

enum DialResult {
  case connects
  case hangs
  case fails(TargetFailure)
}

final class World {
  var stack: Stack
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  var dialing = DialResult.connects
  /// Where some addresses do otherwise than `dialing`.
  var dialingAt: [IPAddress: DialResult] = [:]
  /// By slot, of living flows.
  var sockets: [UInt32: FakeSocket] = [:]
  /// Of flows that ended, in order.
  var ended: [FakeSocket] = []
  /// How flows ended, as told to their owner, in order.
  var ends: [FlowEnd] = []
  var dials: [(transport: TransportProtocol, address: IPAddress, port: UInt16)] = []
  var replies: [Reply] = []
  private var strays: [LostFrame] = []
  private var buffers: [UnsafeMutableRawBufferPointer] = []
  private let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 256)

  init(
    rules: [ForwardRule], maxFlows: Int = 16, unmatched: UnmatchedPolicy = .reject,
    mtu: Int = 1500, bufferOctets: Int = 8 << 20,
    seed: (UInt64, UInt64) = (0x0123_4567_89AB_CDEF, 42),
    adjusting adjust: (inout StackSettings) -> Void = { _ in }
  ) {
    var settings = StackSettings(
      mtu: mtu, maxFlows: maxFlows, unmatched: unmatched, drainTimeout: .seconds(30),
      seed: seed, offloadsSegmentation: false, offloadsChecksum: false)
    settings.bufferOctetsMax = bufferOctets
    adjust(&settings)
    stack = Stack(settings: settings, rules: RuleSet(rules), at: now)
  }

  deinit {
    slices.deallocate()
    for buffer in buffers { buffer.deallocate() }
  }

  /// Another worker's packet; a turn passes.
  func takeOver(_ stray: LostFrame) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: stray.frame.count, alignment: 16)
    buffer.copyBytes(from: stray.frame)
    buffers.append(buffer)
    stack.takeOver(
      UnsafeRawBufferPointer(buffer), wasFragmented: stray.wasFragmented, at: now)
    turn()
  }

  /// What came for other workers since the last call.
  func takeStrays() -> [LostFrame] {
    copyStrays()
    defer { strays.removeAll() }
    return strays
  }

  /// Before their memory is used again.
  private func copyStrays() {
    strays += stack.strays.map {
      LostFrame(worker: $0.worker, frame: Array($0.frame), wasFragmented: $0.wasFragmented)
    }
    stack.forgetStrays()
  }

  /// The device gives a packet; the turn is not over.
  func give(_ packet: [UInt8], virtio: VirtioNetHeader = VirtioNetHeader()) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: VirtioNetHeader.octets + packet.count, alignment: 16)
    if let base = buffer.baseAddress { virtio.write(to: base) }
    UnsafeMutableRawBufferPointer(rebasing: buffer[VirtioNetHeader.octets...]).copyBytes(
      from: packet)
    buffers.append(buffer)
    stack.receive(UnsafeRawBufferPointer(buffer), at: now)
  }

  /// The device gives a packet, and a turn passes.
  func send(_ packet: [UInt8], virtio: VirtioNetHeader = VirtioNetHeader()) {
    give(packet, virtio: virtio)
    turn()
  }

  /// Time passes; deadlines are served when they come.
  func advance(by interval: Interval) {
    let end = now + interval
    var rounds = 0
    while let deadline = stack.nextDeadline(), deadline <= end {
      now = max(now, deadline)
      stack.handleDeadlines(at: now)
      turn()
      rounds += 1
      guard rounds < 100_000 else { return #expect(Bool(false), "deadlines without end") }
    }
    now = end
  }

  /// Takes what the stack sent since the last call.
  func take() -> [Reply] {
    defer { replies.removeAll() }
    return replies
  }

  /// The only living flow, or the first.
  var flow: UInt32? { sockets.keys.min() }

  func socketEvent(
    _ slot: UInt32, readable: Bool = false, writable: Bool = false, hangup: Bool = false
  ) {
    stack.targetReady(
      slot, readable: readable, writable: writable, readToEnd: hangup, at: now)
    turn()
  }

  // MARK: The worker's turn

  func turn() {
    copyStrays()
    var rounds = 0
    repeat {
      targetPass()
      for buffer in buffers {
        buffer.initializeMemory(as: UInt8.self, repeating: 0xDB)
        buffer.deallocate()
      }
      buffers.removeAll()
      clientPass()
      rounds += 1
    } while stack.requestCount > 0 && rounds < 1000
    #expect(rounds < 1000, "the stack is never content")
  }

  private func targetPass() {
    var position = 0
    while position < stack.requestCount {
      let slot = stack.request(at: position)
      position += 1
      while !stack.take(.dial, of: slot).isEmpty { dial(slot) }
      if !stack.take(.upload, of: slot).isEmpty {
        if stack.isTCP(slot) { upload(slot) } else { uploadDatagrams(slot) }
      }
      if !stack.take(.relieveTarget, of: slot).isEmpty { relieve(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty { finishTarget(slot) }
    }
    stack.endTargetPass()
  }

  private func clientPass() {
    drain()
    for _ in 0..<stack.requestCount {
      guard let slot = stack.beginRequest() else { break }
      if !stack.take(.read, of: slot).isEmpty {
        if stack.isTCP(slot) { download(slot) } else { downloadDatagrams(slot) }
      }
      if !stack.take(.transmit, of: slot).isEmpty { transmit(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty {
        finishTarget(slot)
        transmit(slot)
      }
      if !stack.take(.resetClient, of: slot).isEmpty {
        while !stack.resetClient(slot) { drain() }
      }
      let end = stack.take([.closeTarget, .resetTarget, .release], of: slot)
      if !end.isEmpty { close(slot, abort: end.contains(.resetTarget)) }
      if let why = stack.takeEnd(slot) { ends.append(why) }
      if end.contains(.release) { stack.release(slot) }
      stack.endRequest(released: end.contains(.release))
    }
    drain()
  }

  private func dial(_ slot: UInt32) {
    close(slot, abort: false)
    let target = stack.target(slot)
    dials.append((target.transport, target.address, target.port))
    switch dialingAt[target.address] ?? dialing {
    case .fails(let failure):
      switch target.transport {
      case .tcp: stack.dialed(slot, failure: failure, at: now)
      case .udp: stack.sessionFailed(slot, failure: failure, at: now)
      }
    case .connects:
      sockets[slot] = FakeSocket(state: .open)
      stack.opened(slot, connected: true, at: now)
    case .hangs:
      sockets[slot] = FakeSocket(state: .connecting)
      stack.opened(slot, connected: false, at: now)
    }
  }

  private func close(_ slot: UInt32, abort: Bool) {
    guard stack.hasSocket(slot) else { return }
    sockets[slot]?.state = abort ? .aborted : .closed
    if let socket = sockets.removeValue(forKey: slot) { ended.append(socket) }
    stack.closed(slot)
  }

  private func finishTarget(_ slot: UInt32) {
    sockets[slot]?.finishReceived = true
    stack.targetFinishTold(slot, at: now)
  }

  private func upload(_ slot: UInt32) {
    while true {
      let (count, octets) = stack.gather(slot, into: slices)
      guard count > 0 else { return }
      let taken = min(octets, sockets[slot]?.appetite ?? 0)
      var left = taken
      for slice in slices[..<count] where left > 0 {
        let part = min(left, slice.octets)
        sockets[slot]?.received += UnsafeRawBufferPointer(start: slice.base, count: part)
        left -= part
      }
      sockets[slot]?.appetite -= taken
      stack.uploaded(slot, octets: taken, more: taken == octets, at: now)
      if taken < octets || count < slices.count { return }
    }
  }

  private func relieve(_ slot: UInt32) {
    guard stack.beginRelief(slot) > 0 else { return }
    let relief = sockets[slot]?.relief ?? 0
    sockets[slot]?.appetite += relief
    upload(slot)
    stack.endRelief(slot, wasRaised: relief > 0)
  }

  private func download(_ slot: UInt32) {
    while stack.hasSocket(slot), let socket = sockets[slot] {
      let count = stack.openRoom(slot, limit: 256 * 1024, slices: slices)
      guard count > 0 else { break }
      var read = 0
      for slice in slices[..<count] {
        let part = min(slice.octets, socket.saying.count - read)
        guard part > 0, let base = slice.base else { break }
        base.copyMemory(from: Array(socket.saying[read..<read + part]), byteCount: part)
        read += part
      }
      sockets[slot]?.saying.removeFirst(read)
      if read > 0 {
        stack.downloaded(slot, octets: read, more: true, at: now)
      } else if socket.resets {
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.targetFailed(slot, at: now)
        break
      } else if socket.finishes {
        stack.targetFinished(slot, at: now)
        break
      } else {
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.drained(slot)
        break
      }
    }
    transmit(slot)
  }

  private func uploadDatagrams(_ slot: UInt32) {
    guard stack.hasSocket(slot) else { return }
    while let (slice, segmentOctets) = stack.nextDatagrams(
      slot, runSegmentOctetsMax: stack.runSegmentOctetsMax(slot, at: now))
    {
      let run = DatagramRun(slice.octets, segmentOctets: segmentOctets)
      let octets = Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
      sockets[slot]?.receivedRuns.append(run.datagrams)
      for number in 0..<run.datagrams {
        let start = number * run.segmentOctets
        let end = start + run.datagramOctets(at: start)
        sockets[slot]?.receivedDatagrams.append(Array(octets[start..<end]))
      }
      stack.uploadedDatagrams(slot, octets: octets.count)
    }
  }

  private func downloadDatagrams(_ slot: UInt32) {
    for var datagram in sockets[slot]?.sayingDatagrams ?? [] {
      datagram.withUnsafeMutableBytes { memory in
        let slice = Slice(memory.baseAddress, memory.count)
        while !stack.downloaded(slot, datagram: slice, at: now) { drain() }
        drain()
      }
    }
    sockets[slot]?.sayingDatagrams.removeAll()
    stack.drainedDatagrams(slot)
  }

  private func transmit(_ slot: UInt32) {
    while !stack.transmit(slot, at: now) { drain() }
    drain()
  }

  private func drain() {
    for index in 0..<stack.frames.count {
      var octets: [UInt8] = []
      for slice in stack.frames.slices(of: index) {
        octets += UnsafeRawBufferPointer(start: slice.base, count: slice.octets)
      }
      octets.removeFirst(VirtioNetHeader.octets)
      do {
        let packet = try ParsedPacket(parsing: octets.span.bytes)
        let payload = octets[packet.payloadOffset..<packet.payloadOffset + packet.payloadOctets]
        replies.append(
          Reply(
            ip: packet.ip, transport: packet.transport, payload: Array(payload), octets: octets))
      } catch {
        Issue.record("a frame does not parse: \(error.word)")
      }
    }
    stack.frames.removeAll()
  }
}
