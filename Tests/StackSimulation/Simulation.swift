import Primitives
import Stack
import TCP
import Wire

// A run: clients, the link, the worker with the stack under test, targets; one virtual clock, which
// jumps from event to event.
//
// Everything is drawn from the seed. `run` throws the first violation; the trace holds what came
// before it. Left out on purpose: UDP and ICMP beyond what ends a handshake.

struct Report {
  var retransmissions = 0
  var timeouts = 0
  var clientTimeouts = 0
  var segments = 0
  var turns = 0
  var lost = 0
  var corrupted = 0
  var corruptionDrops = 0
  var elapsed = Interval.zero
  /// Until the last client was done.
  var transferTime = Interval.zero
  var octets = 0
}

final class Simulation {
  enum Event {
    case turn
    case start(Int)
    case up([UInt8], flow: Int, segmentOctets: Int)
    case down([UInt8], flow: Int)
    case peer(Int)
    case target(TargetModel)
  }

  /// Virtual time within which everything must have ended.
  static let timeLimit = Interval.seconds(1_500)

  /// A wake-up may find that its deadline has moved; more of them in a row are a busy loop.
  static let idleTurnsMax = 24

  private let plan: Plan
  private let fault: Fault?
  private var dice: Dice
  private var events = EventQueue<Event>()
  private var now: MonotonicInstant
  private let origin: MonotonicInstant
  private let worker: Worker
  private var up: Link
  private var down: Link
  private var conversations: [Conversation] = []
  private var targets: [TargetModel] = []
  private var turnAt = MonotonicInstant.distantFuture
  private var peerAt: [MonotonicInstant] = []
  private var idleTurns = 0
  private var eventCount = 0
  private var eventLimit = 40_000
  private var report = Report()
  private var faultCount = 0
  var trace = Trace()

  init(_ plan: Plan, seed: UInt64, fault: Fault? = nil) {
    self.plan = plan
    self.fault = fault
    dice = Dice(seed ^ 0xFEED_5EED)
    now = MonotonicInstant(nanoseconds: 1_000_000_000 + dice.next() >> UInt64(dice.within(20...40)))
    origin = now
    worker = Worker(plan, seed: seed, at: now)
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
      let peer = Peer(
        flow.client, addressing, uploadKey: index * 7_919 + 1,
        downloadKey: index * 104_729 + 50_021,
        dice: &dice)
      conversations.append(Conversation(index: index, plan: flow, peer: peer))
      peerAt.append(.distantFuture)
      events.push(.start(index), at: now + flow.client.start)
      eventLimit += (flow.client.upload + flow.target.download) / 4 + 20_000
    }
    worker.ignoresDeadlines = fault == .ignoresDeadlines
    worker.skipsSettling = fault == .keepsSlices
    worker.answersEarly = fault == .answersEarly
    worker.forgetsEvents = fault == .forgetsSocketEvents
    worker.wire = { [unowned self] in try leaves($0) }
    worker.reads = { [unowned self] frame, flow in reaches(frame, flow) }
    worker.openTarget = { [unowned self] in openTarget($0) }
  }

  /// - Throws: the first violation.
  func run() throws -> Report {
    defer {
      worker.wire = { _ in }
      worker.reads = { frame, _ in frame }
      worker.openTarget = { _ in nil }
    }
    while let (at, event) = events.pop() {
      guard at - origin < Self.timeLimit else { break }
      now = max(now, at)
      eventCount += 1
      guard eventCount <= eventLimit else {
        throw Violation("more than \(eventLimit) events: a storm")
      }
      try handle(event)
      scheduleTurn()
    }
    try conclude()
    return report
  }

  private func handle(_ event: Event) throws {
    switch event {
    case .turn: try turn()
    case .start(let index):
      conversations[index].peer.open(at: now)
      settle(index)
    case .up(let packet, let flow, let segmentOctets):
      worker.inbox.append((dress(packet, segmentOctets: segmentOctets), flow))
    case .down(let packet, let flow): try arrives(packet, flow)
    case .peer(let index):
      guard peerAt[index] <= now else { return }
      peerAt[index] = .distantFuture
      if conversations[index].peer.nextDeadline <= now { conversations[index].peer.timer(at: now) }
      settle(index)
    case .target(let target):
      if target.nextDeadline <= now { target.timer(at: now) }
      arm(target)
    }
  }

  // MARK: The worker

  private func turn() throws {
    guard turnAt <= now else { return }
    turnAt = .distantFuture
    worker.now = now
    report.turns += 1
    let didSomething = try worker.turn()
    idleTurns = didSomething ? 0 : idleTurns + 1
    guard idleTurns < Self.idleTurnsMax else {
      throw Violation("\(idleTurns) turns in a row with nothing to do")
    }
    for target in targets { arm(target) }
    targets.removeAll { $0.isClosed }
  }

  private func scheduleTurn() {
    var at = MonotonicInstant.distantFuture
    if worker.isBusy {
      at = now + plan.turnTime
    } else if !worker.ignoresDeadlines, let deadline = worker.stack.nextDeadline() {
      at = max(now, deadline)
    }
    guard at != .distantFuture, at < turnAt else { return }
    if turnAt == .distantFuture || at + plan.wakeJitter < turnAt {
      at = at + .microseconds(dice.below(plan.wakeJitter.microseconds + 1))
    }
    guard at < turnAt else { return }
    turnAt = at
    events.push(.turn, at: at)
  }

  private func openTarget(_ port: UInt16) -> TargetModel? {
    let index = Int(port) - 40_000
    let conversation = conversations[index]
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

  private func arm(_ target: TargetModel) {
    let wanted = target.nextDeadline
    guard wanted != .distantFuture else { return }
    if target.armedAt <= wanted, target.armedAt > now { return }
    target.armedAt = wanted
    events.push(.target(target), at: max(wanted, now))
  }

  // MARK: Towards the stack

  /// Sends what a client wants sent, and sets its timer.
  private func settle(_ index: Int) {
    let peer = conversations[index].peer
    for (packet, segmentOctets) in peer.outbox {
      trace.packet(now, index, up: true, packet)
      let isSuper = segmentOctets > 0
      let copies = up.carry(
        packet, flow: index, protected: isSuper, origin: origin.nanoseconds, at: now)
      if copies.isEmpty { trace.note(now, index, "  lost") }
      for copy in copies {
        events.push(.up(copy.packet, flow: index, segmentOctets: segmentOctets), at: copy.at)
      }
    }
    peer.outbox.removeAll()
    let wanted = peer.nextDeadline
    if wanted < peerAt[index] {
      peerAt[index] = wanted
      events.push(.peer(index), at: max(wanted, now))
    }
  }

  /// Puts a virtio-net header in front: a super-packet's checksum is the device's business.
  private func dress(_ packet: [UInt8], segmentOctets: Int) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 10)
    if segmentOctets > 0 {
      header[0] = 1
      header[1] = packet[0] >> 4 == 4 ? 1 : 4
      header[4] = UInt8(segmentOctets & 255)
      header[5] = UInt8(segmentOctets >> 8)
    }
    return header + packet
  }

  /// A frame is about to reach the stack: notes what it says, and returns it.
  private func reaches(_ frame: [UInt8], _ flow: Int) -> [UInt8] {
    let packet = Array(frame[10...])
    let conversation = conversations[flow]
    guard packet[0] >> 4 == (conversation.plan.isIPv4 ? 4 : 6),
      Packets.isSound(packet, isIPv4: conversation.plan.isIPv4),
      let segment = Packets.parse(packet)
    else {
      report.corruptionDrops += 1
      return frame
    }
    conversation.reaches(segment, at: now)
    guard fault == .inflatesClientWindow, !segment.has(Flag.syn) else { return frame }
    var inflated = packet
    inflated.put16(
      segment.window | 0x3FFF, (conversation.plan.isIPv4 ? 20 : 40) + 14)
    Packets.seal(&inflated, isIPv4: conversation.plan.isIPv4)
    return Array(frame[..<10]) + inflated
  }

  // MARK: From the stack

  private func leaves(_ frame: [UInt8]) throws {
    guard frame.count > 30 else { throw Violation("a frame of \(frame.count) octets") }
    var packet = Array(frame[10...])
    let isIPv4 = packet[0] >> 4 == 4
    let start = isIPv4 ? 20 : 40
    if packet[isIPv4 ? 9 : 6] != 6 {
      try controlLeaves(packet, start: start)
      return
    }
    let segmentOctets = Int(frame[4]) | Int(frame[5]) << 8
    if frame[0] & 1 != 0 { complete(&packet, start) }
    guard packet.count == (isIPv4 ? Int(packet.big16(2)) : 40 + Int(packet.big16(4))) else {
      throw Violation("an IP length that is not the packet's")
    }
    let index = Int(packet.big16(start + 2)) - 40_000
    guard conversations.indices.contains(index) else { throw Violation("a packet to a stranger") }
    var pieces = Packets.cut(packet, segmentOctets: frame[1] == 0 ? 0 : segmentOctets)
    if let fault {
      faultCount += 1
      pieces = fault.plant(in: pieces, of: conversations[index], count: faultCount)
    }
    for piece in pieces {
      guard Packets.isSound(piece, isIPv4: isIPv4), let segment = Packets.parse(piece) else {
        throw Violation("flow \(index): the stack sends a bad checksum or header")
      }
      trace.packet(now, index, up: false, piece)
      try conversations[index].check(segment, octets: piece.count, mtu: plan.mtu, at: now)
      let copies = down.carry(
        piece, flow: index, protected: false, origin: origin.nanoseconds, at: now)
      if copies.isEmpty { trace.note(now, index, "  lost") }
      for copy in copies { events.push(.down(copy.packet, flow: index), at: copy.at) }
    }
  }

  /// What the device does with NEEDS_CSUM: the field holds the pseudo-header's sum.
  private func complete(_ packet: inout [UInt8], _ start: Int) {
    let sum = ~Packets.fold(Packets.sum(packet, start..<packet.count))
    packet.put16(sum, start + 16)
  }

  /// An ICMP error ends the handshake of the flow that it quotes.
  private func controlLeaves(_ packet: [UInt8], start: Int) throws {
    let quoted = start + 8 + start
    guard packet.count >= quoted + 4 else {
      throw Violation("an ICMP message that quotes too little")
    }
    let index = Int(packet.big16(quoted)) - 40_000
    guard conversations.indices.contains(index) else { throw Violation("ICMP about a stranger") }
    trace.note(now, index, "ICMP \(packet[start])/\(packet[start + 1])")
    conversations[index].peer.unreachable()
    settle(index)
  }

  private func arrives(_ packet: [UInt8], _ index: Int) throws {
    let conversation = conversations[index]
    guard packet[0] >> 4 == (conversation.plan.isIPv4 ? 4 : 6),
      Packets.isSound(packet, isIPv4: conversation.plan.isIPv4)
    else { return }
    let target = conversation.target
    let hadPhase = conversation.peer.phase
    try conversation.peer.receive(
      packet, said: target?.read ?? 0, saidAll: target?.saidAll ?? false, at: now)
    if conversation.peer.phase != hadPhase {
      report.transferTime = now - origin
      trace.note(now, index, "client is \(conversation.peer.phase) \(conversation.peer.outcome)")
    }
    settle(index)
  }

  // MARK: The end

  private func conclude() throws {
    for conversation in conversations {
      guard conversation.isOver else {
        throw Violation(
          "flow \(conversation.index) has not ended: client \(conversation.peer.phase), target closed: \(conversation.target?.isClosed ?? true)"
        )
      }
      try conversation.verdict()
      report.retransmissions += conversation.retransmissions
      report.timeouts += conversation.timeouts
      report.clientTimeouts += conversation.peer.timeouts
      report.segments += conversation.segments
      report.octets += conversation.peer.downloaded + (conversation.target?.taken ?? 0)
    }
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
    if let deadline = worker.stack.nextDeadline() {
      throw Violation("a timer is left, at \(deadline.nanoseconds)")
    }
    report.lost = up.lost + down.lost
    report.corrupted = up.corrupted
    report.elapsed = now - origin
  }
}
