import Configuration
import ICMP
import Primitives
import Relay
import SocketTable
import TCP
import Wire

// TCP flows: from the SYN that is held to the slot that is given back.

extension Stack {
  func path(_ tuple: FiveTuple) -> TCPPath {
    TCPPath(
      tuple: tuple, checksum: settings.offloadsChecksum ? .offloaded : .computed,
      burstOctets: burstOctets, cutsReduced: settings.offloadsECN)
  }

  /// Payload of a super-packet at most; 0 where the device takes none.
  var burstOctets: Int { settings.offloadsSegmentation ? Self.burstOctets : 0 }

  mutating func tcpArrives(_ arrival: Arrival, _ header: TCPHeader, at now: MonotonicInstant) {
    let ip = arrival.packet.ip
    let tuple = FiveTuple(
      client: ip.source, virtual: ip.destination, clientPort: header.sourcePort,
      virtualPort: header.destinationPort, transport: .tcp)
    let segment = TCPSegment(
      header: header, payload: arrival.payload, isCongestionMarked: ip.isCongestionMarked)
    let value = hash.hash(tuple)
    guard let slot = find(tuple, value) else {
      strangerArrives(arrival, segment, tuple, value, at: now)
      leaveUnsettled(tuple)
      return
    }
    if flows[slot].marks.contains(.timeWait),
      cookieReturns(segment, tuple, value, insteadOf: slot, at: now)
    {
      return
    }
    memory.company.hears(of: slot, at: now)
    let refused = memory.drops[.memoryFull]
    let outcome = endpoints[slot].segmentArrives(segment, at: now, memory: &memory)
    if outcome.contains(.payload) { flows[slot].lastActivity = now }
    if outcome.contains(.reincarnated) {
      return synArrives(arrival, segment, tuple, value, insteadOf: slot, at: now)
    }
    if outcome.contains(.refuse) {
      if !TCPEndpoint.refuse(segment, path: path(tuple), frames: &frames) {
        memory.drops.count(.frameQueueFull)
      }
      return
    }
    react(outcome, slot, at: now)
    // Last: a client whose payload is refused may have acknowledged something, and is not idle then.
    if memory.drops[.memoryFull] != refused { relievePressure(at: now) }
  }

  /// An endpoint in TIME-WAIT makes room for its client's next connection: at once, so that it does not
  /// count beside that.
  mutating func giveWay(_ slot: UInt32, at now: MonotonicInstant) {
    guard givesWayAtOnce(slot) else {
      return perform(flows[slot].relay.clientClosed(), slot, at: now)
    }
    endpoints[slot].release(memory: &memory)
    close(slot)
  }

  /// Whether the slot of an endpoint in TIME-WAIT is free as soon as it gives way, not only when the
  /// turn ends.
  func givesWayAtOnce(_ slot: UInt32) -> Bool {
    flows[slot].marks.isDisjoint(with: [.queued, .hasSocket])
  }

  /// Carries out what a segment or a deadline meant.
  mutating func react(_ outcome: SegmentOutcome, _ slot: UInt32, at now: MonotonicInstant) {
    if outcome.contains(.reset) {
      conclude(slot, .clientReset)
      perform(flows[slot].relay.clientReset(), slot, at: now)
      return
    }
    if outcome.contains(.closed) {
      if outcome.contains(.gone) { counters.flowsGone += 1 }
      conclude(slot, outcome.contains(.gone) ? .clientLost : .finished)
      perform(flows[slot].relay.clientClosed(), slot, at: now)
      return
    }
    if outcome.contains(.established) {
      leaveHalfOpen(slot)
      dropQuote(slot)
    }
    if outcome.contains(.timeWait) {
      flows[slot].marks.insert(.timeWait)
      timeWaitCount += 1
      if !flows[slot].marks.contains(.unlinked) { rests(flows[slot].tuple) }
      rules.flowRests(flows[slot].rule)
      yieldLast(slot)
      conclude(slot, .finished)
      over(slot)
    }
    if outcome.contains(.payload) {
      settleNeeded = true
      want(slot, .upload)
    }
    if outcome.contains(.finished) { finishIfReady(slot, at: now) }
    // A slow client that makes progress is not idle; one that only says another window is.
    if outcome.contains(.progress) { flows[slot].lastActivity = now }
    if outcome.contains(.room) {
      if flows[slot].relay.isDraining {
        drainIfReady(slot, at: now)
      } else if flows[slot].marks.contains(.readable) {
        want(slot, .read)
      }
    }
    if outcome.contains(.relieve), flows[slot].relay.writesTarget { want(slot, .relieveTarget) }
    if outcome.contains(.transmit) { want(slot, .transmit) }
    schedule(slot)
  }

  /// A segment of no flow.
  private mutating func strangerArrives(
    _ arrival: Arrival, _ segment: TCPSegment, _ tuple: FiveTuple, _ value: UInt32,
    at now: MonotonicInstant
  ) {
    let flags = segment.header.flags
    guard flags.contains(.syn), !flags.contains(.ack) else {
      if cookieReturns(segment, tuple, value, at: now) { return }
      memory.drops.count(.unknownFlow)
      if settings.rejectsUnmatched || isRuled(tuple) { refuse(segment, tuple) }
      return
    }
    synArrives(arrival, segment, tuple, value, insteadOf: nil, at: now)
  }

  /// A SYN that would begin a flow.
  /// - Parameter resting: a flow in TIME-WAIT that gives way if it does, and stays if it does not:
  ///   anybody may have sent the SYN.
  private mutating func synArrives(
    _ arrival: Arrival, _ segment: TCPSegment, _ tuple: FiveTuple, _ value: UInt32,
    insteadOf resting: UInt32?, at now: MonotonicInstant
  ) {
    switch meet(tuple) {
    case .nobody:
      meetNobody(tuple)
      if settings.rejectsUnmatched { refuse(segment, tuple) }
    case .nowhere(let rule):
      rules.figures(rule).pointee.refusedTotal += 1
      turnAway(tuple, .noTarget, rule: rule)
      refuse(segment, tuple)
    case .full(let rule):
      rules.figures(rule).pointee.refusedTotal += 1
      memory.drops.count(.ruleFull)
      turnAway(tuple, .ruleFull, rule: rule)
    case .rule(let rule, let target):
      if isFlooded(rule) {
        answerByCookie(segment.header, tuple, rule, insteadOf: resting, at: now)
      } else {
        hold(arrival, segment.header, tuple, value, rule, target, insteadOf: resting, at: now)
      }
    }
  }

  private func isRuled(_ tuple: FiveTuple) -> Bool {
    rules.passiveSocket(for: tuple) != nil
  }

  private mutating func refuse(_ segment: TCPSegment, _ tuple: FiveTuple) {
    guard !segment.header.flags.contains(.rst) else { return }
    counters.refusals += 1
    if !TCPEndpoint.refuse(segment, path: path(tuple), frames: &frames) {
      memory.drops.count(.frameQueueFull)
    }
  }

  /// Makes a flow of a SYN, which is held while the target is dialled.
  private mutating func hold(
    _ arrival: Arrival, _ syn: TCPHeader, _ tuple: FiveTuple, _ value: UInt32, _ rule: UInt32,
    _ target: DialTarget, insteadOf resting: UInt32?, at now: MonotonicInstant
  ) {
    guard dialingCount < Self.dialingMax else {
      memory.drops.count(.noSocket)
      turnAway(tuple, .noSocket, rule: rule)
      return
    }
    let last = resting.map { endpoints[$0].send.next }
    guard
      let slot = open(
        tuple, hash: value, rule: rule, target: target, insteadOf: resting, at: now)
    else {
      memory.drops.count(.flowTableFull)
      turnAway(tuple, .flowTableFull, rule: rule)
      return
    }
    let secrets = initialSequence.secrets(of: tuple)
    let endpoint = TCPEndpoint(
      holding: syn, isIPv4: tuple.virtual.isIPv4,
      initialSequence: secrets.sequence(at: now, after: last),
      timestampOffset: secrets.timestampOffset, settings: tcpSettings(tuple, rule), at: now)
    begin(slot, endpoint, at: now)
    enterHalfOpen(slot)
    keepQuote(arrival, for: slot)
  }

  /// A new TCP flow dials its target.
  mutating func begin(_ slot: UInt32, _ endpoint: TCPEndpoint, at now: MonotonicInstant) {
    endpoints.open(slot, endpoint)
    counters.tcpAccepted += 1
    dialingCount += 1
    flows[slot].marks.insert(.dialing)
    flows[slot].expiresAt = connectBound(slot)
    want(slot, .dial)
    schedule(slot)
  }

  func tcpSettings(_ tuple: FiveTuple, _ rule: UInt32) -> TCPSettings {
    var settings = tuple.virtual.isIPv4 ? tcpSettings.ipv4 : tcpSettings.ipv6
    settings.algorithm = rules.figures(rule).pointee.bounds.congestion
    settings.keepalive = rules.figures(rule).pointee.bounds.keepalive
    return settings
  }

  /// What the timestamps of a five-tuple are counted from (RFC 7323 §7.1).
  func timestampOffset(_ tuple: FiveTuple) -> UInt32 {
    initialSequence.secrets(of: tuple).timestampOffset
  }

  mutating func leaveTimeWait(_ slot: UInt32) {
    guard flows[slot].marks.contains(.timeWait) else { return }
    unlink(slot)  // as one that rests
    flows[slot].marks.remove(.timeWait)
    timeWaitCount -= 1
    rules.flowLeavesRest(flows[slot].rule)
  }

  mutating func leaveDialing(_ slot: UInt32) {
    guard flows[slot].marks.contains(.dialing) else { return }
    flows[slot].marks.remove(.dialing)
    dialingCount -= 1
  }

  /// Tells the target of the client's FIN once everything before it was written.
  mutating func finishIfReady(_ slot: UInt32, at now: MonotonicInstant) {
    guard endpoints[slot].isFinishReady else { return }
    perform(flows[slot].relay.clientFinished(), slot, at: now)
  }

  /// Resets the client once it has acknowledged what came before the target's reset.
  mutating func drainIfReady(_ slot: UInt32, at now: MonotonicInstant) {
    guard flows[slot].relay.isDraining,
      endpoints[slot].send.buffer.octets == 0
    else { return }
    perform(flows[slot].relay.clientDrained(), slot, at: now)
  }

  /// Carries out what the relay says.
  mutating func perform(_ actions: RelayActions, _ slot: UInt32, at now: MonotonicInstant) {
    if actions.contains(.answerClient) {
      answerClient(slot, at: now)
    }
    if actions.contains(.resetClient) {
      counters.flowsReset += 1
      sendReset(slot)
    }
    if actions.contains(.finishTarget) { want(slot, .finishTarget) }
    if actions.contains(.finishClient) {
      endpoints[slot].finish()
      want(slot, .transmit)
    }
    if actions.contains(.closeTarget) { want(slot, .closeTarget) }
    if actions.contains(.resetTarget) { want(slot, .resetTarget) }
    if actions.contains(.drainClient) { drainIfReady(slot, at: now) }
    if actions.contains(.release) {
      leaveDialing(slot)
      leaveHalfOpen(slot)
      leaveTimeWait(slot)
      if !flows[slot].wants.contains(.resetClient) {
        endpoints[slot].release(memory: &memory)
      }
      retire(slot)
    }
  }

  /// The target is connected: the held SYN is answered, or what a client said meanwhile passed on.
  private mutating func answerClient(_ slot: UInt32, at now: MonotonicInstant) {
    want(slot, .transmit)
    guard !endpoints[slot].isHeld else { return endpoints[slot].answer() }
    endpoints[slot].targetConnected(settings: tcpSettings(flows[slot].tuple, flows[slot].rule))
    if endpoints[slot].receive.untakenOctets > 0 { want(slot, .upload) }
    finishIfReady(slot, at: now)
  }

  /// Resets the client, at once or as soon as there is room for the frame.
  mutating func sendReset(_ slot: UInt32) {
    if !resetClient(slot) { want(slot, .resetClient) }
  }

  // MARK: For the owner, client side

  /// Puts a reset for the client into `frames`.
  /// - Returns: false when `frames` is full: drain it and call again.
  @usableFromInline package mutating func resetClient(_ slot: UInt32) -> Bool {
    endpoints[slot].reset(path: path(flows[slot].tuple), frames: &frames)
  }

  /// Sends what may be sent now.
  /// - Returns: false when `frames` is full: drain it and call again.
  @usableFromInline package mutating func transmit(_ slot: UInt32, at now: MonotonicInstant) -> Bool
  {
    guard flows[slot].isTCP else { return true }
    memory.windowCap.relax(widest: tcpSettings.ipv4.windowOctetsMax, at: now)
    let done = endpoints[slot].transmit(
      at: now, path: path(flows[slot].tuple), memory: &memory, frames: &frames)
    if done { schedule(slot) }
    return done
  }
}
