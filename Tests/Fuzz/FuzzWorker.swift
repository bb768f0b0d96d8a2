import Configuration
import Fragments
import Primitives
import Stack
import Steering
import TCP
import Wire

// A worker with sockets that a program drives, which makes the daemon's passes.
//
// A frame lies in memory of its own, which is freed when the daemon would read over it: a slice that
// outlives its turn is a use after free. Whatever the stack sends is parsed and checked against the
// device's bounds, then brought to its peer. No call may keep the loop busy for ever.

final class FuzzWorker: FuzzDevice, StackOwner {
  private static let roundsMax = 500
  private static let slicesMax = 64
  private static let datagramOctetsMax = 65_507

  var stack: Stack
  private(set) var now = MonotonicInstant(nanoseconds: 5_000_000_000)
  /// Among others; nil for the only one.
  private let place: FuzzPlace?
  var peers: [FuzzPeer] = []
  private var dialPlans = [DialPlan](repeating: .connects, count: 8)
  private var sockets: [FuzzSocket?]
  private var given: [UnsafeMutableRawBufferPointer] = []
  /// Of the stack's strays, one each.
  private var origins: [FuzzOrigin?] = []
  let slices: UnsafeMutableBufferPointer<Slice>
  /// The longest datagram that a target says, and how long those of the newest receive are.
  private let said: UnsafeMutableRawBufferPointer
  private var received: [Int] = []
  private var offloads: Bool
  typealias Habits = (congestion: CongestionAlgorithm, keepalive: Interval?)
  let habits: Habits
  private var mtu: Int
  /// Conversations keep the segment size of the MTU at their beginning.
  private var mtuMax: Int
  /// A raw frame may have said anything on behalf of a peer.
  var isExact = true

  init(
    offloads: Bool, mtu: Int, bufferOctets: Int, maxFlows: Int, unmatched: UnmatchedPolicy,
    usesNewReno: Bool, keepalive: Interval?, place: FuzzPlace? = nil
  ) {
    var settings = StackSettings(
      mtu: mtu, maxFlows: maxFlows, unmatched: unmatched, drainTimeout: .seconds(30),
      seed: (0x0123_4567_89AB_CDEF, 42), offloadsSegmentation: offloads, offloadsChecksum: offloads)
    settings.bufferOctetsMax = bufferOctets
    settings.offloadsDatagrams = offloads
    // Few slots, each of the longest datagram's memory: what is laid out for each input costs time.
    settings.fragments.datagrams = 8
    settings.fragments.completedPerTurn = 8
    // Little, so that it is spent.
    settings.budget.flowOctets = 64 * 1024
    settings.budget.octets = 128 * 1024
    settings.budget.sessionMessages = 8
    settings.budget.dials = 2
    settings.steering = place?.steering
    settings.worker = place?.number ?? 0
    self.place = place
    habits = (usesNewReno ? .newReno : .cubic, keepalive)
    stack = Stack(settings: settings, rules: RuleSet(Self.rules(0, habits)), at: now)
    sockets = Array(repeating: nil, count: maxFlows)
    slices = .allocate(capacity: Self.slicesMax)
    said = .allocate(byteCount: Self.datagramOctetsMax, alignment: 8)
    said.initializeMemory(as: UInt8.self, repeating: 0x66)
    self.offloads = offloads
    self.mtu = mtu
    mtuMax = mtu
  }

  deinit {
    slices.deallocate()
    said.deallocate()
    for frame in given { frame.deallocate() }
  }

  static func rules(_ choice: UInt8, _ habits: Habits = (.cubic, nil)) -> [ForwardRule] {
    var rule = ForwardRule(
      name: "all", protocols: [.tcp, .udp],
      listen: [ListenPattern(addresses: .any, ports: PortRange(first: 8000, last: 8004))],
      target: Target(host: .original, port: .same), connectTimeout: .seconds(5),
      idleTimeout: .seconds(600), udpTimeout: .seconds(60),
      keepalive: habits.keepalive, congestion: habits.congestion)
    switch choice & 7 {
    case 0: break
    case 1: rule.onReload = .reset
    case 2: rule.onReload = .drain
    case 3: rule.maxConnections = 1
    case 4: rule.idleTimeout = .seconds(10)
    case 5: rule.target = Target(host: .name("unresolved.example"), port: .same)
    case 6: rule.protocols = .tcp
    default: return []
    }
    return [rule]
  }

  // MARK: What happens

  var givenCount: Int { given.count }

  /// - Parameter peer: who has made it, as the latest of his packets.
  func give(_ frame: [UInt8], from peer: FuzzPeer? = nil) {
    let accepted = stack.counters.cookiesAccepted
    stack.receive(keep(frame), at: now)
    arrived(peer.map { FuzzOrigin(peer: $0, said: $0.lastSaid) }, accepted: accepted)
  }

  /// Takes a frame that another worker handed over.
  func takeOver(_ handed: FuzzHanded) {
    let accepted = stack.counters.cookiesAccepted
    if let origin = handed.origin { origin.peer.arrivesLate(origin.said) }
    stack.takeOver(keep(handed.frame), wasFragmented: handed.wasFragmented, at: now)
    arrived(handed.origin, accepted: accepted)
  }

  private func keep(_ frame: [UInt8]) -> UnsafeRawBufferPointer {
    frame.withUnsafeBytes { bytes in
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
      copy.copyMemory(from: bytes)
      given.append(copy)
      return UnsafeRawBufferPointer(copy)
    }
  }

  private func arrived(_ origin: FuzzOrigin?, accepted: UInt64) {
    while origins.count < stack.strays.count { origins.append(origin) }
    if stack.counters.cookiesAccepted != accepted {
      // Cookies went out before this one came back, whichever worker had the SYNs.
      if let place { place.workers.drain() } else { drain() }
      if let origin { origin.peer.cookieReturned(in: origin.said) }
    }
    if stack.frames.count > FrameQueue.framesMax / 2 { drain() }
  }

  /// Copies what belongs to other workers, while the memory of this turn is there.
  private func handOver() {
    for (stray, origin) in zip(stack.strays, origins) {
      let handed = FuzzHanded(
        frame: Array(stray.frame), wasFragmented: stray.wasFragmented, origin: origin)
      guard let place, place.workers.handOver(handed, to: stray.worker, from: place.number) else {
        stack.countDrop(.handOverFull)
        continue
      }
    }
    origins.removeAll()
    stack.forgetStrays()
  }

  func giveRaw(_ frame: UnsafeRawBufferPointer) {
    isExact = false
    give(Array(frame))
  }

  private func slots(of peer: FuzzPeer) -> [UInt32] {
    sockets.indices.filter { sockets[$0]?.peer === peer }.map { UInt32($0) }
  }

  func resolveDial(of peer: FuzzPeer, failure: TargetFailure?) {
    for slot in slots(of: peer) where stack.hasSocket(slot) && stack.isDialing(slot) {
      sockets[Int(slot)]?.isConnecting = false
      stack.dialed(slot, failure: failure, at: now)
      if failure == nil { ready(slot) }
    }
  }

  func say(_ peer: FuzzPeer, octets: Int) {
    for slot in slots(of: peer) {
      guard let socket = sockets[Int(slot)], !socket.finishes, !socket.resets else { continue }
      if stack.isTCP(slot) {
        socket.waitingOctets += octets
      } else {
        socket.datagrams.append(min(octets, Self.datagramOctetsMax))
      }
      ready(slot)
    }
  }

  func end(_ peer: FuzzPeer, _ variant: UInt8) {
    for slot in slots(of: peer) {
      guard let socket = sockets[Int(slot)] else { continue }
      switch variant & 3 {
      case 0: socket.finishes = true
      case 1: socket.resets = true
      case 2: socket.writingFails = true
      default: if !stack.isTCP(slot) { stack.sessionFailed(slot, failure: .refused, at: now) }
      }
      if stack.hasSocket(slot) { ready(slot) }
    }
  }

  func feed(_ peer: FuzzPeer, octets: Int) {
    for slot in slots(of: peer) {
      sockets[Int(slot)]?.appetite = octets
      ready(slot)
    }
  }

  /// What epoll would say of a socket.
  private func ready(_ slot: UInt32) {
    guard let socket = sockets[Int(slot)], !socket.isConnecting else { return }
    stack.targetReady(
      slot,
      readable: socket.waitingOctets > 0 || socket.finishes || socket.resets
        || !socket.datagrams.isEmpty,
      writable: socket.appetite > 0 || socket.writingFails,
      readToEnd: socket.finishes || socket.resets, at: now)
  }

  func control(_ variant: UInt8) {
    switch variant >> 3 {
    case 0: install(variant)
    case 1:
      mtu = variant & 1 != 0 ? 1280 : 1500
      mtuMax = max(mtu, mtuMax)
      stack.setMTU(mtu)
    case 2:
      offloads = false
      stack.disableOffloads()
    default: if variant & 7 == 7 { stack.endAll() }
    }
  }

  private func install(_ choice: UInt8) {
    install(RuleSet(Self.rules(choice, habits), after: stack.rules.set))
  }

  func install(_ rules: RuleSet) {
    stack.install(rules, unmatched: .reject, drainTimeout: .seconds(5), at: now)
  }

  func plan(_ plan: DialPlan, of peer: FuzzPeer) { dialPlans[peer.index] = plan }

  func endAll() { stack.endAll() }

  /// A moment passes, so that initial sequence numbers, which a clock drives, differ.
  func tick() { now = now + .microseconds(8) }

  func advance(by interval: Interval) {
    let end = now + interval
    var rounds = 0
    while let deadline = stack.nextDeadline(), deadline <= end {
      now = max(now, deadline)
      handOver()
      stack.handleDeadlines(at: now)
      turn()
      rounds += 1
      require(rounds < 20_000, "deadlines come to an end")
    }
    now = end
  }

  // MARK: The turn

  func turn() {
    var rounds = 0
    handOver()
    var owner = self
    repeat {
      owner.serve()
      rounds += 1
      require(rounds < Self.roundsMax, "the stack is content at last")
    } while stack.requestCount > 0
  }

  func readBuffersAreFree() {
    require(stack.memory.pending.count == 0, "no slice outlives its turn")
    for frame in given { frame.deallocate() }
    given.removeAll()
  }

  func openSocket(_ slot: UInt32) -> SocketOpening {
    let target = stack.target(slot)
    guard let peer = peers.first(where: { $0.virtualPort == target.port }) else {
      return .failed(.hostUnreachable)
    }
    require(sockets[Int(slot)] == nil && !stack.hasSocket(slot), "a flow has one socket")
    require(target.address == peer.virtual || !isExact, "the target is where the rule leads")
    switch (dialPlans[peer.index], target.transport) {
    case (.fails(let failure), _): return .failed(failure)
    case (.hangs, .tcp): adopt(slot, FuzzSocket(peer, isConnecting: true))
    case (.connects, _), (.hangs, .udp): adopt(slot, FuzzSocket(peer, isConnecting: false))
    }
    return sockets[Int(slot)]?.isConnecting == true ? .connecting : .connected
  }

  private func adopt(_ slot: UInt32, _ socket: FuzzSocket) {
    sockets[Int(slot)] = socket
    if stack.isTCP(slot) { socket.peer.lastDialled = socket }
  }

  func closeSocket(_ slot: UInt32, abort: Bool) {
    if let socket = sockets[Int(slot)] { socket.peer.closed(socket) }
    sockets[Int(slot)] = nil
  }

  func ended(_ slot: UInt32, _ why: FlowEnd) { require(why != .none, "an end has a cause") }

  // MARK: TCP

  func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Wire.Slice>) -> SocketTransfer {
    guard let socket = sockets[Int(slot)] else { fatalError("broken: a write without a socket") }
    if socket.writingFails { return .failed(lost: false) }
    require(!socket.finishTold, "nothing is written behind the end")
    let taken = min(gather.reduce(0) { $0 + $1.octets }, socket.appetite)
    check(gather, taken, socket)
    if socket.appetite != .max { socket.appetite -= taken }
    return taken > 0 ? .octets(taken) : .wouldBlock
  }

  /// The client's octets reach the target as they were, and in order.
  private func check(
    _ slices: UnsafeBufferPointer<Wire.Slice>, _ taken: Int, _ socket: FuzzSocket
  ) {
    var left = taken
    for slice in slices where left > 0 {
      let bytes = UnsafeRawBufferPointer(start: slice.base, count: min(left, slice.octets))
      if isExact, let initial = socket.initial {
        require(
          FuzzPattern.upload.matches(bytes, at: Int(initial) + socket.takenOctets),
          "the client's octets as they were")
      }
      socket.takenOctets += bytes.count
      left -= bytes.count
    }
  }

  func receive(
    _ slot: UInt32, into scatter: UnsafeBufferPointer<Wire.Slice>
  ) -> SocketTransfer {
    guard let socket = sockets[Int(slot)] else { fatalError("broken: a read without a socket") }
    var read = 0
    for slice in scatter {
      let part = min(slice.octets, socket.waitingOctets)
      let bytes = UnsafeMutableRawBufferPointer(start: slice.base, count: part)
      FuzzPattern.download.fill(bytes, at: socket.saidOctets)
      socket.saidOctets += part
      socket.waitingOctets -= part
      read += part
    }
    if read > 0 { return .octets(read) }
    if socket.resets { return .failed(lost: false) }
    guard socket.finishes else { return .wouldBlock }
    socket.finishRead = true
    return .endOfStream
  }

  func shutdownSocket(_ slot: UInt32) { sockets[Int(slot)]?.finishTold = true }

  // In vain: the socket takes no more than it did.
  func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool { false }
  func restoreSendBound(_ slot: UInt32) -> Bool { true }

  // MARK: UDP

  func permitFragments(_ slot: UInt32) {}

  func putDatagrams(
    _ slot: UInt32, _ slice: Wire.Slice, segmentOctets: Int, joinedUpTo longest: Int
  ) {
    let bytes = UnsafeRawBufferPointer(start: slice.base, count: slice.octets)
    require(!isExact || bytes.allSatisfy { $0 == 0x55 }, "a datagram as it was")
    let run = DatagramRun(slice.octets, segmentOctets: segmentOctets)
    require(run.datagrams <= DatagramRun.datagramsMax, "as many as a socket takes")
    stack.uploadedDatagrams(slot, octets: slice.octets)
    // The kernel may refuse any run: what follows comes one by one.
    if run.datagrams == 3 {
      stack.runWasRefused(slot, segmentOctets: run.segmentOctets, at: now)
    }
  }

  func sendDatagrams(_ slot: UInt32) {}

  func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer {
    guard let socket = sockets[Int(slot)], !socket.datagrams.isEmpty else { return .wouldBlock }
    received = Array(socket.datagrams.prefix(messages))
    socket.datagrams.removeFirst(received.count)
    return .messages(
      received.count, octets: received.reduce(0, +), more: !socket.datagrams.isEmpty)
  }

  func message(_ index: Int) -> (slice: Wire.Slice, run: DatagramRun) {
    (Wire.Slice(said.baseAddress, received[index]), DatagramRun(received[index]))
  }

  // MARK: What the stack sends

  func drain() {
    var owner = self
    owner.drainFrames()
  }

  func write(_ frame: UnsafeBufferPointer<Wire.Slice>) {
    var octets: [UInt8] = []
    for slice in frame {
      octets += UnsafeRawBufferPointer(start: slice.base, count: slice.octets)
    }
    octets.withUnsafeBytes { check($0) }
  }

  private func check(_ frame: UnsafeRawBufferPointer) {
    let bytes = UnsafeRawBufferPointer(rebasing: frame[VirtioNetHeader.octets...])
    guard let virtio = try? VirtioNetHeader(parsing: frame.bytes),
      let packet = try? ParsedPacket(parsing: bytes.bytes)
    else { fatalError("broken: a frame does not parse") }
    let ip = packet.ip
    require(ip.totalOctets == bytes.count, "a frame ends with its packet")
    if virtio.gsoType == 0 {
      // Echo replies are as long as the question was.
      if case .icmp = packet.transport {
      } else {
        require(bytes.count <= max(mtuMax, 1280), "a packet fits the device")
      }
    } else {
      require(
        Int(virtio.segmentOctets) + Int(virtio.headerOctets) <= mtuMax, "a segment fits the device")
    }
    let segment = bytes.bytes.extracting(ip.headerOctets..<ip.totalOctets)
    if !virtio.flags.contains(.needsChecksum), !ip.isFragment {
      require(transportChecksumIsValid(ip, segment: segment), "a checksum is right")
    }
    guard case .tcp(let header) = packet.transport else { return }
    guard isExact else { return }
    let payload = UnsafeRawBufferPointer(
      rebasing: bytes[packet.payloadOffset..<packet.payloadOffset + packet.payloadOctets])
    let peer = peers.first {
      $0.client == ip.destination && $0.clientPort == header.destinationPort
    }
    guard let peer else { fatalError("broken: a segment to nobody") }
    peer.receive(header, payload: payload, trafficClass: ip.trafficClass)
  }

  /// What a stack keeps when nobody is there: nothing.
  func requireEmpty() {
    require(stack.flowCount == 0 && stack.timeWaitCount == 0, "no flow is left")
    require(stack.requestCount == 0, "nobody wants anything")
    require(sockets.allSatisfy { $0 == nil }, "no socket is left")
    require(stack.memory.chunks.count == 0, "no chunk is left")
    require(stack.memory.sent.count == 0, "no record is left")
    require(stack.memory.stores.count == 0, "no store is left")
    require(stack.memory.pending.count == 0, "no slice is left")
    require(stack.nextDeadline() == nil, "no deadline is left")
    require(stack.strays.isEmpty, "no stray is left")
  }
}
