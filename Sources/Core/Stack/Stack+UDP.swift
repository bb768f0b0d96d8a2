import Configuration
import ICMP
import Primitives
import Relay
import SocketTable
import TCP
import UDP
import Wire

// UDP sessions: made by a client's first datagram, ended by silence, or by newer ones when there are
// too many.

extension Stack {
  mutating func udpArrives(_ arrival: Arrival, _ header: UDPHeader, at now: MonotonicInstant) {
    let ip = arrival.packet.ip
    let tuple = FiveTuple(
      client: ip.source, virtual: ip.destination, clientPort: header.sourcePort,
      virtualPort: header.destinationPort, transport: .udp)
    let value = hash.hash(tuple)
    guard let slot = find(tuple, value) ?? beginSession(arrival, tuple, value, at: now) else {
      leaveUnsettled(tuple)
      return
    }
    memory.company.hears(of: slot, at: now)
    sessions[Int(slot)].clientSpoke(at: now)
    flows[slot].lastActivity = now
    yieldLast(slot)
    if !ip.dontFragment { permitFragments(slot) }
    if header.payloadOctets == 0 || datagrams[Int(slot)].first == noSlot {
      keepQuote(arrival, for: slot)
    }
    append(arrival, to: slot)
  }

  /// A datagram of no session begins one, or is answered.
  private mutating func beginSession(
    _ arrival: Arrival, _ tuple: FiveTuple, _ value: UInt32, at now: MonotonicInstant
  ) -> UInt32? {
    switch meet(tuple) {
    case .nobody:
      meetNobody(tuple)
      counters.refusals += 1
      if settings.rejectsUnmatched { sendUnreachable(.port, about: arrival, at: now) }
    case .nowhere(let rule):
      rules.figures(rule).pointee.refusedTotal += 1
      turnAway(tuple, .noTarget, rule: rule)
      sendUnreachable(.port, about: arrival, at: now)
    case .full(let rule):
      rules.figures(rule).pointee.refusedTotal += 1
      memory.drops.count(.ruleFull)
      turnAway(tuple, .ruleFull, rule: rule)
    case .rule(let rule, let target):
      return openSession(tuple, value, rule, target, at: now)
    }
    return nil
  }

  private mutating func openSession(
    _ tuple: FiveTuple, _ value: UInt32, _ rule: UInt32,
    _ target: DialTarget, at now: MonotonicInstant
  ) -> UInt32? {
    guard let slot = open(tuple, hash: value, rule: rule, target: target, at: now) else {
      memory.drops.count(.flowTableFull)
      turnAway(tuple, .flowTableFull, rule: rule)
      return nil
    }
    udpCount += 1
    counters.udpAccepted += 1
    (sessions + Int(slot)).initialize(to: UDPSession(at: now))
    (datagrams + Int(slot)).initialize(to: DatagramList())
    want(slot, .dial)
    schedule(slot)
    return slot
  }

  /// Queues a datagram, or a super-packet's, for this turn.
  private mutating func append(_ arrival: Arrival, to slot: UInt32) {
    let payload = arrival.payload
    let segment = Int(arrival.virtio.segmentOctets)
    guard case .udp? = arrival.virtio.segmentation, segment > 0, payload.octets > segment else {
      queueDatagrams(PendingSlice(payload), slot)
      return
    }
    // A socket takes no longer runs.
    let runMax = min(DatagramRun.datagramsMax, DatagramRun.octetsMax / segment) * segment
    var offset = 0
    while offset < payload.octets, let base = payload.base {
      let octets = min(max(segment, runMax), payload.octets - offset)
      queueDatagrams(PendingSlice(Slice(base + offset, octets), segmentOctets: segment), slot)
      offset += octets
    }
  }

  private mutating func queueDatagrams(_ pending: PendingSlice, _ slot: UInt32) {
    guard let entry = memory.pending.take(pending) else {
      return dropRun(pending.slice, Int(pending.segmentOctets), .memoryFull)
    }
    let last = datagrams[Int(slot)].last
    if last == noSlot {
      datagrams[Int(slot)].first = entry
    } else {
      memory.pending[last].next = entry
    }
    datagrams[Int(slot)].last = entry
    settleNeeded = true
    want(slot, .upload)
  }

  /// Takes the next datagrams for the target, all of them `segmentOctets` long but the last, or one if that
  /// is 0; nil when none waits.
  ///
  /// - Parameter runSegmentOctetsMax: datagrams longer than that are taken one by one.
  @usableFromInline package mutating func nextDatagrams(
    _ slot: UInt32, runSegmentOctetsMax: Int = .max
  ) -> (slice: Slice, segmentOctets: Int)? {
    let entry = datagrams[Int(slot)].first
    guard entry != noSlot else { return nil }
    let pending = memory.pending[entry]
    let segment = Int(pending.segmentOctets)
    let octets = pending.slice.octets
    if segment > runSegmentOctetsMax, octets > segment {
      let rest = Slice(pending.slice.base.map { $0 + segment }, octets - segment)
      memory.pending[entry].slice = rest
      return (Slice(pending.slice.base, segment), 0)
    }
    datagrams[Int(slot)].first = pending.next
    if pending.next == noSlot { datagrams[Int(slot)].last = noSlot }
    memory.pending.give(entry)
    return (pending.slice, segment)
  }

  /// The length of datagrams up to which a session's target is sent runs of them; 0: none.
  @usableFromInline package mutating func runSegmentOctetsMax(
    _ slot: UInt32, at now: MonotonicInstant
  ) -> Int {
    settings.sendsTargetRuns ? sessions[Int(slot)].runSegmentOctetsMax(at: now) : 0
  }

  /// The kernel does not send datagrams of this length to a session's target as a run.
  package mutating func runWasRefused(
    _ slot: UInt32, segmentOctets: Int, at now: MonotonicInstant
  ) {
    sessions[Int(slot)].runWasRefused(segmentOctets: segmentOctets, at: now)
  }

  /// Drops what waits for a session's target.
  mutating func dropDatagrams(_ slot: UInt32) {
    while let (slice, segmentOctets) = nextDatagrams(slot) {
      dropRun(slice, segmentOctets, .targetWriteFailed)
    }
  }

  private mutating func dropRun(_ slice: Slice, _ segmentOctets: Int, _ reason: DropReason) {
    countDrop(reason, by: DatagramRun(slice.octets, segmentOctets: segmentOctets).datagrams)
  }

  /// The target's socket took datagrams of so many octets together.
  package mutating func uploadedDatagrams(_ slot: UInt32, octets: Int) {
    flows[slot].octetsUp += UInt64(octets)
    rules.figures(flows[slot].rule).pointee.octetsUp += UInt64(octets)
  }

  /// The target sent a datagram: passes it to the client.
  /// - Returns: false when `frames` is full: drain it and call again.
  @usableFromInline package mutating func downloaded(
    _ slot: UInt32, datagram: Slice, at now: MonotonicInstant
  ) -> Bool {
    do {
      let isFragmented = try DatagramWriter.write(
        datagram, tuple: flows[slot].tuple,
        mtu: sessions[Int(slot)].mtu(deviceMTU: settings.mtu, at: now),
        identification: fragmentIdentification.number,
        checksum: settings.offloadsChecksum ? .offloaded : .computed, into: &frames)
      if isFragmented { fragmentIdentification.step() }
    } catch {
      if case .frameQueueFull = error, !frames.isEmpty { return false }
      memory.drops.count(error)
    }
    noteDownload(slot, octets: datagram.octets, at: now)
    return true
  }

  /// Whether a run may go to the client as one packet, which its kernel takes apart. One that a target's
  /// socket gives may be longer than an IPv4 packet.
  @usableFromInline package func joinsDatagrams(
    _ slot: UInt32, _ run: DatagramRun, at now: MonotonicInstant
  ) -> Bool {
    let headers = (flows[slot].tuple.virtual.isIPv4 ? 20 : 40) + UDPHeader.octets
    return settings.offloadsDatagrams && run.octets <= DatagramRun.octetsMax
      && run.segmentOctets + headers
        <= sessions[Int(slot)].mtu(deviceMTU: settings.mtu, at: now)
  }

  /// The target sent a run of datagrams that `joinsDatagrams`: passes it to the client.
  /// - Returns: false when `frames` is full: drain it and call again.
  @usableFromInline package mutating func downloaded(
    _ slot: UInt32, run: DatagramRun, _ slices: UnsafeBufferPointer<Slice>,
    at now: MonotonicInstant
  ) -> Bool {
    guard DatagramWriter.write(run, slices, tuple: flows[slot].tuple, into: &frames) else {
      return false
    }
    noteDownload(slot, octets: run.octets, at: now)
    return true
  }

  private mutating func noteDownload(_ slot: UInt32, octets: Int, at now: MonotonicInstant) {
    sessions[Int(slot)].targetSpoke(at: now)
    flows[slot].lastActivity = now
    flows[slot].octetsDown += UInt64(octets)
    rules.figures(flows[slot].rule).pointee.octetsDown += UInt64(octets)
  }

  /// Everything that the target sent was read.
  @usableFromInline package mutating func drainedDatagrams(_ slot: UInt32) {
    flows[slot].marks.subtract([.readable, .readToEnd])
    yieldLast(slot)
  }

  /// The session's socket reported an error, or could not be had: the client is told what it means.
  /// Only for a socket that could not be had is the target's next address tried: later errors are
  /// about datagrams, and a session that has spoken to one address stays with it.
  @usableFromInline package mutating func sessionFailed(
    _ slot: UInt32, failure: TargetFailure, at now: MonotonicInstant
  ) {
    let isOpen = flows[slot].marks.contains(.hasSocket)
    if !isOpen {
      counters.dialsFailed += 1
      if dialNext(slot, after: failure, at: now) { return }
    }
    switch failure {
    case .refused: sendUnreachable(.port, aboutFlow: slot, at: now)
    case .hostUnreachable, .timedOut: sendUnreachable(.host, aboutFlow: slot, at: now)
    case .networkUnreachable: sendUnreachable(.network, aboutFlow: slot, at: now)
    case .prohibited: sendUnreachable(.administrativelyProhibited, aboutFlow: slot, at: now)
    case .exhausted: memory.drops.count(.noSocket)
    case .tooBig(let mtu): sendTooBig(targetMTU: mtu, aboutFlow: slot, at: now)
    }
    if !isOpen { end(slot, .init(failure)) }
  }
}
