import Configuration
import Kernel
import Logging
import Primitives
import Stack
import Steering
import TunDevice
import Wire

// One worker: one thread, one queue of the device, one stack, and the kernel sockets of its flows. A
// second thread writes large parts of a flow that is alone, by turns with the first (FrameWriter). With
// other workers it shares nothing that it writes for a flow's packets: what one allocates, it allocates on
// its own thread, from that thread's part of the heap. The rules are made elsewhere and shared, and only
// read. Packets that belong to another are handed over (HandOver).
//
// A turn
//   1. waits until something is ready or the stack's next deadline;
//   2. reads the device until it is empty or the batch is full, and hands each frame to the stack;
//      so with what other workers handed over;
//   3. serves the flows that want something: the passes of StackOwner+Turn.swift;
//   4. goes on at once if anything is left to do, else waits again.
// Read buffers are a bump arena that starts anew each turn: small packets lie densely, and nothing
// refers to them once the first pass is over. A worker with nothing to do is not woken by anything.
// The parts of a turn are not inlined, so that each one's machine code can be read by itself
// (Tests/Benchmarks/assembly.py).

/// Unchecked, since its memory is plain pointers: it is made on one thread, moved to another, and never
/// shared.
struct WorkerLoop: ~Copyable, StackOwner, @unchecked Sendable {
  /// Memory for one turn's packets.
  static let arenaOctets = 2 << 20
  /// Packets of one turn.
  static let packetsMax = 256
  /// Turns that read one packet and look no further, before one looks again.
  static let loneTurnsMax = 16
  /// Between two calls of `WorkerSettings.fallsBehind`.
  static let behindPause = Interval.milliseconds(100)
  /// Slices of one write to, or read from, a target.
  static let slicesMax = 256

  /// What is being written, and nobody asks for, is looked at after so long.
  static let writingPause = Interval.milliseconds(2)

  /// Payload memory that stays with a worker when nothing has come for so long,
  static let spareOctetsIdle = 128 << 10
  static let idlePause = Interval.milliseconds(250)
  /// and with one that is busy; what is more goes back to the kernel, at most so often.
  static let spareOctetsBusy = 8 << 20
  static let releasePause = Interval.seconds(1)

  static let deviceToken = UInt64.max
  static let mailboxToken = UInt64.max - 1
  static let handOverToken = UInt64.max - 2
  /// Payload that all workers keep together, and one of them at least.
  static let bufferOctetsMax = 512 << 20
  static let bufferOctetsMin = 32 << 20

  /// Nothing where this process may run on one processor only. Goes before what it reads and writes.
  private var writer: FrameWriter<LentTunQueue>?
  var stack: Stack
  var epoll: Epoll
  let queue: TunQueue
  let mailbox: Mailbox
  /// What others hand to this worker, and where it hands what is theirs; nothing where it is alone.
  var received: HandOver.Reader?
  let handOvers: [HandOver]
  /// Among all workers, from 0.
  let number: Int
  let log: Logger
  /// Whether the log's level wants a line per flow; looked up with each message, for a change of the
  /// level comes with one.
  var logsFlows: Bool
  let sockets: UnsafeMutablePointer<TargetSocket>
  let arena: UnsafeMutableRawPointer
  let slices: UnsafeMutableBufferPointer<Slice>
  var outgoing = DatagramSendBatch()
  var incoming = DatagramReceiveBatch()
  var now: MonotonicInstant
  var deviceIsReadable = true
  /// Packets that a turn can be expected to find, from what the turns before found.
  var expectedPackets = 1
  var loneTurns = 1
  var loneTurnsLeft = 0
  var isStopping = false
  /// The bound of the send buffer that is raised just now, as it was.
  var raisedBound: CInt?
  private var failure: WorkerFailure?
  var framesWritten: UInt64 = 0
  private var refusedFrames = RefusedFrames()
  /// The same, of the second thread's.
  private var refusedBehind = RefusedFrames.Counts()
  private var runsAreRefused = false
  private var offloadIsRefused = false
  var lastAlarm = MonotonicInstant.zero
  private let fallsBehind: (@Sendable () -> Void)?
  private var fellBehind = MonotonicInstant.zero
  /// When spare memory went back last.
  private var releasedAt = MonotonicInstant.zero
  private var somethingCameAt = MonotonicInstant.zero
  /// Bounds the lines about flows that came to nothing, which cost a client next to nothing.
  var failureLines: TokenBucket
  /// Such lines that were left out since the last one.
  var failureLinesLeftOut = 0

  init(
    settings: WorkerSettings, rules: RuleSet, queue: consuming TunQueue, mailbox: Mailbox,
    log: Logger
  ) throws(SystemError) {
    let now = MonotonicClock.now()
    let features = queue.features
    let epoll = try Epoll()
    try epoll.add(queue.number, token: Self.deviceToken, interests: .readable)
    try epoll.add(mailbox.number, token: Self.mailboxToken, interests: .readable)
    var writer: FrameWriter<LentTunQueue>? = nil
    if Thread.processors > 1 {
      writer = try FrameWriter(
        queue: queue.lend(), name: "ferry-writer-\(settings.place?.number ?? 0)")
    }

    var stackSettings = StackSettings(
      mtu: settings.mtu, maxFlows: settings.maxFlows, unmatched: settings.unmatched,
      drainTimeout: settings.drainTimeout, seed: settings.seed,
      offloadsSegmentation: features.isSuperset(of: [.checksum, .tso4, .tso6]),
      offloadsChecksum: features.contains(.checksum))
    stackSettings.offloadsECN = features.contains(.tsoECN)
    stackSettings.offloadsDatagrams = features.isSuperset(of: [.checksum, .uso4, .uso6])
    stackSettings.ownPrefixes = settings.ownPrefixes
    stackSettings.ownAddresses = settings.ownAddresses
    var workers = 1
    if let place = settings.place {
      workers = place.steering.workers
      stackSettings.steering = place.steering
      stackSettings.worker = place.number
      let reader = HandOver.Reader(place.handOvers[place.number])
      try epoll.add(reader.number, token: Self.handOverToken, interests: .readable)
      received = consume reader
    } else {
      received = nil
    }
    handOvers = settings.place?.handOvers ?? []
    number = settings.place?.number ?? 0
    stackSettings.bufferOctetsMax = max(Self.bufferOctetsMin, Self.bufferOctetsMax / workers)
    failureLines = TokenBucket(perSecond: max(1, 10 / workers), burst: max(1, 50 / workers))
    stack = Stack(settings: stackSettings, rules: rules, at: now)
    self.epoll = epoll
    self.writer = consume writer
    self.queue = queue
    self.mailbox = mailbox
    self.log = log
    fallsBehind = settings.fallsBehind
    self.now = now
    logsFlows = log.logLevel <= .info
    sockets = .allocate(capacity: settings.maxFlows)
    arena = .allocate(byteCount: Self.arenaOctets, alignment: 4096)
    slices = .allocate(capacity: Self.slicesMax)
  }

  deinit {
    sockets.deallocate()
    arena.deallocate()
    slices.deallocate()
  }

  /// Works until it is told to stop, or cannot go on; then ends all flows.
  ///
  /// - Returns: why it could not go on.
  mutating func run() -> WorkerFailure? {
    while !isStopping {
      do throws(SystemError) {
        try turn()
      } catch {
        // Waiting itself failed: nothing a packet can cause, and nothing to go on with.
        fail(.waiting(error))
      }
    }
    stack.endAll()
    serve()
    finishWriting()
    received?.close()
    mailbox.close()
    return failure
  }

  @inline(never) private mutating func fail(_ why: WorkerFailure) {
    if failure == nil { failure = why }
    isStopping = true
  }

  mutating func turn() throws(SystemError) {
    let busy = stack.requestCount > 0 || deviceIsReadable
    let deadline = busy ? now : nextDeadline()
    // A wait is counted from here, not from where the turn began.
    if !busy { now = MonotonicClock.now() }
    let count = try epoll.wait(until: deadline, now: now)
    now = MonotonicClock.now()
    if count > 0 || busy { somethingCameAt = now }
    // What is written goes back at once, to be used again while it is in the cache; who has nothing else to
    // do waits for it.
    if (count == 0 && !busy) || writer?.hasWritten == true { finishWriting() }
    var isHanded = false
    for position in 0..<count {
      let (token, readiness) = epoll.event(position)
      switch token {
      case Self.deviceToken: deviceIsReadable = true
      case Self.mailboxToken: readMailbox()
      case Self.handOverToken: isHanded = true
      default: targetEvent(token, readiness)
      }
    }
    if deviceIsReadable { readDevice() }
    if isHanded { takeOver() }
    if !stack.strays.isEmpty { handOver() }
    if let due = stack.nextDeadline(), due <= now { stack.handleDeadlines(at: now) }
    serve()
    if !stack.turnedAway.isEmpty { logTurnedAway() }
    if let due = spareReleaseDue(), due <= now {
      releaseSpare()
    }
  }

  /// The stack's, or that by which spare memory is to go back, once, or what is being written is looked at,
  /// since nobody tells of its end.
  private mutating func nextDeadline() -> MonotonicInstant? {
    var due = stack.nextDeadline() ?? .distantFuture
    if let spare = spareReleaseDue() { due = min(due, spare) }
    if writer?.isWriting == true { due = min(due, now + Self.writingPause) }
    return due == .distantFuture ? nil : due
  }

  /// When the memory that no flow keeps is to go back to the kernel.
  private func spareReleaseDue() -> MonotonicInstant? {
    let spare = stack.spareOctets
    guard spare >= Self.spareOctetsIdle else { return nil }
    let idle = somethingCameAt + Self.idlePause
    return spare < Self.spareOctetsBusy ? idle : min(idle, releasedAt + Self.releasePause)
  }

  /// Nothing is kept for any flow, and much was: that memory need not stay with the process.
  @inline(never) private mutating func releaseSpare() {
    releasedAt = now
    ResidentMemory.release(stack.forgetSpare())
  }

  /// Reads the device until it is empty, the turn's memory is used, or as many packets are read as
  /// can be expected: to find it empty costs a system call, which a lone packet need not pay for.
  @inline(never) private mutating func readDevice() {
    var used = 0
    for count in 0..<Self.packetsMax {
      if count == expectedPackets {
        // Epoll tells at once if there are more. Lone packets stay expected for some turns more.
        if count == 1, loneTurnsLeft > 0 {
          loneTurnsLeft -= 1
        } else {
          expectedPackets = min(expectedPackets * 4, Self.packetsMax)
        }
        deviceIsReadable = count > 1
        return
      }
      guard used + TunQueue.packetOctetsMax <= Self.arenaOctets else { break }
      let memory = UnsafeMutableRawBufferPointer(
        start: arena + used, count: TunQueue.packetOctetsMax)
      switch queue.read(into: memory) {
      case .octets(let octets):
        stack.receive(UnsafeRawBufferPointer(rebasing: memory[..<octets]), at: now)
        used += (octets + 63) & ~63
        if stack.frames.shouldDrain { drainFrames() }
      case .wouldBlock:
        deviceIsReadable = false
        expectedPackets = max(1, count)
        loneTurns = count > 1 ? 1 : min(loneTurns * 2, Self.loneTurnsMax)
        loneTurnsLeft = loneTurns
        return
      case .endOfStream:
        return fail(.device(nil))
      case .failed(let error):
        // One packet that the driver cannot describe, or had no memory for: that one is gone.
        if error.isInvalid || error.isOutOfMemory {
          stack.countDrop(.badOffloadHeader)
        } else {
          return fail(.device(error))
        }
      }
    }
    if now - fellBehind >= Self.behindPause { fallBehind() }
  }

  /// The device has more than a turn takes.
  @inline(never) private mutating func fallBehind() {
    fellBehind = now
    fallsBehind?()
  }

  /// Takes what other workers handed over.
  private mutating func takeOver() {
    received?.take()
    while let (frame, wasFragmented) = received?.next() {
      stack.takeOver(frame, wasFragmented: wasFragmented, at: now)
      if stack.frames.shouldDrain { drainFrames() }
    }
  }

  /// Gives this turn's strays to the workers that they belong to.
  private mutating func handOver() {
    for stray in stack.strays where !handOvers[stray.worker].put(stray) {
      stack.countDrop(.handOverFull)
    }
    stack.forgetStrays()
  }

  mutating func readBuffersAreFree() {}

  mutating func writeBehind() -> Bool {
    guard writer != nil else { return false }
    finishWriting()
    writer?.start { frames in stack.lendFrames(to: &frames) }
    return true
  }

  mutating func finishWriting() {
    if writer?.isWriting == true { endWriting() }
  }

  @inline(never) private mutating func endWriting() {
    guard let (taken, lost, refusals) = writer?.finish() else { return }
    refusedBehind = refusals
    framesWritten += UInt64(taken)
    if lost > 0 { stack.countDrop(.deviceWriteFailed, by: lost) }
    heedRefusals()
    stack.framesWereWritten()
  }

  mutating func write(_ frame: UnsafeBufferPointer<Slice>) {
    switch queue.write(frame) {
    case .octets: framesWritten += 1
    case .wouldBlock, .endOfStream: stack.countDrop(.deviceWriteFailed)
    case .failed(let error): frameRefused(frame, error)
    }
  }

  /// A frame that the kernel refuses goes out as plain packets in the same turn; a kernel that refuses
  /// them again and again gets nothing else.
  @inline(never) private mutating func frameRefused(
    _ frame: UnsafeBufferPointer<Slice>, _ error: SystemError
  ) {
    let (written, lost) = refusedFrames.writeAgain(frame, after: error, to: queue)
    framesWritten += UInt64(written)
    stack.countDrop(.deviceWriteFailed, by: lost)
    heedRefusals()
  }

  /// Of both threads.
  var refusals: RefusedFrames.Counts { refusedFrames.counts + refusedBehind }

  private mutating func heedRefusals() {
    let refusals = refusals
    let most = RefusedFrames.refusalsMax
    if !runsAreRefused, refusals.refusedRuns >= most {
      runsAreRefused = true
      stack.disableDatagramOffload()
      log.warning("the kernel refuses datagrams in super-packets; going on with single ones")
    }
    if !offloadIsRefused, refusals.refused >= most {
      offloadIsRefused = true
      stack.disableOffloads()
      log.warning("the kernel refuses offloaded packets; going on without offload")
    }
  }

  private mutating func readMailbox() {
    // The messages are gone before anybody hears of it: see `WorkerMessage.reached`.
    for tell in obeyMessages() { tell() }
    logsFlows = log.logLevel <= .info
  }

  /// - Returns: who is to be told that his messages were reached.
  @inline(never) private mutating func obeyMessages() -> [@Sendable () -> Void] {
    var reached: [@Sendable () -> Void] = []
    for message in mailbox.take() {
      switch message {
      case .install(let rules, let unmatched, let drainTimeout):
        stack.install(rules, unmatched: unmatched, drainTimeout: drainTimeout, at: now)
      case .resolved(let name, let addresses): stack.resolved(name, addresses)
      case .mtu(let mtu): stack.setMTU(mtu)
      case .deviceOverflowed: stack.deviceOverflowed(at: now)
      case .ownPrefixes(let prefixes, let addresses):
        stack.setOwnPrefixes(prefixes, addresses: addresses)
      case .snapshot(let receive): receive(snapshot())
      case .reached(let tell): reached.append(tell)
      case .stop: isStopping = true
      }
    }
    return reached
  }
}
