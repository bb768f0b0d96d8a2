import Primitives

// A run's packets on their way: from a client over the link to the stack, and back.

extension Simulation {
  // MARK: Towards the stack

  /// Sends what a client wants sent, and sets its timer.
  func settle(_ index: Int) throws {
    let peer = conversations[index].peer
    for (packet, segmentOctets) in peer.outbox {
      trace.packet(now, index, up: true, packet)
      if conversations[index].plan.client.isTwin, let segment = Packets.parse(packet) {
        try conversations[index].checkTwin(segment)
      }
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
  func dress(_ packet: [UInt8], segmentOctets: Int) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 10)
    if segmentOctets > 0 {
      header[0] = 1
      header[1] = packet[0] >> 4 == 4 ? 1 : 4
      if Packets.parse(packet)?.has(Flag.cwr) == true { header[1] |= 0x80 }
      header[4] = UInt8(segmentOctets & 255)
      header[5] = UInt8(segmentOctets >> 8)
      header[6] = packet[0] >> 4 == 4 ? (packet[0] & 15) * 4 : 40
      header[8] = 16
    }
    return header + packet
  }

  /// A frame is about to reach the stack: notes what it says, and returns it.
  func reaches(_ frame: [UInt8], _ flow: Int) -> [UInt8] {
    let packet = Array(frame[10...])
    let conversation = conversations[flow]
    if packet[0] == 0x45 && packet[9] == 1 || packet[0] == 0x60 && packet[6] == 58 {
      return frame
    }
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

  func leaves(_ frame: [UInt8]) throws {
    guard frame.count > 30 else { throw Violation("a frame of \(frame.count) octets") }
    var packet = Array(frame[10...])
    let isIPv4 = packet[0] >> 4 == 4
    let start = isIPv4 ? 20 : 40
    if packet[isIPv4 ? 9 : 6] != 6 {
      try controlLeaves(packet, start: start)
      return
    }
    let segmentOctets = Int(frame[4]) | Int(frame[5]) << 8
    if frame[0] & 1 != 0 { Packets.complete(&packet) }
    guard packet.count == (isIPv4 ? Int(packet.big16(2)) : 40 + Int(packet.big16(4))) else {
      throw Violation("an IP length that is not the packet's")
    }
    let index = Int(packet.big16(start + 2)) - 40_000
    guard conversations.indices.contains(index) else { throw Violation("a packet to a stranger") }
    if frame[1] & 0x80 != 0, !plan.offloadsECN {
      throw Violation("flow \(index): a super-packet with CWR for a device that cannot cut it")
    }
    if frame[1] != 0, frame[1] & 0x80 == 0, packet[start + 13] & Flag.cwr != 0 {
      throw Violation("flow \(index): a super-packet says CWR, and its header does not")
    }
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
      if let bound = down.bound(origin: origin.nanoseconds, at: now), piece.count > bound.mtu {
        tooLong(piece, index, bound)
        continue
      }
      let copies = down.carry(
        piece, flow: index, protected: false, origin: origin.nanoseconds, at: now)
      if copies.isEmpty { trace.note(now, index, "  lost") }
      for copy in copies { events.push(.down(copy.packet, flow: index), at: copy.at) }
    }
  }

  /// A packet does not fit the path for a while: it is lost, and a router may say so.
  private func tooLong(_ packet: [UInt8], _ index: Int, _ bound: (mtu: Int, isTold: Bool)) {
    trace.note(now, index, "  too long")
    report.tooLong += 1
    let addressing = conversations[index].peer.addressing
    guard bound.isTold, addressing.isIPv4 || bound.mtu >= 1_280 else { return }
    let message = Packets.tooBig(packet, mtu: bound.mtu, addressing)
    events.push(.up(message, flow: index, segmentOctets: 0), at: now + down.plan.delay)
  }

  /// An ICMP error ends the handshake of the flow that it quotes. What is said about a packet that a
  /// flipped bit made one of another version or protocol is no news to anybody.
  func controlLeaves(_ packet: [UInt8], start: Int) throws {
    guard packet[start] == (start == 20 ? 3 : 1) else { return }
    let quoted = start + 8 + start
    guard packet.count >= quoted + 4 else {
      throw Violation("an ICMP message that quotes too little")
    }
    let index = Int(packet.big16(quoted)) - 40_000
    guard conversations.indices.contains(index) else { throw Violation("ICMP about a stranger") }
    trace.note(now, index, "ICMP \(packet[start])/\(packet[start + 1])")
    conversations[index].peer.unreachable()
    try settle(index)
  }

  func arrives(_ packet: [UInt8], _ index: Int) throws {
    let conversation = conversations[index]
    guard packet[0] >> 4 == (conversation.plan.isIPv4 ? 4 : 6),
      Packets.isSound(packet, isIPv4: conversation.plan.isIPv4)
    else { return }
    if let segment = Packets.parse(packet) { conversation.reachesTwin(segment) }
    let target = conversation.ownTarget
    let hadPhase = conversation.peer.phase
    try conversation.peer.receive(
      packet, said: target?.read ?? 0, saidAll: target?.saidAll ?? false, at: now)
    if conversation.peer.phase != hadPhase {
      report.transferTime = now - origin
      trace.note(now, index, "client is \(conversation.peer.phase) \(conversation.peer.outcome)")
    }
    try settle(index)
  }
}
