import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// Packets that are wrong in every layer: each is counted by its reason, none does more.

@Suite("What a packet may not do: every discard is counted by its reason, nothing stops")
struct HostilePacketTests {
  private static func changed(_ packet: [UInt8], _ offset: Int, _ octet: UInt8) -> [UInt8] {
    var packet = packet
    packet[offset] = octet
    return packet
  }

  /// An IPv4 packet with its header checksum put right after a change.
  private static func rechecked(_ packet: [UInt8]) -> [UInt8] {
    var packet = packet
    packet[10] = 0
    packet[11] = 0
    var sum = 0
    for index in stride(from: 0, to: 20, by: 2) {
      sum += Int(packet[index]) << 8 | Int(packet[index + 1])
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    packet[10] = UInt8(~sum >> 8 & 255)
    packet[11] = UInt8(~sum & 255)
    return packet
  }

  struct Malformed: CustomTestStringConvertible {
    var reason: DropReason
    var packet: [UInt8]
    var virtio = VirtioNetHeader()
    var testDescription: String { reason.word }
  }

  static let packets: [Malformed] = {
    let syn = tcpPacket(.syn, sequence: 1)
    let datagram = udpPacket(payload: [1, 2, 3, 4])
    let v6 = udpPacket(from: client6, to: virtual6, payload: [1, 2])
    return [
      Malformed(reason: .truncatedHeader, packet: Array(syn.prefix(12))),
      Malformed(reason: .truncatedHeader, packet: Array(v6.prefix(39))),
      Malformed(reason: .badVersion, packet: changed(syn, 0, 0x55)),
      Malformed(reason: .badHeaderLength, packet: changed(syn, 0, 0x44)),
      Malformed(reason: .badTotalLength, packet: changed(syn, 3, 200)),
      Malformed(reason: .badTotalLength, packet: changed(v6, 5, 200)),
      Malformed(reason: .badHeaderChecksum, packet: changed(syn, 8, 1)),
      Malformed(reason: .badTransportChecksum, packet: changed(syn, 25, 99)),
      Malformed(reason: .badTransportChecksum, packet: changed(datagram, 29, 99)),
      Malformed(reason: .badHeaderLength, packet: changed(syn, 32, 0x40)),
      Malformed(reason: .badTCPFlags, packet: changed(syn, 33, 0x03)),
      Malformed(reason: .badTransportLength, packet: changed(datagram, 25, 3)),
      Malformed(reason: .zeroPort, packet: changed(changed(syn, 20, 0), 21, 0)),
      Malformed(reason: .tinyFragment, packet: rechecked(changed(changed(syn, 6, 0x20), 3, 28))),
      Malformed(
        reason: .badFragment, packet: rechecked(changed(changed(datagram, 6, 0x20), 3, 29))),
      Malformed(reason: .unsupportedProtocol, packet: rechecked(changed(syn, 9, 132))),
      Malformed(reason: .landAttack, packet: tcpPacket(from: virtual4, .syn, sequence: 1)),
      Malformed(
        reason: .martianSource, packet: tcpPacket(from: address("127.0.0.1"), .syn, sequence: 1)),
      Malformed(
        reason: .multicastDestination,
        packet: tcpPacket(to: address("224.0.0.1"), .syn, sequence: 1)),
      Malformed(
        reason: .martianDestination, packet: tcpPacket(to: address("127.0.0.1"), .syn, sequence: 1)
      ),
      Malformed(
        reason: .badOffloadHeader, packet: syn, virtio: VirtioNetHeader(gsoType: 99)),
      Malformed(reason: .badOffloadHeader, packet: syn, virtio: VirtioNetHeader(gsoType: 1)),
      Malformed(
        reason: .badOffloadHeader, packet: syn,
        virtio: VirtioNetHeader(flags: .needsChecksum, checksumStart: 24, checksumOffset: 16)),
      Malformed(
        reason: .badOffloadHeader, packet: syn,
        virtio: VirtioNetHeader(flags: .needsChecksum, checksumStart: 20, checksumOffset: 6)),
      Malformed(
        reason: .badOffloadHeader, packet: syn,
        virtio: VirtioNetHeader(flags: .dataIsValid, gsoType: 5, segmentOctets: 1000)),
      Malformed(
        reason: .badOffloadHeader, packet: syn,
        virtio: VirtioNetHeader(flags: .dataIsValid, gsoType: 4, segmentOctets: 1000)),
      Malformed(
        reason: .badOffloadHeader, packet: v6,
        virtio: VirtioNetHeader(flags: .dataIsValid, gsoType: 4, segmentOctets: 1000)),
      Malformed(
        reason: .badOffloadHeader, packet: echoPacket(body: [1]),
        virtio: VirtioNetHeader(gsoType: 1, segmentOctets: 8)),
      // Nobody vouches for the checksum of a super-packet, and it is that of its first segment.
      Malformed(
        reason: .badTransportChecksum, packet: changed(syn, 36, 9),
        virtio: VirtioNetHeader(gsoType: 1, segmentOctets: 1000)),
      Malformed(reason: .icmpBadChecksum, packet: changed(echoPacket(body: [1]), 25, 7)),
      Malformed(reason: .noRule, packet: tcpPacket(virtualPort: 99, .syn, sequence: 1)),
      Malformed(reason: .unknownFlow, packet: tcpPacket(.ack, sequence: 1)),
    ]
  }()

  @Test("a malformed packet is counted by its reason", arguments: packets)
  func counted(malformed: Malformed) {
    let world = World(rules: [rule("web"), rule("dns", .udp, ports: PortRange(53))])
    world.send(malformed.packet, virtio: malformed.virtio)
    #expect(world.stack.drops[malformed.reason] == 1)
    #expect(world.stack.drops.total == 1)
    expectEmpty(world)
  }

  /// An address that is no single host's, and what packets to it count as; from it they are martian.
  static let groups: [(address: String, destination: DropReason)] = [
    ("224.0.0.1", .multicastDestination), ("ff02::1", .multicastDestination),
    ("255.255.255.255", .multicastDestination), ("10.77.0.255", .multicastDestination),
    ("10.78.3.255", .multicastDestination), ("127.0.0.1", .martianDestination),
    ("::1", .martianDestination), ("0.0.0.0", .martianDestination),
    ("::", .martianDestination),
  ]

  private func subnetted() -> World {
    let world = World(rules: [rule("all", [.tcp, .udp], ports: .all)])
    let own = [
      ("10.77.0.1", 24), ("10.78.1.1", 22), ("10.79.0.0", 31), ("10.80.0.255", 32),
      ("fd77::1", 120),
    ]
    world.stack.setOwnPrefixes(
      [], addresses: own.map { InterfaceAddress(address: address($0.0), length: $0.1) })
    return world
  }

  @Test("nothing comes from a group of hosts or from nowhere, nor is for one", arguments: groups)
  func groupAddresses(group: (address: String, destination: DropReason)) {
    let world = subnetted()
    let address = address(group.address)
    let (client, virtual) = address.isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(tcpPacket(from: client, to: address, .syn, sequence: 1))
    world.send(udpPacket(from: client, to: address, payload: [1]))
    world.send(tcpPacket(from: client, to: address, .ack, sequence: 1))
    #expect(world.stack.drops[group.destination] == 3)
    world.send(tcpPacket(from: address, to: virtual, .syn, sequence: 1))
    world.send(udpPacket(from: address, to: virtual, payload: [1]))
    #expect(world.stack.drops[.martianSource] == 2)
    #expect(world.stack.drops.total == 5)
    #expect(world.take().isEmpty)
    #expect(world.dials.isEmpty)
    expectEmpty(world)
  }

  @Test(
    "only the device's own networks have broadcast addresses, and none of fewer than four addresses",
    arguments: [
      "10.77.4.255", "10.78.1.255", "10.79.0.1", "10.80.0.255", "fd77::ff", "10.77.0.0",
    ])
  func singleHosts(text: String) throws {
    for isSource in [false, true] {
      let world = subnetted()
      let address = address(text)
      let (client, virtual) = address.isIPv4 ? (client4, virtual4) : (client6, virtual6)
      world.send(
        tcpPacket(
          from: isSource ? address : client, to: isSource ? virtual : address, .syn, sequence: 1))
      #expect(world.take().last?.tcp?.flags == [.syn, .ack])
    }
  }

  @Test("frames of any octets, and any frame cut or changed anywhere, leave the stack alive")
  func anyOctets() throws {
    let world = World(rules: [rule("all", [.tcp, .udp], ports: .all)], maxFlows: 8)
    var random = SeededGenerator(seed: 0xF00D)
    let seeds = Self.packets.map(\.packet) + [tcpPacket(.ack, sequence: 2, payload: [1, 2, 3])]
    for _ in 0..<20_000 {
      var packet = seeds[Int(random.next() % UInt64(seeds.count))]
      for _ in 0..<Int(random.next() % 4) {
        packet[Int(random.next() % UInt64(packet.count))] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.next() % 8 == 0 { packet.removeLast(Int(random.next() % UInt64(packet.count))) }
      let kind: UInt8 = [0, 0, 1, 4, 5][Int(random.next() % 5)]
      world.send(
        packet,
        virtio: VirtioNetHeader(
          flags: random.next() % 2 == 0 ? .dataIsValid : [], gsoType: kind,
          segmentOctets: UInt16(truncatingIfNeeded: random.next() % 4)))
      if random.next() % 16 == 0 { world.advance(by: .seconds(3)) }
    }
    world.stack.endAll()
    world.turn()
    expectEmpty(world)
  }

  @Test("ICMP answers are rationed: a flood gets two hundred at once")
  func rationed() {
    let world = World(rules: [rule("web")])
    for _ in 0..<300 { world.send(udpPacket(virtualPort: 9, payload: [1])) }
    #expect(world.take().count == 200)
    #expect(world.stack.drops[.rateLimited] == 100)
  }

  @Test("a flood of SYNs costs a quarter of the flow table, and nothing once they are over")
  func synFlood() {
    let world = World(rules: [rule("web")], maxFlows: 8)
    world.dialing = .hangs
    for port in 1...100 as ClosedRange<UInt16> {
      world.send(tcpPacket(port: port, .syn, sequence: 1))
    }
    #expect(world.stack.flowCount == 2)
    #expect(world.stack.counters.cookiesSent == 98)
    #expect(world.stack.memory.chunks.count == 0)
    world.advance(by: .seconds(10))
    expectEmpty(world)
  }

  @Test("connections of the same listening port go on exchanging data in a flood (MUST-42)")
  func conversationsInAFlood() throws {
    let world = World(rules: [rule("web")], maxFlows: 64)
    var clients: [(client: Client, slot: UInt32)] = []
    for number in 0..<8 as Range<UInt16> {
      let before = Set(world.sockets.keys)
      var client = Client(world, port: 40_000 + number)
      try client.connect()
      clients.append((client, try #require(Set(world.sockets.keys).subtracting(before).first)))
    }
    world.dialing = .hangs
    var asked = Array(repeating: [UInt8](), count: clients.count)
    for round in 0..<20 as Range<UInt16> {
      for port in 0..<50 as Range<UInt16> {
        world.send(tcpPacket(port: 1000 + round * 50 + port, .syn, sequence: 1))
      }
      _ = world.take()
      for index in clients.indices {
        let slot = clients[index].slot
        let question = [UInt8](repeating: UInt8(index), count: 100 + Int(round))
        clients[index].client.send([.ack, .psh], question)
        asked[index] += question
        world.sockets[slot]?.saying = question.reversed() + [UInt8(round)]
        world.socketEvent(slot, readable: true)
        #expect(clients[index].client.receive().octets == question.reversed() + [UInt8(round)])
      }
    }
    #expect(world.stack.counters.cookiesSent == 1000 - 16)
    for (index, one) in clients.enumerated() {
      #expect(world.sockets[one.slot]?.received == asked[index])
    }
  }
}
