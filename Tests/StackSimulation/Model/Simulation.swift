import Primitives
import Stack
import Steering
import TCP
import Wire

// A run: clients, the link, the worker with the stack under test, targets; one virtual clock, which
// jumps from event to event. There can be several workers with a stack each: then the device gives three
// of four packets to the worker that the kernel's program would name, the others to any, and no client may
// be dialled for by one while another has its flow.
//
// Everything is drawn from the seed. `run` throws the first violation; the trace holds what came
// before it. Left out on purpose: UDP and ICMP beyond what ends a handshake.

package struct Report {
  package var retransmissions = 0
  package var timeouts = 0
  package var clientTimeouts = 0
  var segments = 0
  var turns = 0
  var lost = 0
  var corrupted = 0
  var corruptionDrops = 0
  package var marked = 0
  /// Segments of the stack that said CWR.
  package var reductions = 0
  var tooLong = 0
  var elapsed = Interval.zero
  /// Until the last client was done.
  package var transferTime = Interval.zero
  var octets = 0
  /// Packets that one worker handed to another.
  package var handedOver = 0
}

package final class Simulation {
  enum Event {
    case turn(Int)
    case start(Int)
    case up([UInt8], flow: Int, segmentOctets: Int)
    case down([UInt8], flow: Int)
    case peer(Int)
    case target(TargetModel)
  }

  /// Virtual time within which everything must have ended.
  static let timeLimit = Interval.seconds(4_000)

  /// A wake-up may find that its deadline has moved; more of them in a row are a busy loop.
  static let idleTurnsMax = 24

  let plan: Plan
  let fault: Fault?
  var dice: Dice
  var events = EventQueue<Event>()
  var now: MonotonicInstant
  let origin: MonotonicInstant
  let workers: [Worker]
  /// Which worker's queue a packet comes to: the one that the kernel's program would name, or any.
  let steering: Steering
  private let homesMemory = UnsafeMutableRawPointer.allocate(
    byteCount: Homes.octets, alignment: 128)
  var steersman: Dice
  var up: Link
  var down: Link
  var conversations: [Conversation] = []
  var targets: [TargetModel] = []
  /// By worker.
  var turnAt: [MonotonicInstant]
  var peerAt: [MonotonicInstant] = []
  var idleTurns: [Int]
  var eventCount = 0
  var eventLimit = 40_000
  var report = Report()
  var faultCount = 0
  package var trace = Trace()

  deinit { homesMemory.deallocate() }

  package init(_ plan: Plan, seed: UInt64, fault: Fault? = nil) {
    self.plan = plan
    self.fault = fault
    dice = Dice(seed ^ 0xFEED_5EED)
    now = MonotonicInstant(nanoseconds: 1_000_000_000 + dice.next() >> UInt64(dice.within(20...40)))
    origin = now
    let count = plan.workers
    homesMemory.initializeMemory(as: UInt8.self, repeating: 0, count: Homes.octets)
    let steering = Steering(
      workers: max(1, count), seed: (seed, ~seed), homes: Homes(homesMemory))
    self.steering = steering
    let ignoresHomes = fault == .ignoresHomes
    let start = now
    workers = (0..<count).map { number in
      Worker(
        plan, seed: seed &+ UInt64(number) << 32, secret: seed, number: number,
        steering: count > 1 && !ignoresHomes ? steering : nil, at: start)
    }
    steersman = Dice(seed ^ 0x57EE_4500)
    turnAt = Array(repeating: .distantFuture, count: count)
    idleTurns = Array(repeating: 0, count: count)
    up = Link(plan.up, Dice(dice.next()))
    down = Link(plan.down, Dice(dice.next()))
    for (index, flow) in plan.flows.enumerated() {
      let addressing = Addressing(
        isIPv4: flow.isIPv4,
        client: flow.isIPv4
          ? [10, 77, 0, 2] : [0xfd, 0x77] + Array(repeating: 0, count: 13) + [2],
        virtual: flow.isIPv4
          ? [10, 77, 0, 10] : [0xfd, 0x77] + Array(repeating: 0, count: 13) + [10],
        clientPort: 40_000 + UInt16(index), virtualPort: 8_000 + UInt16(dice.below(1_000)))
      let keys = (up: index * 7_919 + 1, down: index * 104_729 + 50_021)
      let peer: any Client =
        flow.client.isTwin
        ? Twin(flow.client, addressing, uploadKey: keys.up, downloadKey: keys.down, dice: &dice)
        : Peer(flow.client, addressing, uploadKey: keys.up, downloadKey: keys.down, dice: &dice)
      conversations.append(Conversation(index: index, plan: flow, peer: peer))
      peerAt.append(.distantFuture)
      events.push(.start(index), at: now + flow.client.start)
      eventLimit += (flow.client.upload + flow.target.download) / 4 + 20_000
    }
    // A client that is dead is waited for, and its target looks often whether it may go on.
    eventLimit += 500_000
    for worker in workers {
      worker.ignoresDeadlines = fault == .ignoresDeadlines
      worker.answersEarly = fault == .answersEarly
      worker.forgetsEvents = fault == .forgetsSocketEvents
      worker.wire = { [unowned self] in try leaves($0) }
      worker.reads = { [unowned self] frame, flow in reaches(frame, flow) }
      worker.openTarget = { [unowned self, unowned worker] port in
        try openTarget(port, worker.number)
      }
      worker.ends = { [unowned self] in try ended($0, $1) }
      worker.handOver = { [unowned self] home, frame, flow in
        report.handedOver += 1
        workers[home].leave(frame, flow)
      }
    }
  }

  /// - Throws: the first violation.
  package func run() throws -> Report {
    defer {
      for worker in workers {
        worker.wire = { _ in }
        worker.reads = { frame, _ in frame }
        worker.openTarget = { _ in nil }
        worker.ends = { _, _ in }
        worker.handOver = { _, _, _ in }
      }
    }
    while let (at, event) = events.pop() {
      guard at - origin < Self.timeLimit else { break }
      now = max(now, at)
      eventCount += 1
      guard eventCount <= eventLimit else {
        throw Violation("more than \(eventLimit) events: a storm, the last: \(event)")
      }
      try handle(event)
      for worker in workers { scheduleTurn(worker) }
    }
    try conclude()
    return report
  }

  private func handle(_ event: Event) throws {
    switch event {
    case .turn(let number): try turn(workers[number])
    case .start(let index):
      conversations[index].peer.open(at: now)
      try settle(index)
    case .up(let packet, let flow, let segmentOctets):
      let queue = workers.count == 1 ? 0 : queue(for: packet)
      workers[queue].inbox.append((dress(packet, segmentOctets: segmentOctets), flow))
    case .down(let packet, let flow): try arrives(packet, flow)
    case .peer(let index):
      guard peerAt[index] <= now else { return }
      peerAt[index] = .distantFuture
      if conversations[index].peer.nextDeadline <= now { conversations[index].peer.timer(at: now) }
      try settle(index)
    case .target(let target):
      if target.nextDeadline <= now { target.timer(at: now) }
      arm(target)
    }
  }

  // MARK: The workers

  /// The queue that a packet comes to: mostly that which the kernel's program names, sometimes any.
  private func queue(for packet: [UInt8]) -> Int {
    let any = steersman.below(workers.count)
    guard steersman.below(4) > 0, let parsed = try? ParsedPacket(parsing: packet.span.bytes) else {
      return any
    }
    return parsed.tuple.map { steering.deal($0) }
      ?? steering.worker(of: parsed.ip.source, parsed.ip.destination)
  }

  private func turn(_ worker: Worker) throws {
    let number = worker.number
    guard turnAt[number] <= now else { return }
    turnAt[number] = .distantFuture
    worker.now = now
    report.turns += 1
    let didSomething = try worker.turn()
    if report.turns % 64 == 0, let fault = worker.stack.faultOfParts(), self.fault != .ignoresHomes
    {
      throw Violation(fault)
    }
    idleTurns[number] = didSomething ? 0 : idleTurns[number] + 1
    guard idleTurns[number] < Self.idleTurnsMax else {
      throw Violation("\(idleTurns[number]) turns in a row with nothing to do")
    }
    if worker.stack.flowCount == 0, worker.stack.timeWaitCount == 0,
      let deadline = worker.stack.nextDeadline()
    {
      throw Violation("a timer is left without a flow, at \(deadline.nanoseconds)")
    }
    for target in targets { arm(target) }
    targets.removeAll { $0.isClosed }
  }

  private func scheduleTurn(_ worker: Worker) {
    let number = worker.number
    var at = MonotonicInstant.distantFuture
    if worker.isBusy {
      at = now + plan.turnTime
    } else if !worker.ignoresDeadlines, let deadline = worker.stack.nextDeadline() {
      at = max(now, deadline)
    }
    guard at != .distantFuture, at < turnAt[number] else { return }
    if turnAt[number] == .distantFuture || at + plan.wakeJitter < turnAt[number] {
      at = at + .microseconds(dice.below(plan.wakeJitter.microseconds + 1))
    }
    guard at < turnAt[number] else { return }
    turnAt[number] = at
    events.push(.turn(number), at: at)
  }

  private func openTarget(_ port: UInt16, _ number: Int) throws -> TargetModel? {
    let index = Int(port) - 40_000
    let conversation = conversations[index]
    let tuple = conversation.peer.addressing.tuple
    for other in workers where other.number != number && other.stack.lives(tuple) {
      throw Violation("flow \(index) lives on workers \(other.number) and \(number)")
    }
    let isStray = conversation.dials > 0 && conversation.peer.phase != .opening
    var plan = conversation.plan.target
    if isStray { plan.download = 0 }
    let target = TargetModel(
      plan, flow: index, isStray: isStray, uploadKey: conversation.peer.uploadKey,
      downloadKey: conversation.peer.downloadKey)
    target.dropsAnOctet = fault == .dropsTakenOctet
    conversation.dialled(target)
    targets.append(target)
    trace.note(now, index, isStray ? "dials again (stray)" : "dials")
    return target
  }

  private func ended(_ port: UInt16, _ why: FlowEnd) throws {
    let index = Int(port) - 40_000
    trace.note(now, index, "ends: \(why.word)")
    try conversations[index].ended(why, in: plan, at: now)
  }

  private func arm(_ target: TargetModel) {
    let wanted = target.nextDeadline
    guard wanted != .distantFuture else { return }
    if target.armedAt <= wanted, target.armedAt > now { return }
    target.armedAt = wanted
    events.push(.target(target), at: max(wanted, now))
  }

  // MARK: The end

  private func conclude() throws {
    for conversation in conversations {
      guard conversation.isOver else {
        throw Violation(
          "flow \(conversation.index) has not ended: client \(conversation.peer.phase), target closed: \(conversation.target?.isClosed ?? true), \(workers.flatMap { $0.stack.flowViews(limit: 8, at: now) }.map { "\($0.tuple.clientPort) \($0.state) idle \($0.idle)" })"
        )
      }
      try conversation.verdict(
        anyCut: workers.contains { $0.stack.counters.flowsEvicted > 0 })
      if let leftover = conversation.peer.leftover {
        throw Violation("flow \(conversation.index): the client keeps \(leftover)")
      }
      report.retransmissions += conversation.retransmissions
      report.timeouts += conversation.timeouts
      report.clientTimeouts += conversation.peer.timeouts
      report.segments += conversation.segments
      report.reductions += conversation.notification.reductions
      report.octets += conversation.peer.downloaded + (conversation.target?.taken ?? 0)
    }
    for worker in workers { try concludeWorker(worker) }
    try concludeHomes()
    report.lost = up.lost + down.lost
    report.corrupted = up.corrupted
    report.marked = up.marked + down.marked
    report.elapsed = now - origin
  }

  /// Nobody has anything any more, once each has looked at all parts.
  private func concludeHomes() throws {
    for worker in workers { worker.lookAtAllParts() }
    for part in 0..<Homes.partCount {
      guard let home = steering.homes[part], fault != .ignoresHomes else { continue }
      throw Violation("worker \(home) keeps a part of which nothing lives")
    }
    for worker in workers {
      let load = steering.homes.load(of: worker.number)
      guard load == 0 || fault == .ignoresHomes else {
        throw Violation("worker \(worker.number) has a load of \(load) without a flow")
      }
    }
  }

  private func concludeWorker(_ worker: Worker) throws {
    let views = worker.stack.flowViews(limit: 8, at: now)
    guard worker.stack.flowCount == 0 else {
      throw Violation("flows are left: \(views.map { "\($0.tuple.clientPort) \($0.state)" })")
    }
    let held = (
      worker.stack.memory.chunks.count, worker.stack.memory.sent.count,
      worker.stack.memory.stores.count, worker.stack.memory.pending.count
    )
    guard held == (0, 0, 0, 0) else {
      throw Violation("memory is left: chunks, records, stores, pending \(held)")
    }
    guard worker.stack.endpoints.awakeCount == 0 else {
      throw Violation("endpoints are left")
    }
    if let deadline = worker.stack.nextDeadline() {
      throw Violation("a timer is left, at \(deadline.nanoseconds)")
    }
  }
}
