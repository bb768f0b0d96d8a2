import Configuration
import ICMP
import Primitives
import Relay
import SocketTable
import TCP
import UDP
import Wire

// A frame from the device: checked, sorted by protocol, brought to its flow or its passive socket.
//
// What a frame can at most cause: one flow with one held SYN or one UDP session (both bounded), one
// frame in answer, one count. Its payload stays where it is until the turn ends.

/// A packet whose headers are read and checked.
struct Arrival {
  var packet: ParsedPacket
  var virtio: VirtioNetHeader
  /// The IP packet, without the virtio-net header, which lies in front of it.
  var octets: UnsafeRawBufferPointer

  var payload: Slice {
    guard let base = octets.baseAddress else {
      return Slice(nil, 0)
    }
    return Slice(
      UnsafeMutableRawPointer(mutating: base + packet.payloadOffset), packet.payloadOctets)
  }
}

extension Stack {
  /// Takes one frame: virtio-net header and IP packet. The memory must stay until `endTurn`.
  package mutating func receive(_ frame: UnsafeRawBufferPointer, at now: MonotonicInstant) {
    counters.packetsReceived += 1
    counters.octetsReceived += UInt64(frame.count)
    do {
      let arrival = try parse(frame)
      if let home = otherHome(of: arrival) {
        handOver(arrival, to: home)
      } else if case .fragment = arrival.packet.transport {
        try fragmentArrives(arrival, at: now)
      } else {
        sort(arrival, at: now)
      }
    } catch {
      memory.drops.count(error)
      mayHaveLostParts = true
    }
  }

  mutating func fragmentArrives(
    _ arrival: Arrival, at now: MonotonicInstant
  ) throws(DropReason) {
    guard let whole = try reassemble(arrival, at: now) else { return }
    var joined = try parse(whole)
    joined.packet.ip.dontFragment = false  // its sender has fragmented it already
    if let home = otherHome(of: joined, wasFragmented: true) {
      handOver(joined, to: home, wasFragmented: true)
    } else {
      sort(joined, at: now)
    }
  }

  mutating func sort(_ arrival: Arrival, at now: MonotonicInstant) {
    switch arrival.packet.transport {
    case .tcp(let header): tcpArrives(arrival, header, at: now)
    case .udp(let header): udpArrives(arrival, header, at: now)
    case .icmp: icmpArrives(arrival, at: now)
    case .fragment: memory.drops.count(.fragment)  // in a fragment
    case .unsupported: unsupportedArrives(arrival, at: now)
    }
  }

  func parse(_ frame: UnsafeRawBufferPointer) throws(DropReason) -> Arrival {
    let span = frame.bytes
    let virtio = try VirtioNetHeader(parsing: span)
    let octets = UnsafeRawBufferPointer(rebasing: frame[VirtioNetHeader.octets...])
    let packetSpan = octets.bytes
    let packet = try ParsedPacket(parsing: packetSpan)
    if let reason = packet.ip.martianReason() { throw reason }
    if broadcasts.contains(packet.ip.destination) { throw .multicastDestination }
    if broadcasts.contains(packet.ip.source) { throw .martianSource }
    guard virtio.describes(packet) else { throw .badOffloadHeader }
    if !virtio.vouchesForChecksum {
      switch packet.transport {
      case .tcp, .udp:
        let segment = packetSpan.extracting(packet.ip.headerOctets..<packet.ip.totalOctets)
        guard transportChecksumIsValid(packet.ip, segment: segment) else {
          throw .badTransportChecksum
        }
      case .icmp, .fragment, .unsupported: break  // ICMP checks its own, a fragment has none
      }
    }
    return Arrival(packet: packet, virtio: virtio, octets: octets)
  }

  // MARK: ICMP errors to the client

  private mutating func unsupportedArrives(_ arrival: Arrival, at now: MonotonicInstant) {
    memory.drops.count(.unsupportedProtocol)
    guard rules.table.covers(arrival.packet.ip.destination) else { return }
    sendUnreachable(.transport, about: arrival, at: now)
  }

  /// Sends an ICMP error about a packet that is at hand, unless too many were sent lately.
  mutating func sendUnreachable(
    _ kind: ICMPUnreachable, about arrival: Arrival, at now: MonotonicInstant
  ) {
    guard icmpLimiter.take(at: now) else {
      memory.drops.count(.rateLimited)
      return
    }
    do {
      try ICMPResponder.destinationUnreachable(
        kind, quoting: arrival.octets.bytes, header: arrival.packet.ip, into: &frames)
      counters.icmpErrors += 1
    } catch {
      memory.drops.count(error)
    }
  }

  /// Sends an ICMP error about a flow whose packet is gone; of its beginning a copy was kept.
  mutating func sendUnreachable(
    _ kind: ICMPUnreachable, aboutFlow slot: UInt32, at now: MonotonicInstant
  ) {
    let quote = flows[slot].quote
    guard quote != noSlot else { return }
    guard icmpLimiter.take(at: now) else {
      memory.drops.count(.rateLimited)
      return
    }
    do {
      try ICMPResponder.destinationUnreachable(kind, quoting: quotes[quote], into: &frames)
      counters.icmpErrors += 1
    } catch {
      memory.drops.count(error)
    }
  }

  /// Keeps the beginning of a packet for an error that may come later.
  mutating func keepQuote(_ arrival: Arrival, for slot: UInt32) {
    let quote = QuotedPacket(packet: arrival.octets.bytes, header: arrival.packet.ip)
    if flows[slot].quote != noSlot {
      quotes[flows[slot].quote] = quote
    } else if let kept = quotes.take(quote) {
      flows[slot].quote = kept
    }
  }

  mutating func dropQuote(_ slot: UInt32) {
    guard flows[slot].quote != noSlot else { return }
    quotes.give(flows[slot].quote)
    flows[slot].quote = noSlot
  }
}
