import Configuration
import Fragments
import ICMP
import Primitives
import Relay
import TCP
import Wire

// The target side: what to dial, what to write, where to read to, and how it went.

/// Why a target could not be connected, or is gone.
@usableFromInline package enum TargetFailure: Equatable, Sendable, BitwiseCopyable {
  /// The target refused: nobody listens.
  case refused
  case hostUnreachable
  case networkUnreachable
  case prohibited
  case timedOut
  /// This host has no descriptor, port or memory left: not the target's fault, and not for long.
  case exhausted
  /// A datagram is larger than the path to the target takes, which is this MTU.
  case tooBig(mtu: Int)
}

extension Stack {
  /// Where the flow leads.
  package func target(
    _ slot: UInt32
  ) -> (transport: TransportProtocol, address: IPAddress, port: UInt16) {
    let flow = flows[slot]
    return (flow.tuple.transport, flow.target, flow.targetPort)
  }

  /// Silence after which the flow's sockets ask whether the other side is there; zero: never.
  package func keepalive(_ slot: UInt32) -> Interval {
    rules.figures(flows[slot].rule).pointee.bounds.keepalive
  }

  /// The owner has a socket for the flow; `connected` unless it is still connecting.
  @usableFromInline package mutating func opened(
    _ slot: UInt32, connected: Bool, at now: MonotonicInstant
  ) {
    flows[slot].marks.insert(.hasSocket)
    flows[slot].marks.remove(.fragmentsTold)
    if connected { return self.connected(slot, at: now) }
    // What an attempt may take is counted from here: the flow may have waited for it.
    flows[slot].expiresAt = attemptBound(slot, at: now)
    schedule(slot)
  }

  private mutating func connected(_ slot: UInt32, at now: MonotonicInstant) {
    leaveDialing(slot)
    flows[slot].marks.insert(.writable)
    flows[slot].lastActivity = now
    guard flows[slot].isTCP else {
      if datagrams[Int(slot)].first != noSlot { want(slot, .upload) }
      return
    }
    flows[slot].expiresAt = now + rules.figures(flows[slot].rule).pointee.bounds.idleTimeout
    perform(flows[slot].relay.targetConnected(), slot, at: now)
    schedule(slot)
  }

  /// Whether the flow's socket is still connecting: its first readiness tells how that went.
  package func isDialing(_ slot: UInt32) -> Bool {
    flows[slot].isTCP && flows[slot].relay.isDialing
  }

  /// The connection attempt ended. After a failure the flow may want to dial again.
  @usableFromInline package mutating func dialed(
    _ slot: UInt32, failure: TargetFailure?, at now: MonotonicInstant
  ) {
    guard isDialing(slot) else { return }
    guard let failure else { return connected(slot, at: now) }
    counters.dialsFailed += 1
    if case .refused = failure { flows[slot].marks.insert(.refused) }
    if dialNext(slot, after: failure, at: now) { return }
    rules.figures(flows[slot].rule).pointee.refusedTotal += 1
    let told = flows[slot].marks.contains(.refused) ? .refused : failure
    conclude(slot, FlowEnd(told))
    // who was answered already can only be reset
    switch endpoints[slot].isHeld ? told : .refused {
    case .refused: sendReset(slot)
    case .hostUnreachable, .timedOut: sendUnreachable(.host, aboutFlow: slot, at: now)
    case .networkUnreachable: sendUnreachable(.network, aboutFlow: slot, at: now)
    case .prohibited: sendUnreachable(.administrativelyProhibited, aboutFlow: slot, at: now)
    case .exhausted, .tooBig: memory.drops.count(.noSocket)  // the client's SYN comes again
    }
    perform(flows[slot].relay.targetFailed(), slot, at: now)
  }

  /// The kernel says that a socket is ready.
  /// - Parameters:
  ///   - readToEnd: a short read will not mean that there is no more: the target hung up, or sent
  ///     urgent data, in front of which a read stops.
  ///   - dead: neither half stands any more, or an error is pending.
  package mutating func targetReady(
    _ slot: UInt32, readable: Bool, writable: Bool, readToEnd: Bool, dead: Bool = false,
    at now: MonotonicInstant
  ) {
    // A target that has finished is not read any more: this is how its reset is heard.
    if dead, flows[slot].isTCP, flows[slot].relay.isTargetFinished {
      return targetFailed(slot, at: now)
    }
    if readToEnd { flows[slot].marks.insert([.readToEnd, .readable]) }
    if readable || readToEnd {
      flows[slot].marks.insert(.readable)
      want(slot, .read)
    }
    if writable {
      flows[slot].marks.insert(.writable)
      guard flows[slot].isTCP else { return }
      if endpoints[slot].receive.untakenOctets > 0 { want(slot, .upload) }
      if endpoints[slot].targetHasRoom() { want(slot, .transmit) }
    }
  }

  // MARK: Upload

  /// Fills `slices` with what the target is to be given next; none when nothing waits.
  @usableFromInline package mutating func gather(
    _ slot: UInt32, into slices: UnsafeMutableBufferPointer<Slice>
  ) -> (slices: Int, octets: Int) {
    guard flows[slot].relay.writesTarget, flows[slot].marks.contains(.writable),
      !flows[slot].marks.contains(.broken)
    else { return (0, 0) }
    return endpoints[slot].gather(memory: memory, into: slices)
  }

  /// The target's socket took so many octets of what was gathered.
  /// - Parameter more: whether it may take more at once.
  @usableFromInline package mutating func uploaded(
    _ slot: UInt32, octets: Int, more: Bool, at now: MonotonicInstant
  ) {
    if !more { flows[slot].marks.remove(.writable) }
    defer { if !more { targetFilled(slot, at: now) } }
    guard octets > 0 else { return }
    endpoints[slot].took(octets, at: now, memory: &memory)
    flows[slot].octetsUp += UInt64(octets)
    rules.figures(flows[slot].rule).pointee.octetsUp += UInt64(octets)
    flows[slot].lastActivity = now
    finishIfReady(slot, at: now)
    want(slot, .transmit)
  }

  /// What is left is kept; if the target does not take it soon, it wants relief.
  private mutating func targetFilled(_ slot: UInt32, at now: MonotonicInstant) {
    endpoints[slot].targetFilled(at: now)
    schedule(slot)
  }

  /// The owner is about to raise the bound of the target socket's buffer, to upload what `gather` then
  /// offers, and to set the bound back; after that the socket is to tell when it has room.
  /// - Returns: octets that wait; 0: there is nothing to do.
  @usableFromInline package mutating func beginRelief(_ slot: UInt32) -> Int {
    guard flows[slot].marks.contains(.hasSocket), flows[slot].relay.writesTarget,
      !flows[slot].marks.contains(.broken)
    else { return 0 }
    let octets = endpoints[slot].receive.untakenOctets
    guard octets > 0 else { return 0 }
    endpoints[slot].beginRelief()
    flows[slot].marks.insert(.writable)
    return octets
  }

  /// The bound is set back.
  /// - Parameter wasRaised: it could be raised.
  @usableFromInline package mutating func endRelief(_ slot: UInt32, wasRaised: Bool) {
    flows[slot].marks.remove(.writable)
    guard wasRaised else { return }
    endpoints[slot].targetRelieved()
    counters.reliefs += 1
  }

  /// Writing failed for good. What the target said before it went is still to be read, as fast as
  /// the client takes it; its end, whatever it looks like, is then a reset.
  /// - Parameter lost: it fell silent, rather than reset the connection.
  @usableFromInline package mutating func targetWriteFailed(
    _ slot: UInt32, lost: Bool = false, at now: MonotonicInstant
  ) {
    guard flows[slot].relay.readsTarget else { return targetFailed(slot, lost: lost, at: now) }
    conclude(slot, lost ? .targetLost : .targetReset)
    flows[slot].marks.insert([.broken, .readable, .readToEnd])
    flows[slot].marks.remove(.writable)
    want(slot, .read)
  }

  /// Reading failed for good: the target reset the connection, or is gone.
  /// - Parameter lost: it fell silent, rather than reset the connection.
  @usableFromInline package mutating func targetFailed(
    _ slot: UInt32, lost: Bool = false, at now: MonotonicInstant
  ) {
    flows[slot].marks.subtract([.readable, .writable])
    let actions = flows[slot].relay.targetReset()
    if !actions.isEmpty { conclude(slot, lost ? .targetLost : .targetReset) }
    perform(actions, slot, at: now)
    schedule(slot)
  }

  /// The target's sending half was shut down.
  @usableFromInline package mutating func targetFinishTold(_ slot: UInt32, at now: MonotonicInstant)
  {
    react(endpoints[slot].finishWasTaken(at: now), slot, at: now)
    want(slot, .transmit)
  }

  // MARK: Download

  /// Octets that the flow may read from its target in a turn: in whole frames, or a small one would end
  /// each turn's. Others may be about to be read though no client was heard of lately.
  @usableFromInline package mutating func readPart(
    _ slot: UInt32, at now: MonotonicInstant
  ) -> Int {
    let part = nobodyWaits(at: now) ? budget.flowOctets * budget.partsAlone : budget.flowOctets
    let frame = endpoints[slot].send.frameOctets(burstOctets: burstOctets)
    return part < frame ? part : part - part % frame
  }

  /// The turn serves one flow, and others were not heard of lately.
  private func nobodyWaits(at now: MonotonicInstant) -> Bool {
    requestCount <= 1 && memory.company.isAlone(at: now)
  }

  /// Whether what is in the frame queue may be written while the turn goes on. All its payload lies in chunks:
  /// frames of datagrams, whose payload does not, are written before their session has been served.
  @usableFromInline package func mayWriteBehind(at now: MonotonicInstant) -> Bool {
    nobodyWaits(at: now) && frames.octets >= budget.octetsBehind
  }

  /// Exchanges the frame queue for another, whose frames are all written. The chunks that frames refer to
  /// are given to nobody until `framesWereWritten`.
  package mutating func lendFrames(to other: inout FrameQueue) {
    swap(&frames, &other)
    memory.chunks.hold()
  }

  /// The frames that were lent are written.
  package mutating func framesWereWritten() {
    memory.chunks.letGo()
    feedStarved()
  }

  /// Room for a turn's first receive: a target that said little last time is given little, since room
  /// costs something, used or not.
  @usableFromInline package func firstRoom(_ slot: UInt32, of part: Int) -> Int {
    flows[slot].marks.contains(.saysMuch) ? part : min(part, ChunkPool.chunkOctets)
  }

  /// A turn read so many octets of the target; none where it said nothing, or nothing could be kept. Where
  /// it has more to say than there was room for, few octets do not mean that it says little.
  @usableFromInline package mutating func noteRead(
    _ slot: UInt32, octets: Int, at now: MonotonicInstant
  ) {
    guard octets > 0 else { return }
    endpoints[slot].said(octets, at: now, memory: &memory)
    if octets > ChunkPool.chunkOctets {
      flows[slot].marks.insert(.saysMuch)
    } else if !flows[slot].marks.contains(.readable) {
      flows[slot].marks.remove(.saysMuch)
    }
  }

  /// Opens room for what the target says, at most `limit` octets; 0 slices when the client's buffer is
  /// full or there is nothing to read.
  @usableFromInline package mutating func openRoom(
    _ slot: UInt32, limit: Int, at now: MonotonicInstant,
    slices: UnsafeMutableBufferPointer<Slice>
  ) -> Int {
    guard flows[slot].marks.contains(.readable), flows[slot].relay.readsTarget else { return 0 }
    let count = endpoints[slot].room(
      limit: limit, at: now, memory: &memory, slices: slices)
    if count == 0, endpoints[slot].roomOctets(at: now, memory: memory) > 0 { starve(slot) }
    return count
  }

  /// The target said so many octets, read into the room.
  /// - Parameter more: whether it may have more to say at once.
  @usableFromInline package mutating func downloaded(
    _ slot: UInt32, octets: Int, more: Bool, at now: MonotonicInstant
  ) {
    endpoints[slot].commit(octets, memory: &memory)
    if !more, !flows[slot].marks.contains(.readToEnd) { flows[slot].marks.remove(.readable) }
    guard octets > 0 else { return }
    flows[slot].octetsDown += UInt64(octets)
    rules.figures(flows[slot].rule).pointee.octetsDown += UInt64(octets)
    flows[slot].lastActivity = now
  }

  /// The target's end of stream was read.
  @usableFromInline package mutating func targetFinished(_ slot: UInt32, at now: MonotonicInstant) {
    endpoints[slot].commit(0, memory: &memory)
    if flows[slot].marks.contains(.broken) { return targetFailed(slot, at: now) }
    flows[slot].marks.subtract([.readable, .readToEnd])
    perform(flows[slot].relay.targetFinished(), slot, at: now)
  }

  /// The owner read as much as it may this turn, and there may be more.
  @usableFromInline package mutating func readLater(_ slot: UInt32) { want(slot, .read) }

  // MARK: The end

  /// The owner closed the flow's socket.
  @usableFromInline package mutating func closed(_ slot: UInt32) {
    flows[slot].marks.subtract([.hasSocket, .readable, .writable, .readToEnd])
  }

  /// Gives the flow's slot back, as `release` asked.
  @usableFromInline package mutating func release(_ slot: UInt32) {
    if flows[slot].isTCP { endpoints[slot].release(memory: &memory) }
    close(slot)
    feedStarved()
  }

  /// Everything of this turn's buffers was written or must be kept: nothing may point into them
  /// when the next turn reads.
  @usableFromInline package mutating func endTargetPass() {
    defer {
      memory.turnEnded()
      fragments.endTurn()
      feedStarved()
    }
    guard settleNeeded else { return }
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.keepsSlices) { return }
    #endif
    settleNeeded = false
    for position in 0..<queueCount {
      let slot = request(at: position)
      if flows[slot].isTCP {
        endpoints[slot].settle(memory: &memory)
      } else {
        dropDatagrams(slot)
      }
    }
  }

  /// See `EndpointTable.putAllToSleep`.
  package mutating func putEndpointsToSleep() { endpoints.putAllToSleep() }

  @usableFromInline package func isTCP(_ slot: UInt32) -> Bool { flows[slot].isTCP }

  /// Whether a short read may be followed by more: see `targetReady`.
  @usableFromInline package func readsToEnd(_ slot: UInt32) -> Bool {
    flows[slot].marks.contains(.readToEnd)
  }

  /// The target's socket has nothing more to read.
  @usableFromInline package mutating func drained(_ slot: UInt32) {
    flows[slot].marks.subtract([.readable, .readToEnd])
  }

  /// Whether a flow's socket is open.
  @usableFromInline package func hasSocket(_ slot: UInt32) -> Bool {
    flows[slot].marks.contains(.hasSocket)
  }
}
