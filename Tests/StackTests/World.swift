import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// A worker played by the test: whole packets in and out, target sockets that do as they are told.
//
// What the device "read" is overwritten as soon as the worker may read again. Frames are copied, and
// parsed, when they are written.

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
  /// Octets that it takes beyond that, when it is made to; and whether it tells of room after that.
  var relief = 0
  var tellsOfRoom = true
  /// How often it was told that datagrams may leave in fragments.
  var fragmentPermissions = 0
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

final class World: StackOwner {
  var stack: Stack
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  var dialing = DialResult.connects
  /// Where some addresses do otherwise than `dialing`.
  var dialingAt: [IPAddress: DialResult] = [:]
  /// Called before an address is dialled.
  var beforeDial: () -> Void = {}
  /// By slot, of living flows.
  var sockets: [UInt32: FakeSocket] = [:]
  /// Of flows that ended, in order.
  var ended: [FakeSocket] = []
  /// How flows ended, as told to their owner, in order.
  var ends: [FlowEnd] = []
  /// Octets that there was room for in each receive of a stream.
  var rooms: [Int] = []
  var dials: [(transport: TransportProtocol, address: IPAddress, port: UInt16)] = []
  var replies: [Reply] = []
  private var strays: [LostFrame] = []
  private var buffers: [UnsafeMutableRawBufferPointer] = []
  /// Datagrams that the newest receive gave.
  private var received: [UnsafeMutableRawBufferPointer] = []
  let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 256)
  /// Whether frames that may be are written behind; how often some were.
  var writesBehind = false
  private(set) var lots = 0
  private var behind = FrameQueue()

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
    for buffer in buffers + received { buffer.deallocate() }
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

  // MARK: The turn

  /// Serves everybody until nobody wants anything.
  func turn() {
    var rounds = 0
    repeat {
      turnOnce()
      rounds += 1
    } while stack.requestCount > 0 && rounds < 1000
    #expect(rounds < 1000, "the stack is never content")
  }

  func turnOnce() {
    copyStrays()
    var owner = self
    owner.serve()
  }

  func readBuffersAreFree() {
    for buffer in buffers {
      buffer.initializeMemory(as: UInt8.self, repeating: 0xDB)
      buffer.deallocate()
    }
    buffers.removeAll()
  }

  func openSocket(_ slot: UInt32) -> SocketOpening {
    beforeDial()
    let target = stack.target(slot)
    dials.append((target.transport, target.address, target.port))
    switch dialingAt[target.address] ?? dialing {
    case .fails(let failure): return .failed(failure)
    case .connects:
      sockets[slot] = FakeSocket(state: .open)
      return .connected
    case .hangs:
      sockets[slot] = FakeSocket(state: .connecting)
      return .connecting
    }
  }

  func closeSocket(_ slot: UInt32, abort: Bool) {
    sockets[slot]?.state = abort ? .aborted : .closed
    if let socket = sockets.removeValue(forKey: slot) { ended.append(socket) }
  }

  func ended(_ slot: UInt32, _ why: FlowEnd) { ends.append(why) }

  // MARK: TCP

  func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    let appetite = sockets[slot]?.appetite ?? 0
    var taken = 0
    for slice in gather where taken < appetite {
      let part = min(appetite - taken, slice.octets)
      sockets[slot]?.received += UnsafeRawBufferPointer(start: slice.base, count: part)
      taken += part
    }
    sockets[slot]?.appetite -= taken
    return taken > 0 ? .octets(taken) : .wouldBlock
  }

  func receive(_ slot: UInt32, into scatter: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    guard let socket = sockets[slot] else { return .wouldBlock }
    rooms.append(scatter.reduce(0) { $0 + $1.octets })
    var read = 0
    for slice in scatter {
      let part = min(slice.octets, socket.saying.count - read)
      guard part > 0, let base = slice.base else { break }
      base.copyMemory(from: Array(socket.saying[read..<read + part]), byteCount: part)
      read += part
    }
    sockets[slot]?.saying.removeFirst(read)
    if read > 0 { return .octets(read) }
    if socket.resets { return .failed(lost: false) }
    return socket.finishes ? .endOfStream : .wouldBlock
  }

  func shutdownSocket(_ slot: UInt32) { sockets[slot]?.finishReceived = true }

  func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool {
    let relief = sockets[slot]?.relief ?? 0
    sockets[slot]?.appetite += relief
    return relief > 0
  }

  func restoreSendBound(_ slot: UInt32) -> Bool { sockets[slot]?.tellsOfRoom ?? false }

  // MARK: UDP

  func permitFragments(_ slot: UInt32) { sockets[slot]?.fragmentPermissions += 1 }

  func putDatagrams(
    _ slot: UInt32, _ slice: Slice, segmentOctets: Int, joinedUpTo longest: Int
  ) {
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

  func sendDatagrams(_ slot: UInt32) {}

  func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer {
    for buffer in received { buffer.deallocate() }
    received.removeAll()
    let said = Array((sockets[slot]?.sayingDatagrams ?? []).prefix(messages))
    guard !said.isEmpty else { return .wouldBlock }
    for datagram in said {
      let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: datagram.count, alignment: 16)
      buffer.copyBytes(from: datagram)
      received.append(buffer)
    }
    sockets[slot]?.sayingDatagrams.removeFirst(said.count)
    return .messages(
      said.count, octets: said.reduce(0) { $0 + $1.count },
      more: sockets[slot]?.sayingDatagrams.isEmpty == false)
  }

  func message(_ index: Int) -> (slice: Slice, run: DatagramRun) {
    let buffer = received[index]
    return (Slice(buffer.baseAddress, buffer.count), DatagramRun(buffer.count))
  }

  // MARK: The device

  func writeBehind() -> Bool {
    guard writesBehind else { return false }
    finishWriting()
    stack.lendFrames(to: &behind)
    lots += 1
    return true
  }

  /// At the last moment.
  func finishWriting() {
    guard behind.count > 0 else { return }
    for index in 0..<behind.count { write(UnsafeBufferPointer(behind.slices(of: index))) }
    behind.removeAll()
    stack.framesWereWritten()
  }

  func write(_ frame: UnsafeBufferPointer<Slice>) {
    var octets: [UInt8] = []
    for slice in frame {
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
}
