import Configuration
import ICMP
import Primitives
import Relay
import SocketTable
import TCP
import UDP
import Wire

// ICMP from the client's side: echo, and errors about packets of ours.
//
// Anybody can send an error. It is heard only if it is for the address that the quoted packet came
// from, the quoted five-tuple is a living flow, and what TCP it quotes is in flight (RFC 5927 §4); of a
// UDP session something must have been sent. Then
//   too big         makes segments, or a session's fragments, smaller
//   port unreachable, for a session: the client's socket is gone, and so is the session
//   a hard error, for a SYN-ACK: the client will never hear it, and the flow ends
//   all others      are soft (RFC 1122 §4.2.3.9): they may pass, and the timers decide
// What is not heard is counted.

extension Stack {
  mutating func icmpArrives(_ arrival: Arrival, at now: MonotonicInstant) {
    let ip = arrival.packet.ip
    guard rules.table.covers(ip.destination) else {
      memory.drops.count(.notForUs)
      return
    }
    let span = arrival.octets.bytes
    let known = arrival.virtio.vouchesForChecksum
    do throws(DropReason) {
      let message = try ICMPMessage(parsing: span, header: ip, checksumIsKnown: known)
      if let quoted = message.quoted, let home = otherHome(quoted: quoted.tuple) {
        handOver(arrival, to: home)
        return
      }
      switch message {
      case .echoRequest:
        // One answer to each question, no longer than it: no amplifier, and so no limit.
        try ICMPResponder.echoReply(
          to: span, header: ip, checksumIsKnown: known, mtu: settings.mtu,
          identification: fragmentIdentification.number, into: &frames)
        fragmentIdentification.step()
        counters.echoReplies += 1
      case .packetTooBig(let mtu, let quoted):
        try packetTooBig(mtu, quoted, try flow(quoted, toldTo: ip.destination), at: now)
      case .unreachable(let kind, let quoted):
        try unreachable(kind, quoted, try flow(quoted, toldTo: ip.destination), at: now)
      case .timeExceeded(let quoted), .parameterProblem(let quoted):
        _ = try flow(quoted, toldTo: ip.destination)
        throw DropReason.icmpIgnored
      case .echoReply, .other: throw DropReason.icmpIgnored
      }
    } catch {
      memory.drops.count(error)
    }
  }

  /// The living flow whose packet an error quotes.
  private func flow(
    _ quoted: QuotedFlow, toldTo address: IPAddress
  ) throws(DropReason) -> UInt32 {
    guard quoted.tuple.virtual == address, let slot = find(quoted.tuple, hash.hash(quoted.tuple))
    else { throw .icmpUnmatched }
    return slot
  }

  private mutating func packetTooBig(
    _ claim: Int, _ quoted: QuotedFlow, _ slot: UInt32, at now: MonotonicInstant
  ) throws(DropReason) {
    let isIPv4 = quoted.tuple.virtual.isIPv4
    let mtu = claim == 0 && isIPv4 ? MTUPlateau.below(quoted.packetOctets) : claim
    guard mtu < quoted.packetOctets else { throw .icmpBadMTU }
    guard let sequence = quoted.sequence else {
      guard sessions[Int(slot)].isAnswered else { throw .icmpUnmatched }
      guard
        sessions[Int(slot)].pathIsNarrow(
          mtu: mtu, deviceMTU: settings.mtu, isIPv4: isIPv4, at: now)
      else { throw .icmpBadMTU }
      return
    }
    if let reason = endpoints[slot].packetTooBig(
      mtu: mtu, isIPv4: isIPv4, quoting: sequence, at: now, memory: &memory)
    {
      throw reason
    }
    want(slot, .transmit)
    schedule(slot)
  }

  private mutating func unreachable(
    _ kind: ICMPUnreachable, _ quoted: QuotedFlow, _ slot: UInt32, at now: MonotonicInstant
  ) throws(DropReason) {
    switch kind {
    case .network, .host: throw .icmpIgnored
    case .transport, .port, .administrativelyProhibited: break
    }
    if let sequence = quoted.sequence {
      guard endpoints[slot].isEndedByHardError(quoting: sequence) else { throw .icmpIgnored }
      counters.flowsReset += 1
      conclude(slot, .clientLost)
      perform(flows[slot].relay.clientReset(), slot, at: now)
    } else {
      guard kind == .port else { throw .icmpIgnored }
      guard sessions[Int(slot)].isAnswered else { throw .icmpUnmatched }
      end(slot, .clientLost)
    }
  }

  // MARK: To the client

  /// Tells the client that a datagram of the session was too big for the path to the target, in terms
  /// of the client's own packets: the same payload under its own headers.
  mutating func sendTooBig(targetMTU: Int, aboutFlow slot: UInt32, at now: MonotonicInstant) {
    let flow = flows[slot]
    let isIPv4 = flow.tuple.client.isIPv4
    let payload = targetMTU - (flow.target.isIPv4 ? 20 : 40)
    let mtu = min(payload + (isIPv4 ? 20 : 40), settings.mtu)
    // A client that fragments has done its part. One with IPv6 must not be told of less than 1280
    // (RFC 8201 §4): for it the target's socket fragments.
    if !isIPv4, mtu < 1280 { permitFragments(slot) }
    guard flow.quote != noSlot, !flows[slot].marks.contains(.fragments) else { return }
    guard icmpLimiter.take(at: now) else {
      memory.drops.count(.rateLimited)
      return
    }
    do {
      try ICMPResponder.packetTooBig(
        mtu: max(mtu, 68), quoting: quotes[flow.quote], into: &frames)
      counters.icmpErrors += 1
    } catch {
      memory.drops.count(error)
    }
  }

  /// The session's datagrams may leave in fragments from now on: see `Stack.takeFragmentPermission`.
  mutating func permitFragments(_ slot: UInt32) { flows[slot].marks.insert(.fragments) }

  /// Whether the session's socket is to be told, for the first time, that datagrams may leave in
  /// fragments. At first none may, since a client's datagrams come with DF set, or are IPv6: on the
  /// way to the target they keep that. A client that sends fragments itself, once, expects them to be
  /// fragmented further.
  @usableFromInline package mutating func takeFragmentPermission(_ slot: UInt32) -> Bool {
    guard flows[slot].marks.contains(.fragments), !flows[slot].marks.contains(.fragmentsTold)
    else { return false }
    flows[slot].marks.insert(.fragmentsTold)
    return true
  }
}
