import Configuration
import Glibc
import Primitives
import Stack
import Steering
import TCP
import Wire

// A worker with simulated sockets, which makes the daemon's passes.
//
// What the daemon hands to the device goes to `wire`; what lies in the read arena is overwritten once
// the first pass is over, so that a slice that outlives its turn carries rubbish. With several workers, each
// reads what the device gave it, and hands to the others what is theirs.

final class Worker: StackOwner {
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
  let slices: UnsafeMutableBufferPointer<Slice>
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
  var answersEarly = false
  var forgetsEvents = false
  /// So many turns, and the device's queue has overflowed once more; 0: never.
  private let turnsBetweenOverflows: Int
  private var turns = 0
  /// Octets of the arena that this turn's packets lie in.
  private var used = 0
  /// What a check found within the turn.
  private var violation: (any Error)?
  /// Endpoints sleep after each turn that lets them, which nobody may notice.
  private let sleeps: Bool

  /// Whether a target's socket can be made to take what is kept: a worker needs a privilege for it.
  private let relievesTargets: Bool
  /// Flows may be cut for the memory that they keep.
  private let watchesMemory: Bool

  static let flowsMax = 32

  /// - Parameters:
  ///   - secret: the same for all workers.
  ///   - steering: where flows live; nil for the only worker.
  init(
    _ plan: Plan, seed: UInt64, secret: UInt64, number: Int = 0, steering: Steering? = nil,
    at now: MonotonicInstant
  ) {
    self.number = number
    sleeps = seed % 2 == 0
    relievesTargets = plan.relievesTargets
    watchesMemory = plan.idleBeforeCut < .seconds(3600)
    turnsBetweenOverflows = seed % 7 == 3 ? 1 + Int(seed / 7 % 50) : 0
    var settings = StackSettings(
      mtu: plan.mtu, maxFlows: Self.flowsMax, unmatched: .reject, drainTimeout: .seconds(5),
      seed: (secret &* 0x9E37_79B9_7F4A_7C15 ^ 0x5555, secret &+ 0xABCD),
      offloadsSegmentation: plan.offloads, offloadsChecksum: plan.offloads)
    settings.bufferOctetsMax = plan.memoryOctets
    settings.timeWait = plan.timeWait
    settings.idleBeforeCut = plan.idleBeforeCut
    settings.offloadsECN = plan.offloadsECN
    settings.budget = plan.budget
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

  /// As so many turns do.
  func lookAtAllParts() {
    for _ in 0..<Homes.partCount / Stack.partsOfTurn { stack.lookAtParts() }
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
    used = try takeOver(into: try readDevice())
    if !ignoresDeadlines, let due = stack.nextDeadline(), due <= now {
      stack.handleDeadlines(at: now)
    }
    var owner = self
    let dials = dialled.count
    owner.serve()
    // The next turn is due at once. Where nothing comes in between, it takes no time.
    if dialled.count > dials, stack.requestCount > 0 { owner.serve() }
    if let violation { throw violation }
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
      if stack.frames.count > FrameQueue.framesMax / 2 { drain() }
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
      // Its home has moved meanwhile.
      for stray in stack.strays { handOver(stray.worker, Array(stray.frame), flow) }
      stack.forgetStrays()
      used += (frame.count + 63) & ~63
      if stack.frames.count > FrameQueue.framesMax / 2 { drain() }
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

  // MARK: The owner's part

  private func drain() {
    var owner = self
    owner.drainFrames()
  }

  /// Notes the first violation, for the end of the turn.
  private func noting<Result>(_ otherwise: Result, _ body: () throws -> Result) -> Result {
    do {
      return try body()
    } catch {
      if violation == nil { violation = error }
      return otherwise
    }
  }

  func write(_ frame: UnsafeBufferPointer<Slice>) {
    var octets: [UInt8] = []
    for slice in frame {
      octets.append(contentsOf: UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
    }
    activity += 1
    noting(()) { try wire(octets) }
  }

  func readBuffersAreFree() { memset(arena, 0xDB, used) }

  func openSocket(_ slot: UInt32) -> SocketOpening {
    activity += 1
    let port = stack.flowView(slot, at: now).tuple.clientPort
    guard let target = noting(nil, { try openTarget(port) }) else { return .failed(.exhausted) }
    sockets[Int(slot)] = target
    dialled.append(target)
    target.dial(at: now)
    return target.isConnected || answersEarly ? .connected : .connecting
  }

  func closeSocket(_ slot: UInt32, abort: Bool) {
    activity += 1
    sockets[Int(slot)]?.close(abort: abort)
    sockets[Int(slot)] = nil
  }

  func ended(_ slot: UInt32, _ why: FlowEnd) {
    activity += 1
    let port = stack.flowView(slot, at: now).tuple.clientPort
    noting(()) { try ends(port, why) }
  }

  func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    guard let socket = sockets[Int(slot)] else { return .wouldBlock }
    let answer = noting(.wouldBlock) { try socket.send(gather, at: now) }
    if answer != .wouldBlock { activity += 1 }
    return answer
  }

  func receive(_ slot: UInt32, into scatter: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    activity += 1
    return sockets[Int(slot)]?.receive(scatter) ?? .wouldBlock
  }

  func shutdownSocket(_ slot: UInt32) {
    activity += 1
    sockets[Int(slot)]?.shutdownWrite(at: now)
  }

  /// The target's socket takes what is kept, as a kernel's does when it is told to.
  func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool {
    if relievesTargets { sockets[Int(slot)]?.buffersMore(octets) }
    return relievesTargets
  }

  func restoreSendBound(_ slot: UInt32) -> Bool {
    if relievesTargets { sockets[Int(slot)]?.buffersMore(0) }
    return true
  }

  // There are no sessions.
  func permitFragments(_ slot: UInt32) {}
  func putDatagrams(
    _ slot: UInt32, _ slice: Slice, segmentOctets: Int, joinedUpTo longest: Int
  ) {}
  func sendDatagrams(_ slot: UInt32) {}
  func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer { .wouldBlock }
  func message(_ index: Int) -> (slice: Slice, run: DatagramRun) {
    (Slice(nil, 0), DatagramRun(0))
  }
}
