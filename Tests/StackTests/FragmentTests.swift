import Configuration
import Primitives
import Stack
import TestSupport
import Testing
import Wire

// Fragments through the whole stack: what they carry arrives as if it had come whole.

@Suite("Fragments: UDP, echo and TCP arrive as if they had come whole (RFC 8200 §4.5)")
struct FragmentTests {
  private let rules = [rule("web"), rule("dns", .udp, ports: PortRange(53))]

  private func addresses(_ isIPv4: Bool) -> (client: IPAddress, virtual: IPAddress) {
    isIPv4 ? (client4, virtual4) : (client6, virtual6)
  }

  /// The payload of packets that are fragments of one another, in order of their offsets.
  private func joined(_ replies: [Reply]) -> [UInt8] {
    replies.sorted { $0.ip.fragmentOffset < $1.ip.fragmentOffset }.flatMap { reply in
      Array(reply.octets[reply.ip.headerOctets..<reply.ip.totalOctets])
    }
  }

  @Test(
    "a datagram beyond the MTU reaches the target, in one turn or several",
    arguments: [true, false])
  func datagrams(isIPv4: Bool) throws {
    let world = World(rules: rules)
    let (client, virtual) = addresses(isIPv4)
    for (number, octets) in [1473, 4000, 9000, isIPv4 ? 65_507 : 65_487].enumerated() {
      let payload = (0..<octets).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      let packet = udpPacket(from: client, to: virtual, payload: payload)
      for fragment in fragments(packet, of: 1480, identification: number).reversed() {
        if number % 2 == 0 { world.give(fragment) } else { world.send(fragment) }
      }
      world.turn()
      let slot = try #require(world.flow)
      #expect(world.sockets[slot]?.receivedDatagrams.last == payload)
    }
    #expect(world.stack.drops.total == 0 && world.stack.reassembly == (0, 0, 4))
  }

  @Test("several datagrams completed in one turn are told apart", arguments: [true, false])
  func interleaved(isIPv4: Bool) throws {
    let world = World(rules: rules)
    let (client, virtual) = addresses(isIPv4)
    let payloads = (0..<20).map { [UInt8](repeating: UInt8($0), count: 3000 + $0) }
    let cut = payloads.enumerated().map { number, payload in
      fragments(
        udpPacket(from: client, to: virtual, payload: payload), of: 1024, identification: number)
    }
    for part in 0..<3 {
      for fragments in cut { world.give(fragments[part]) }
    }
    world.turn()
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.receivedDatagrams == payloads)
  }

  @Test(
    "an echo request beyond the MTU is answered in fragments with all its data",
    arguments: [true, false])
  func echo(isIPv4: Bool) throws {
    let world = World(rules: rules)
    let (client, virtual) = addresses(isIPv4)
    for octets in [1473, 5000, 65_000] {
      let body = (0..<octets).map { UInt8(truncatingIfNeeded: $0 &* 5) }
      let request = echoPacket(from: client, to: virtual, body: body)
      for fragment in fragments(request, of: 1480, identification: octets) { world.give(fragment) }
      world.turn()
      let replies = world.take()
      #expect(replies.allSatisfy { $0.ip.isFragment && $0.ip.totalOctets <= 1500 })
      #expect(replies.allSatisfy { $0.ip.source == virtual && $0.ip.destination == client })
      #expect(Set(replies.map(\.ip.identification)).count == 1)
      let message = joined(replies)
      let pseudo =
        isIPv4 ? [] : virtual.octets + client.octets + big32(message.count) + big32(58)
      #expect(onesComplementSum(pseudo + message) == 0xFFFF)
      #expect(message[0] == (isIPv4 ? 0 : 129))
      #expect(Array(message[8...]) == body)
    }
    #expect(world.stack.counters.echoReplies == 3 && world.stack.drops.total == 0)
  }

  @Test("a TCP segment in fragments is a segment", arguments: [true, false])
  func segments(isIPv4: Bool) throws {
    let world = World(rules: rules)
    var client = Client(world, isIPv4: isIPv4)
    try client.connect()
    let slot = try #require(world.flow)
    var sent: [UInt8] = []
    for number in 0..<8 {
      let payload = (0..<1200).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ number) }
      let packet = client.packet([.ack, .psh], payload: payload)
      for fragment in fragments(packet, of: 512, identification: number) { world.give(fragment) }
      client.sequence &+= 1200
      sent += payload
      if number % 3 == 2 { world.turn() }
    }
    world.turn()
    #expect(world.sockets[slot]?.received == sent)
    let acknowledged = world.take().last?.tcp?.acknowledgment.rawValue
    #expect(acknowledged == client.sequence)
  }

  @Test("a segment in fragments that the target does not take yet outlives its turn")
  func keptSegment() throws {
    let world = World(rules: rules)
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 0
    let payload = (0..<4000).map { UInt8(truncatingIfNeeded: $0 &* 3) }
    let packet = client.packet([.ack, .psh], payload: payload)
    for fragment in fragments(packet, of: 512) { world.give(fragment) }
    client.sequence &+= 4000
    world.turn()
    // The memory of the first is used again.
    for number in 10..<14 {
      let other = udpPacket(payload: [UInt8](repeating: 0xEE, count: 4000))
      for fragment in fragments(other, of: 1024, identification: number) { world.send(fragment) }
    }
    world.sockets[slot]?.appetite = .max
    world.socketEvent(slot, writable: true)
    #expect(world.sockets[slot]?.received == payload)
  }

  @Test(
    "the whole packet's transport checksum is verified, whatever the device said of its fragments")
  func checksum() {
    let world = World(rules: rules)
    var packet = udpPacket(payload: [UInt8](repeating: 3, count: 3000))
    packet[100] ^= 1
    for fragment in fragments(packet, of: 1024) {
      world.send(fragment, virtio: VirtioNetHeader(flags: .dataIsValid))
    }
    #expect(world.stack.drops[.badTransportChecksum] == 1 && world.stack.drops.total == 1)
    expectEmpty(world)
  }

  @Test("fragments for an address of no rule are not kept; the first is refused like a datagram")
  func uncovered() throws {
    var dns = rules[1]
    dns.listen = [ListenPattern(addresses: .prefix(IPPrefix(virtual4, length: 128)), ports: .all)]
    for unmatched in [UnmatchedPolicy.reject, .drop] {
      let world = World(rules: [dns], unmatched: unmatched)
      let packet = udpPacket(
        to: address("10.77.0.99"), payload: [UInt8](repeating: 3, count: 3000))
      for fragment in fragments(packet, of: 1024) { world.send(fragment) }
      #expect(world.stack.drops[.notForUs] == 3 && world.stack.reassembly.waiting == 0)
      let replies = world.take()
      #expect(replies.count == (unmatched == .reject ? 1 : 0))
      #expect(replies.allSatisfy { $0.icmp?.type == 3 && $0.icmp?.code == 3 })
      expectEmpty(world)
    }
  }

  @Test(
    "what never becomes whole is counted; its sender is told if the first fragment came",
    arguments: [true, false])
  func timeExceeded(isIPv4: Bool) throws {
    let world = World(rules: rules)
    let (client, virtual) = addresses(isIPv4)
    let packet = udpPacket(from: client, to: virtual, payload: [UInt8](repeating: 3, count: 3000))
    let cut = fragments(packet, of: 1024)
    world.send(cut[0])
    for fragment in fragments(packet, of: 1024, identification: 8).dropFirst() {
      world.send(fragment)
    }
    world.advance(by: .seconds(isIPv4 ? 29 : 59))
    #expect(world.stack.drops.total == 0 && world.take().isEmpty)
    world.advance(by: .seconds(1))
    #expect(world.stack.drops[.fragmentTimeout] == 2 && world.stack.drops.total == 2)
    let replies = world.take()
    #expect(replies.count == 1)
    let error = try #require(replies.first?.icmp)
    #expect(error.type == (isIPv4 ? 11 : 3) && error.code == 1)
    #expect(error.quote == Array(cut[0].prefix(isIPv4 ? 548 : 1232)))
    #expect(world.stack.counters.icmpErrors == 1)
    expectEmpty(world)
  }

  @Test("a fragment in a fragment is refused and goes round no loop") func nested() {
    let world = World(rules: rules)
    let packet = udpPacket(
      from: client6, to: virtual6, payload: [UInt8](repeating: 3, count: 3000))
    for (number, inner) in fragments(packet, of: 1024).enumerated() {
      for fragment in fragments(inner, of: 256, identification: 99 + number) {
        world.send(fragment)
      }
    }
    #expect(world.stack.drops[.badFragment] == 3)
    #expect(world.stack.reassembly.completed == 0 && world.sockets.isEmpty)
    world.advance(by: .seconds(60))
    expectEmpty(world)
  }

  @Test("overlaps, duplicates and tiny first fragments are counted by their reasons")
  func reasons() {
    let world = World(rules: rules)
    let cut = fragments(udpPacket(payload: [UInt8](repeating: 3, count: 3000)), of: 1024)
    let finer = fragments(udpPacket(payload: [UInt8](repeating: 3, count: 3000)), of: 512)
    world.send(cut[0])
    world.send(cut[0])
    world.send(finer[1])
    let syn = tcpPacket(.syn, sequence: 1, payload: [1, 2])
    let segment = fragments(syn, of: 16, identification: 8)
    world.send(segment[0])
    #expect(world.stack.drops[.duplicateFragment] == 1)
    #expect(world.stack.drops[.fragmentOverlap] == 1)
    #expect(world.stack.drops[.tinyFragment] == 1)
    world.advance(by: .seconds(30))
    #expect(world.stack.drops.total == 3)
    expectEmpty(world)
  }
}
