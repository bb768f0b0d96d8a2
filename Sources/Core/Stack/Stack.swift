import Configuration
import Fragments
import ICMP
import Primitives
import Relay
import SocketTable
import Steering
import TCP
import UDP
import Wire

// A client's packet in; packets and socket requests out. One stack per worker, which shares with the
// others the rules, which are read, what they count together (`SharedCount`), and whose a flow is
// (`Homes`).
//
// The stack is pure: it reads no clock, opens no socket and draws no entropy. Its owner
//   1. hands it the frames that the device gave (`receive`) and what the kernel said about sockets
//      (`targetReady`);
//   2. serves the flows that want something by its turn's passes (StackOwner), which must come before
//      the device's buffers are read into again;
//   3. writes `frames` to the device before memory is reused, or has them lent (`lendFrames`): the passes do,
//      and whoever hands in so many packets that `frames.shouldDrain`;
//   4. sleeps until `nextDeadline`, then calls `handleDeadlines`.
// Given the same seed, rules, packets, instants and answers it does the same again, and several workers do
// if they take the same turns.

package struct StackSettings: Sendable {
  package var mtu: Int
  package var maxFlows: Int
  package var unmatched: UnmatchedPolicy
  package var drainTimeout: Interval
  /// Secrets of sequence numbers, cookies and hashes; the same for all workers: a five-tuple's next
  /// conversation, or its cookie, may come to another.
  package var seed: (UInt64, UInt64)
  /// The device segments, and fills in checksums.
  package var offloadsSegmentation: Bool
  package var offloadsChecksum: Bool
  /// The device segments packets with ECN's flags too, which takes `offloadsSegmentation`.
  package var offloadsECN = true
  /// The device takes several datagrams as one packet, which takes `offloadsChecksum`.
  package var offloadsDatagrams = false
  /// The targets' kernel sends several datagrams at once.
  package var sendsTargetRuns = true
  /// The bound on payload kept for all flows of this worker together.
  package var bufferOctetsMax = 512 << 20
  /// Sessions and TIME-WAIT together keep this share of the flow table free for new clients.
  package var udpSessionsMax: Int
  package var timeWait = Interval.seconds(60)
  /// See `EndpointTable`.
  package var awakeEndpointsFew = EndpointTable.awakeFew
  /// A flow that carried nothing for this long, or next to nothing beside what it keeps, may be cut
  /// for the payload memory that it keeps, when others lack it.
  package var idleBeforeCut = Interval.seconds(5)
  /// Bounds on fragments that wait for others, on all workers together.
  package var fragments = ReassemblyLimits()
  /// What is routed into the device from the network namespace that targets are dialled in; empty
  /// when the device is in another one. A target in there would dial itself, and is refused.
  package var ownPrefixes: [IPPrefix] = []
  /// The device's own addresses, which the host answers for, and which may be targets; their networks
  /// have broadcast addresses.
  package var ownAddresses: [InterfaceAddress] = []
  package var budget = TurnBudget()
  /// Where flows live, when there are several workers.
  package var steering: Steering?
  /// Which of them this one is.
  package var worker = 0

  var rejectsUnmatched: Bool {
    switch unmatched {
    case .reject: true
    case .drop: false
    }
  }

  package init(
    mtu: Int, maxFlows: Int, unmatched: UnmatchedPolicy, drainTimeout: Interval,
    seed: (UInt64, UInt64), offloadsSegmentation: Bool = true, offloadsChecksum: Bool = true
  ) {
    self.mtu = mtu
    self.maxFlows = maxFlows
    self.unmatched = unmatched
    self.drainTimeout = drainTimeout
    self.seed = seed
    self.offloadsSegmentation = offloadsSegmentation
    self.offloadsChecksum = offloadsChecksum
    udpSessionsMax = max(1, maxFlows / 2)
  }
}

/// Totals since the start.
package struct StackCounters: BitwiseCopyable, Sendable {
  package var packetsReceived: UInt64 = 0
  package var octetsReceived: UInt64 = 0
  package var tcpAccepted: UInt64 = 0
  package var udpAccepted: UInt64 = 0
  package var dialsFailed: UInt64 = 0
  package var dialsTimedOut: UInt64 = 0
  package var flowsReset: UInt64 = 0
  package var flowsExpired: UInt64 = 0
  package var flowsEvicted: UInt64 = 0
  package var flowsGone: UInt64 = 0
  /// Times that a stalled target's socket was made to take what was kept.
  package var reliefs: UInt64 = 0
  package var cookiesSent: UInt64 = 0
  package var cookiesAccepted: UInt64 = 0
  package var refusals: UInt64 = 0
  package var echoReplies: UInt64 = 0
  package var icmpErrors: UInt64 = 0
  /// Packets that belong to another worker.
  package var handedOver: UInt64 = 0
}

@usableFromInline package struct Stack: ~Copyable {
  /// TCP flows whose target has not answered yet, at most.
  static let dialingMax = 8192
  /// Payload of one frame: an IP packet's 65 535 less the longest headers.
  static let burstOctets = 65_400

  @usableFromInline package var frames = FrameQueue()
  package internal(set) var memory: TCPMemory
  package internal(set) var counters = StackCounters()
  package internal(set) var rules: RuleBook

  var settings: StackSettings
  var ownPrefixes: OwnPrefixes
  var broadcasts: DirectedBroadcasts
  var tcpSettings: (ipv4: TCPSettings, ipv6: TCPSettings)
  var flows: Slab<Flow>
  package internal(set) var endpoints: EndpointTable
  let sessions: UnsafeMutablePointer<UDPSession>
  let datagrams: UnsafeMutablePointer<DatagramList>
  let generations: UnsafeMutablePointer<UInt32>
  var index: FlowIndex
  let hash: FlowHash
  let initialSequence: InitialSequence
  var wheel: TimingWheel
  var quotes: Slab<QuotedPacket>
  var fragments: Reassembler
  var icmpLimiter: TokenBucket
  /// This turn's packets that belong to other workers, see Stack+Strays.
  package internal(set) var strays: [Stray] = []
  /// Flows that want something, each once: a ring as long as the flow table.
  let queue: UnsafeMutablePointer<UInt32>
  var queueHead = 0
  var queueCount = 0
  /// UDP sessions, the one that has been silent longest first.
  var silentSessions = YieldingList()
  /// Endpoints in TIME-WAIT, the oldest first.
  var resting = YieldingList()
  var udpCount = 0
  var dialingCount = 0
  /// Flows whose client has not answered yet.
  package internal(set) var halfOpenCount = 0
  let cookies: SYNCookies
  /// Until when a cookie may come back to a worker that has no others; see `cookiesUntil`.
  var ownCookiesUntil = MonotonicInstant.zero
  /// Of each part of the five-tuples; none where there is no other worker.
  let partCounts: UnsafeMutableBufferPointer<PartCounts>
  /// The one to look at next.
  var nextPart = 0
  /// Packets were lost that the kernel may have dealt to this worker.
  var mayHaveLostParts = false
  package internal(set) var timeWaitCount = 0
  /// Flows that wait for payload memory.
  var starvedCount = 0
  var paces: PaceTable
  /// When the pool may be looked at again: see `relievePressure`.
  var pressureLookAt = MonotonicInstant.zero
  /// When it is to be looked at again without being asked, since flows wait for it.
  var pressureDeadline = MonotonicInstant.distantFuture
  var fragmentIdentification: FragmentIdentification
  /// Clients of this turn that got no flow, at most `turnedAwayMax`, and how many more there were.
  package internal(set) var turnedAway: [TurnedAway] = []
  package internal(set) var turnedAwayUntold = 0
  /// TCP flows with slices of this turn's buffers.
  var settleNeeded = false
  /// What this turn's reads may still take of the budget.
  @usableFromInline var readBudget: Int
  @usableFromInline let budget: TurnBudget
  let capacity: Int

  package init(
    settings: StackSettings, rules newRules: RuleSet, at now: MonotonicInstant
  ) {
    self.settings = settings
    budget = settings.budget
    readBudget = settings.budget.octets
    capacity = max(1, settings.maxFlows)
    let workers = settings.steering?.workers ?? 1
    rules = RuleBook(flowsMax: capacity, workers: workers)
    fragments = Reassembler(limits: settings.fragments.shared(by: workers))
    icmpLimiter = TokenBucket(perSecond: max(1, 1000 / workers), burst: max(1, 200 / workers))
    if workers > 1 { strays.reserveCapacity(Self.straysMax) }
    partCounts = .allocate(capacity: settings.steering == nil ? 0 : Homes.partCount)
    partCounts.initialize(repeating: PartCounts())
    ownPrefixes = OwnPrefixes(
      settings.ownPrefixes, except: settings.ownAddresses.map(\.address))
    broadcasts = DirectedBroadcasts(of: settings.ownAddresses)
    memory = TCPMemory(octets: settings.bufferOctetsMax, flows: capacity)
    tcpSettings = Self.tcpSettings(settings)
    flows = Slab(capacity: capacity)
    endpoints = EndpointTable(
      capacity: capacity, awakeFew: settings.awakeEndpointsFew, settings: tcpSettings.ipv4)
    sessions = .allocate(capacity: capacity)
    datagrams = .allocate(capacity: capacity)
    generations = .allocate(capacity: capacity)
    generations.initialize(repeating: 0, count: capacity)
    queue = .allocate(capacity: capacity)
    index = FlowIndex(capacity: capacity)
    paces = PaceTable(capacity: capacity)
    hash = FlowHash(settings.seed.0, settings.seed.1)
    initialSequence = InitialSequence(
      secret: (~settings.seed.1, settings.seed.0 &* 0x9E37_79B9_7F4A_7C15))
    cookies = SYNCookies(
      secret: (settings.seed.0 ^ 0xC00C_1E5E_C4E7_0001, ~settings.seed.1 &* 0x9E37_79B9_7F4A_7C15))
    wheel = TimingWheel(capacity: capacity, origin: now)
    turnedAway.reserveCapacity(Self.turnedAwayMax)
    // A flow that dials keeps one, and so does a session.
    quotes = Slab(
      capacity: min(capacity, max(Self.dialingMax, settings.udpSessionsMax) + Self.dialingMax))
    fragmentIdentification = FragmentIdentification(
      seed: settings.seed, worker: settings.worker, of: workers)
    _ = rules.install(newRules, drainTimeout: settings.drainTimeout, at: now)
  }

  deinit {
    sessions.deallocate()
    datagrams.deallocate()
    generations.deallocate()
    queue.deallocate()
    partCounts.deallocate()
  }

  private static func tcpSettings(
    _ settings: StackSettings
  ) -> (ipv4: TCPSettings, ipv6: TCPSettings) {
    func make(_ headers: Int) -> TCPSettings {
      TCPSettings(
        segmentOctets: UInt16(clamping: settings.mtu - headers), timeWait: settings.timeWait)
    }
    return (make(40), make(60))
  }

  /// The device's MTU changed; flows keep the segment size that they agreed on.
  package mutating func setMTU(_ mtu: Int) {
    settings.mtu = mtu
    tcpSettings = Self.tcpSettings(settings)
  }

  /// Takes a new set of rules, all at once; running flows keep theirs.
  package mutating func install(
    _ newRules: RuleSet, unmatched: UnmatchedPolicy, drainTimeout: Interval,
    at now: MonotonicInstant
  ) {
    settings.unmatched = unmatched
    settings.drainTimeout = drainTimeout
    cut(rules: rules.install(newRules, drainTimeout: drainTimeout, at: now))
  }

  /// A host name's newest answer.
  package mutating func resolved(_ name: String, _ addresses: [IPAddress]) {
    rules.resolved(name, addresses)
  }

  /// The device refuses super-packets: from now on every frame is one plain segment with its checksum
  /// computed.
  package mutating func disableOffloads() {
    settings.offloadsSegmentation = false
    settings.offloadsChecksum = false
    settings.offloadsDatagrams = false
  }

  /// The device refuses super-packets of datagrams only.
  package mutating func disableDatagramOffload() { settings.offloadsDatagrams = false }

  /// The targets' kernel knows no runs of datagrams: from now on all of them are sent one by one.
  package mutating func forgoTargetRuns() { settings.sendsTargetRuns = false }

  /// Whether the device takes super-packets of datagrams.
  @usableFromInline package var offloadsDatagrams: Bool { settings.offloadsDatagrams }

  /// The kernel found no room in the device's queue for packets of clients: they are offered less.
  package mutating func deviceOverflowed(at now: MonotonicInstant) {
    mayHaveLostParts = true
    let windows = memory.company.isAlone(at: now) ? ReceiveWindow.windowsAlone : 1
    memory.windowCap.narrow(usual: tcpSettings.ipv4.windowOctets * windows, at: now)
  }

  /// Flows now. An endpoint that rests in TIME-WAIT is no conversation any more and not counted.
  package var flowCount: Int { Int(flows.count) - timeWaitCount }
  package var drops: DropCounters { memory.drops }

  /// Counts drops that the owner saw.
  package mutating func countDrop(_ reason: DropReason, by occurrences: Int = 1) {
    memory.drops.count(reason, by: UInt64(occurrences))
  }

  /// Payload memory that was used once and is kept by no flow now: see `ChunkPool`.
  package var spareOctets: Int { memory.chunks.spareOctets }
  /// Begins with new memory; the caller may give the pages of the old back to the kernel.
  package mutating func forgetSpare() -> UnsafeMutableRawBufferPointer {
    memory.chunks.forgetSpare()
  }

  // MARK: Slots

  package func handle(_ slot: UInt32) -> FlowHandle {
    FlowHandle(slot: slot, generation: generations[Int(slot)])
  }

  /// The slot that a handle names, if its flow still lives.
  package func slot(_ handle: FlowHandle) -> UInt32? {
    guard Int(handle.slot) < capacity, generations[Int(handle.slot)] == handle.generation,
      handle.generation & 1 == 1
    else { return nil }
    return handle.slot
  }

  func find(_ tuple: FiveTuple, _ value: UInt32) -> UInt32? {
    var probe = index.probe(value)
    while let slot = index.next(&probe) {
      if flows[slot].tuple == tuple { return slot }
    }
    return nil
  }

  /// Takes a slot; nil when the table is full, or the rule's last place went to another worker's flow
  /// between `meet` and now. A living slot's generation is odd.
  /// - Parameter resting: a flow in TIME-WAIT that gives way, once there is a slot for the new one: the rule
  ///   was found to have a place by `meet`.
  mutating func open(
    _ tuple: FiveTuple, hash value: UInt32, rule: UInt32, target: DialTarget,
    insteadOf resting: UInt32? = nil, at now: MonotonicInstant
  ) -> UInt32? {
    // First: whoever makes room may be of the same part, which goes with the last one.
    guard settle(tuple) else { return nil }
    guard makeRoom(for: tuple, insteadOf: resting, at: now), rules.flowBegins(rule) else {
      unsettle(tuple)
      return nil
    }
    guard let slot = flows.take(Flow(tuple: tuple, target: target, rule: rule, at: now)) else {
      preconditionFailure("a slot was available")
    }
    generations[Int(slot)] &+= 1
    index.insert(value, slot)
    return slot
  }

  private mutating func makeRoom(
    for tuple: FiveTuple, insteadOf resting: UInt32?, at now: MonotonicInstant
  ) -> Bool {
    // The evicted session's socket is closed within the turn.
    if tuple.transport == .udp, udpCount >= settings.udpSessionsMax, !evictSession() {
      return false
    }
    if let resting {
      guard flows.available > 0 || givesWayAtOnce(resting) || evictResting() else { return false }
      giveWay(resting, at: now)
    }
    return flows.available > 0 || evictResting()
  }

  /// Gives a slot back. The socket is closed, the endpoint released.
  mutating func close(_ slot: UInt32) {
    precondition(!flows[slot].marks.contains(.hasSocket), "the socket is closed first")
    leaveYielding(slot)
    leaveDialing(slot)
    leaveHalfOpen(slot)
    if flows[slot].quote != noSlot { quotes.give(flows[slot].quote) }
    leaveTimeWait(slot)
    leaveStarved(slot)
    wheel.disarm(slot)
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.leavesTimerArmed) {
        wheel.arm(slot, at: flows[slot].lastActivity + .seconds(60))
      }
    #endif
    unlink(slot)
    if flows[slot].isTCP {
      endpoints.close(slot)
    } else {
      dropDatagrams(slot)
      udpCount -= 1
    }
    rules.flowEnded(flows[slot].rule)
    generations[Int(slot)] &+= 1
    flows.give(slot)
  }

  /// Lets no packet find the flow any more, so that its client may begin another one at once.
  mutating func unlink(_ slot: UInt32) {
    guard !flows[slot].marks.contains(.unlinked) else { return }
    flows[slot].marks.insert(.unlinked)
    index.remove(hash.hash(flows[slot].tuple), slot)
    unsettle(flows[slot].tuple, isResting: flows[slot].marks.contains(.timeWait))
  }

  /// The flow is over: its slot goes back when the owner has closed its socket.
  mutating func retire(_ slot: UInt32) {
    unlink(slot)
    wheel.disarm(slot)
    over(slot)
    flows[slot].wants.remove(.dial)
    want(slot, .release)
  }

  // MARK: Requests

  /// Notes that a flow wants something.
  mutating func want(_ slot: UInt32, _ wants: FlowWants) {
    flows[slot].wants.formUnion(wants)
    guard !flows[slot].marks.contains(.queued) else { return }
    precondition(queueCount < capacity, "each flow once")
    flows[slot].marks.insert(.queued)
    queue[(queueHead + queueCount) % capacity] = slot
    queueCount += 1
  }

  /// Flows that want something now.
  @usableFromInline package var requestCount: Int { queueCount }

  /// The flow at a position of the queue; what it comes to want meanwhile is seen by `take`.
  @usableFromInline package func request(at position: Int) -> UInt32 {
    precondition(position < queueCount, "request")
    return queue[(queueHead + position) % capacity]
  }

  @usableFromInline package func wants(_ slot: UInt32) -> FlowWants { flows[slot].wants }

  /// Takes the head off the queue: to its end if it still wants something.
  /// - Parameter released: the slot was given back and names no flow, or another one.
  @usableFromInline package mutating func endRequest(released: Bool) {
    precondition(queueCount > 0, "request")
    let slot = queue[queueHead]
    queueCount -= 1
    // An empty queue begins where its memory is warm.
    queueHead = queueCount == 0 ? 0 : (queueHead + 1) % capacity
    guard !released else { return }
    flows[slot].marks.remove(.queued)
    if !flows[slot].wants.isEmpty { want(slot, []) }
  }

  /// Moves the first of the queue to its end, in their order.
  @usableFromInline package mutating func moveToEnd(requests: Int) {
    precondition(requests <= queueCount, "requests")
    for _ in 0..<requests {
      queue[(queueHead + queueCount) % capacity] = queue[queueHead]
      queueHead = (queueHead + 1) % capacity
    }
  }

  /// Takes over some of what a flow wants, and leaves it in the queue.
  @usableFromInline package mutating func take(_ wants: FlowWants, of slot: UInt32) -> FlowWants {
    let taken = flows[slot].wants.intersection(wants)
    flows[slot].wants.subtract(wants)
    return taken
  }
}
