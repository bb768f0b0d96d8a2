import Configuration
import Glibc
import Primitives
import Stack
import Steering
import TCP
import Wire

// The worker's loop around the stack, step by step as the daemon's does it, with simulated sockets.
//
// What the daemon hands to the device goes to `wire`; what lies in the read arena is overwritten once
// the first pass is over, so that a slice that outlives its turn carries rubbish. With several workers, each
// reads what the device gave it, and hands to the others what is theirs.

final class Worker {
  static let readBudget = 256 * 1024
  static let slicesMax = 256
  static let arenaOctets = 2 << 20
  /// Frames that others may leave.
  static let handedMax = 64

  let number: Int
  var stack: Stack
  var inbox: [(frame: [UInt8], flow: Int)] = []
  /// What other workers left.
  private var handed: [(frame: [UInt8], flow: Int)] = []
  /// Takes a frame to the worker that it belongs to.
  var handOver: (_ worker: Int, _ frame: [UInt8], _ flow: Int) -> Void = { _, _, _ in }
  private var sockets: [TargetModel?]
  private var dialled: [TargetModel] = []
  private let arena: UnsafeMutableRawPointer
  private let slices: UnsafeMutableBufferPointer<Slice>
  private let packetsPerTurn: Int
  var now: MonotonicInstant
  /// Takes a frame for the wire: virtio-net header and packet.
  var wire: ([UInt8]) throws -> Void = { _ in }
  /// Before a frame reaches the stack.
  var reads: (_ frame: [UInt8], _ flow: Int) -> [UInt8] = { frame, _ in frame }
  /// Finds what a client's port leads to.
  var openTarget: (_ clientPort: UInt16) throws -> TargetModel? = { _ in nil }
  /// A flow is over, and why.
  var ends: (_ clientPort: UInt16, FlowEnd) throws -> Void = { _, _ in }
  /// Anything that happened in this turn.
  private(set) var activity = 0
  var ignoresDeadlines = false
  var skipsSettling = false
  var answersEarly = false
  var forgetsEvents = false
  /// So many turns, and the device's queue has overflowed once more; 0: never.
  private let turnsBetweenOverflows: Int
  private var turns = 0
  /// Endpoints sleep after each turn that lets them, which nobody may notice.
  private let sleeps: Bool

  /// Whether a target's socket can be made to take what is kept: a worker needs a privilege for it.
  private let relievesTargets: Bool
  /// Flows may be cut for the memory that they keep.
  private let watchesMemory: Bool

  static let flowsMax = 32

  /// - Parameter steering: where flows live; nil for the only worker.
  init(
    _ plan: Plan, seed: UInt64, number: Int = 0, steering: Steering? = nil,
    at now: MonotonicInstant
  ) {
    self.number = number
    sleeps = seed % 2 == 0
    relievesTargets = plan.relievesTargets
    watchesMemory = plan.idleBeforeCut < .seconds(3600)
    turnsBetweenOverflows = seed % 7 == 3 ? 1 + Int(seed / 7 % 50) : 0
    var settings = StackSettings(
      mtu: plan.mtu, maxFlows: Self.flowsMax, unmatched: .reject, drainTimeout: .seconds(5),
      seed: (seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x5555, seed &+ 0xABCD),
      offloadsSegmentation: plan.offloads, offloadsChecksum: plan.offloads)
    settings.bufferOctetsMax = plan.memoryOctets
    settings.timeWait = plan.timeWait
    settings.idleBeforeCut = plan.idleBeforeCut
    settings.offloadsECN = plan.offloadsECN
    settings.steering = steering
    settings.worker = number
    let rule = ForwardRule(
      name: "simulated",
      listen: [ListenPattern(addresses: .any, ports: PortRange(first: 8000, last: 8999))],
      target: Target(host: .address(IPAddress(v4: 0x7f00_0001)), port: .fixed(80)),
      connectTimeout: .seconds(5), idleTimeout: plan.idleTimeout,
      keepalive: plan.keepalive, congestion: plan.usesNewReno ? .newReno : .cubic)
    stack = Stack(settings: settings, rules: RuleSet([rule]), at: now)
    sockets = Array(repeating: nil, count: Self.flowsMax)
    arena = .allocate(byteCount: Self.arenaOctets, alignment: 64)
    slices = .allocate(capacity: Self.slicesMax)
    packetsPerTurn = plan.turnPackets
    self.now = now
  }

  deinit {
    arena.deallocate()
    slices.deallocate()
  }

  var hasSocketEvents: Bool { dialled.contains { $0.eventPending && !$0.isClosed } }
  var isBusy: Bool {
    stack.requestCount > 0 || !inbox.isEmpty || !handed.isEmpty || hasSocketEvents
  }

  /// Takes a frame that another worker hands over, unless there are too many.
  func leave(_ frame: [UInt8], _ flow: Int) {
    if handed.count < Self.handedMax { handed.append((frame, flow)) }
  }

  /// - Returns: whether anything happened.
  func turn() throws -> Bool {
    activity = 0
    for slot in 0..<UInt32(Self.flowsMax) {
      guard let socket = sockets[Int(slot)], socket.eventPending else { continue }
      socket.eventPending = false
      activity += 1
      if forgetsEvents, !stack.isDialing(slot) { continue }
      try event(slot, socket)
    }
    turns += 1
    if turnsBetweenOverflows > 0, turns % turnsBetweenOverflows == 0 {
      stack.deviceOverflowed(at: now)
    }
    let used = try takeOver(into: try readDevice())
    if !ignoresDeadlines, let due = stack.nextDeadline(), due <= now {
      stack.handleDeadlines(at: now)
    }
    try targetPass()
    memset(arena, 0xDB, used)
    try clientPass()
    dialled.removeAll { $0.isClosed }
    if watchesMemory { noteKept() }
    if sleeps { stack.putEndpointsToSleep() }
    guard stack.memory.pending.count == 0 else {
      throw Violation(
        "\(stack.memory.pending.count) slices of the device's buffers outlive the turn")
    }
    return activity > 0
  }

  private func noteKept() {
    for slot in 0..<UInt32(Self.flowsMax) {
      guard let socket = sockets[Int(slot)] else { continue }
      let kept = stack.endpoints.keptOctets(slot, memory: stack.memory)
      socket.keptOctetsMax = max(socket.keptOctetsMax, kept)
    }
  }

  private func event(_ slot: UInt32, _ socket: TargetModel) throws {
    guard stack.hasSocket(slot) else { return }
    if stack.isDialing(slot) {
      if socket.connectFailed {
        stack.dialed(
          slot, failure: socket.plan.dial == .refused ? .refused : .hostUnreachable, at: now)
        return
      }
      stack.dialed(slot, failure: nil, at: now)
    }
    stack.targetReady(
      slot, readable: socket.isReadable, writable: socket.isWritable, readToEnd: socket.hasHungUp,
      at: now)
  }

  private func readDevice() throws -> Int {
    var used = 0
    var count = 0
    for (frame, flow) in inbox {
      guard used + 65_600 <= Self.arenaOctets, count < packetsPerTurn else { break }
      count += 1
      let isAlone = stack.isAlone
      let given = isAlone ? reads(frame, flow) : frame
      stack.receive(place(given, at: used), at: now)
      for stray in stack.strays { handOver(stray.worker, Array(stray.frame), flow) }
      if !isAlone, stack.strays.isEmpty { _ = reads(given, flow) }
      stack.forgetStrays()
      used += (given.count + 63) & ~63
      if stack.frames.count > FrameQueue.framesMax / 2 { try drainFrames() }
    }
    activity += count
    inbox.removeFirst(count)
    return used
  }

  private func takeOver(into used: Int) throws -> Int {
    var used = used
    var count = 0
    for (frame, flow) in handed {
      guard used + 65_600 <= Self.arenaOctets else { break }
      count += 1
      let frame = reads(frame, flow)
      stack.takeOver(place(frame, at: used), wasFragmented: false, at: now)
      guard stack.strays.isEmpty else { throw Violation("a packet is handed over twice") }
      used += (frame.count + 63) & ~63
      if stack.frames.count > FrameQueue.framesMax / 2 { try drainFrames() }
    }
    activity += count
    handed.removeFirst(count)
    return used
  }

  private func place(_ frame: [UInt8], at offset: Int) -> UnsafeRawBufferPointer {
    frame.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress {
        (arena + offset).copyMemory(from: base, byteCount: bytes.count)
      }
    }
    return UnsafeRawBufferPointer(start: arena + offset, count: frame.count)
  }

  private func drainFrames() throws {
    for index in 0..<stack.frames.count {
      var frame: [UInt8] = []
      for slice in stack.frames.slices(of: index) {
        frame.append(contentsOf: UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
      }
      activity += 1
      try wire(frame)
    }
    stack.frames.removeAll()
  }

  private func targetPass() throws {
    var position = 0
    while position < stack.requestCount {
      let slot = stack.request(at: position)
      position += 1
      while !stack.take(.dial, of: slot).isEmpty { try dial(slot) }
      if !stack.take(.upload, of: slot).isEmpty { try upload(slot) }
      if !stack.take(.relieveTarget, of: slot).isEmpty { try relieve(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty { finishTarget(slot) }
    }
    if !skipsSettling { stack.endTargetPass() }
  }

  private func clientPass() throws {
    if !stack.frames.isEmpty { try drainFrames() }
    for _ in 0..<stack.requestCount {
      guard let slot = stack.beginRequest() else { break }
      if !stack.take(.read, of: slot).isEmpty { try download(slot) }
      if !stack.take(.transmit, of: slot).isEmpty { try transmit(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty {
        finishTarget(slot)
        try transmit(slot)
      }
      if !stack.take(.resetClient, of: slot).isEmpty {
        while !stack.resetClient(slot) { try drainFrames() }
      }
      if let why = stack.takeEnd(slot) {
        try ends(stack.flowView(slot, at: now).tuple.clientPort, why)
      }
      let end = stack.take([.closeTarget, .resetTarget, .release], of: slot)
      if !end.isDisjoint(with: [.closeTarget, .resetTarget]) {
        closeTarget(slot, abort: end.contains(.resetTarget))
      }
      if end.contains(.release) {
        activity += 1
        closeTarget(slot, abort: false)
        stack.release(slot)
      }
      stack.endRequest(released: end.contains(.release))
    }
    if !stack.frames.isEmpty { try drainFrames() }
  }

  private func dial(_ slot: UInt32) throws {
    closeTarget(slot, abort: false)
    activity += 1
    let port = stack.flowView(slot, at: now).tuple.clientPort
    guard let target = try openTarget(port) else {
      stack.dialed(slot, failure: .exhausted, at: now)
      return
    }
    sockets[Int(slot)] = target
    dialled.append(target)
    target.dial(at: now)
    stack.opened(slot, connected: target.isConnected || answersEarly, at: now)
  }

  private func closeTarget(_ slot: UInt32, abort: Bool) {
    guard stack.hasSocket(slot) else { return }
    activity += 1
    sockets[Int(slot)]?.close(abort: abort)
    sockets[Int(slot)] = nil
    stack.closed(slot)
  }

  private func finishTarget(_ slot: UInt32) {
    activity += 1
    if stack.hasSocket(slot) { sockets[Int(slot)]?.shutdownWrite(at: now) }
    stack.targetFinishTold(slot, at: now)
  }

  private func upload(_ slot: UInt32) throws {
    while true {
      let (count, octets) = stack.gather(slot, into: slices)
      guard count > 0, let socket = sockets[Int(slot)] else { return }
      let gather = UnsafeBufferPointer(rebasing: slices[..<count])
      switch try socket.send(gather, at: now) {
      case .octets(let sent):
        activity += 1
        stack.uploaded(slot, octets: sent, more: sent == octets, at: now)
        if sent < octets || count < slices.count { return }
      case .wouldBlock, .endOfStream:
        stack.uploaded(slot, octets: 0, more: false, at: now)
        return
      case .failed:
        activity += 1
        stack.targetWriteFailed(slot, at: now)
        return
      }
    }
  }

  /// The target's socket takes what is kept, as a kernel's does when it is told to.
  private func relieve(_ slot: UInt32) throws {
    let octets = stack.beginRelief(slot)
    guard octets > 0 else { return }
    if relievesTargets { sockets[Int(slot)]?.buffersMore(octets) }
    try upload(slot)
    if relievesTargets { sockets[Int(slot)]?.buffersMore(0) }
    stack.endRelief(slot, wasRaised: relievesTargets)
  }

  private func download(_ slot: UInt32) throws {
    var budget = Self.readBudget
    while budget > 0, stack.hasSocket(slot), let socket = sockets[Int(slot)] {
      let count = stack.openRoom(slot, limit: budget, slices: slices)
      guard count > 0 else { break }
      let scatter = UnsafeBufferPointer(rebasing: slices[..<count])
      let room = scatter.reduce(0) { $0 + $1.octets }
      activity += 1
      switch socket.receive(scatter) {
      case .octets(let octets):
        stack.downloaded(slot, octets: octets, more: octets == room, at: now)
        budget -= octets
        if octets < room, !stack.readsToEnd(slot) { budget = -1 }
      case .wouldBlock:
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.drained(slot)
        budget = -1
      case .endOfStream:
        stack.targetFinished(slot, at: now)
        budget = -1
      case .failed:
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.targetFailed(slot, at: now)
        budget = -1
      }
    }
    try transmit(slot)
    if budget == 0 { stack.readLater(slot) }
  }

  private func transmit(_ slot: UInt32) throws {
    while !stack.transmit(slot, at: now) { try drainFrames() }
    if !stack.frames.isEmpty { try drainFrames() }
  }
}
