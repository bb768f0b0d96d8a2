import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// ICMP errors through the whole stack: from the client's side, and to the client about its target.

@Suite("ICMP errors from the client's side (RFC 1191, RFC 5461, RFC 5927)")
struct ICMPErrorTests {
  private let web = rule("web")
  private let dns = rule("dns", .udp, ports: PortRange(53), port: 5353)
  private let octets = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

  /// A connection whose target has said so many octets, and what went out.
  private func download(
    _ count: Int, isIPv4: Bool = true
  ) throws -> (world: World, client: Client, sent: [Reply]) {
    let world = World(rules: [web])
    var client = Client(world, isIPv4: isIPv4)
    try client.connect(maximumSegmentSize: 1440)
    let slot = try #require(world.flow)
    world.sockets[slot]?.saying = Array(octets[..<count])
    world.socketEvent(slot, readable: true)
    return (world, client, world.take())
  }

  private func tooBig(_ quote: [UInt8], mtu: UInt32, isIPv4: Bool = true) -> [UInt8] {
    let router = address(isIPv4 ? "198.51.100.9" : "2001:db8:9::9")
    return icmpError(
      from: router, to: isIPv4 ? virtual4 : virtual6, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0,
      rest: mtu, quoting: Array(quote.prefix(68)))
  }

  @Test("a segment too big for the path comes again in smaller ones", arguments: [true, false])
  func segments(isIPv4: Bool) throws {
    var (world, client, sent) = try download(8_000, isIPv4: isIPv4)
    #expect(sent.count == 6 && sent.allSatisfy { $0.octets.count <= 1500 })
    world.send(tooBig(sent[0].octets, mtu: 1300, isIPv4: isIPv4))
    let again = world.take()
    #expect(again.count == 6 && again.allSatisfy { $0.octets.count <= 1300 })
    world.replies = again + [sent[5]]  // the last was small and has arrived
    let received = client.receive().octets
    let isWhole = received == Array(octets[..<8_000])
    #expect(isWhole)
    #expect(world.stack.drops.total == 0)
  }

  @Test("a router that does not name its MTU: the next lower plateau (RFC 1191 §5)")
  func plateau() throws {
    let (world, _, sent) = try download(8_000)
    world.send(tooBig(sent[0].octets, mtu: 0))
    #expect(world.take().map(\.octets.count).max() == 1006)
    #expect(world.stack.drops.total == 0)
  }

  @Test("errors that quote no flow, other octets, or come to another address, are not heard")
  func unmatched() throws {
    let (world, _, sent) = try download(1_440)
    let quote = sent[0].octets
    let stranger = tcpPacket(
      from: virtual4, to: client4, port: 80, virtualPort: 40_001, .ack, sequence: 0,
      payload: octets)
    world.send(tooBig(stranger, mtu: 1300))
    var moved = quote
    moved[24] ^= 0x10
    world.send(tooBig(moved, mtu: 1300))
    world.send(
      icmpError(to: address("10.77.0.11"), type: 3, code: 4, rest: 1300, quoting: quote))
    #expect(world.take().isEmpty)
    #expect(world.stack.drops[.icmpUnmatched] == 3)
    world.send(tooBig(quote, mtu: 1480))  // it would have passed
    #expect(world.stack.drops[.icmpBadMTU] == 1)
    world.send(tooBig(quote, mtu: 1300))
    #expect(world.take().count == 2)
  }

  @Test(
    "no unreachable ends a connection that stands (RFC 1122 §4.2.3.9)", arguments: [true, false])
  func softErrors(isIPv4: Bool) throws {
    let (world, _, sent) = try download(1_000, isIPv4: isIPv4)
    let (client, virtual) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    let kinds: [(UInt8, UInt8)] =
      isIPv4
      ? (0...15).filter { $0 != 4 }.map { (3, $0) } + [(11, 0), (11, 1), (12, 0)]
      : (0...6).map { (1, $0) } + [(3, 0), (3, 1), (4, 0), (4, 1)]
    for (type, code) in kinds {
      world.send(
        icmpError(from: client, to: virtual, type: type, code: code, quoting: sent[0].octets))
    }
    #expect(world.take().isEmpty)
    #expect(world.stack.flowCount == 1)
    #expect(world.stack.drops[.icmpIgnored] == UInt64(kinds.count))
  }

  @Test(
    "a hard error about the SYN-ACK ends the flow, a soft one does not", arguments: [true, false])
  func synReceived(isIPv4: Bool) throws {
    let world = World(rules: [web])
    let client = Client(world, isIPv4: isIPv4)
    world.send(client.packet(.syn))
    let answer = try #require(world.take().last)
    func unreachable(_ code: UInt8, _ quote: [UInt8]) {
      world.send(
        icmpError(
          from: isIPv4 ? client4 : client6, to: isIPv4 ? virtual4 : virtual6, type: isIPv4 ? 3 : 1,
          code: code, quoting: quote))
    }
    unreachable(isIPv4 ? 1 : 3, answer.octets)
    var other = answer.octets
    other[(isIPv4 ? 20 : 40) + 5] ^= 1  // not its sequence number
    unreachable(isIPv4 ? 3 : 4, other)
    #expect(world.stack.flowCount == 1)
    unreachable(isIPv4 ? 3 : 4, answer.octets)
    #expect(world.take().isEmpty)
    #expect(world.ended.map(\.state) == [.aborted])
    expectEmpty(world)
  }

  // MARK: UDP

  /// A session whose target has said one datagram.
  private func session(
    _ payload: [UInt8], isIPv4: Bool = true
  ) throws -> (world: World, slot: UInt32, sent: [Reply]) {
    let world = World(rules: [dns])
    let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(udpPacket(from: source, to: destination, payload: [1]))
    let slot = try #require(world.flow)
    world.sockets[slot]?.sayingDatagrams = [payload]
    world.socketEvent(slot, readable: true)
    return (world, slot, world.take())
  }

  @Test("port unreachable from the client ends its session", arguments: [true, false])
  func clientGone(isIPv4: Bool) throws {
    let (world, _, sent) = try session([7, 7], isIPv4: isIPv4)
    let (client, virtual) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(
      icmpError(
        from: client, to: virtual, type: isIPv4 ? 3 : 1, code: isIPv4 ? 1 : 3,
        quoting: sent[0].octets))
    #expect(world.stack.flowCount == 1)  // host unreachable may pass
    world.send(
      icmpError(
        from: client, to: virtual, type: isIPv4 ? 3 : 1, code: isIPv4 ? 3 : 4,
        quoting: sent[0].octets))
    #expect(world.ended.count == 1)
    expectEmpty(world)
  }

  @Test("a session to which nothing was sent is not ended") func neverAnswered() {
    let world = World(rules: [dns])
    world.send(udpPacket(payload: [1]))
    let forged = udpPacket(
      from: virtual4, to: client4, port: 53, virtualPort: 40_000, payload: [9])
    world.send(icmpError(type: 3, code: 3, quoting: forged))
    #expect(world.stack.flowCount == 1)
    #expect(world.stack.drops[.icmpUnmatched] == 1)
  }

  @Test(
    "a datagram too big for the path leaves in fragments, for ten minutes",
    arguments: [true, false])
  func fragments(isIPv4: Bool) throws {
    let payload = Array(octets[..<1_400])
    let (world, slot, sent) = try session(payload, isIPv4: isIPv4)
    #expect(sent.count == 1)
    func answer() -> [Reply] {
      world.send(
        udpPacket(
          from: isIPv4 ? client4 : client6, to: isIPv4 ? virtual4 : virtual6, payload: [1]))
      world.sockets[slot]?.sayingDatagrams = [payload]
      world.socketEvent(slot, readable: true)
      return world.take()
    }
    world.send(tooBig(sent[0].octets, mtu: isIPv4 ? 600 : 1000, isIPv4: isIPv4))
    if !isIPv4 {
      #expect(world.stack.drops[.icmpBadMTU] == 1)
      #expect(answer().count == 1)
      world.send(tooBig(sent[0].octets, mtu: 1280, isIPv4: false))
    }
    let pieces = answer()
    #expect(pieces.count == (isIPv4 ? 3 : 2))
    #expect(pieces.allSatisfy { $0.ip.isFragment && $0.octets.count <= (isIPv4 ? 600 : 1280) })
    // About fragments an error quotes the first.
    world.send(tooBig(pieces[0].octets, mtu: 560, isIPv4: isIPv4))
    #expect(answer().count == (isIPv4 ? 3 : 2))
    for _ in 0..<5 {
      world.advance(by: .seconds(119))
      #expect(answer().count == (isIPv4 ? 3 : 2))
    }
    world.advance(by: .seconds(5))
    #expect(answer().count == 1)
  }

  @Test("what no datagram was too big for is not heard") func badMTU() throws {
    let (world, _, sent) = try session(Array(octets[..<1_000]))
    for mtu in [1028, 1500, 65_535] as [UInt32] { world.send(tooBig(sent[0].octets, mtu: mtu)) }
    #expect(world.stack.drops[.icmpBadMTU] == 3)
  }
}

@Suite("The path to a target is narrow: told to the client")
struct NarrowTargetTests {
  private func dns(to target: String) -> ForwardRule {
    rule("dns", .udp, ports: PortRange(53), to: target, port: 5353)
  }

  @Test(
    "the MTU that the client is told allows the payload that would have passed",
    arguments: [
      (true, "203.0.113.5", 1400, 1400), (true, "2001:db8::5", 1400, 1380),
      (false, "203.0.113.5", 1400, 1420), (false, "2001:db8::5", 1400, 1400),
      (true, "203.0.113.5", 9000, 1500), (true, "203.0.113.5", 20, 68),
    ])
  func told(isIPv4: Bool, target: String, targetMTU: Int, clientMTU: Int) throws {
    let world = World(rules: [dns(to: target)])
    let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    let datagram = udpPacket(
      from: source, to: destination, payload: [UInt8](repeating: 5, count: 1_450))
    world.send(datagram)
    let slot = try #require(world.flow)
    world.stack.sessionFailed(slot, failure: .tooBig(mtu: targetMTU), at: world.now)
    world.turn()
    let reply = try #require(world.take().first)
    let error = try #require(reply.icmp)
    #expect((error.type, error.code) == (isIPv4 ? (3, 4) : (2, 0)))
    #expect(Int(reply.payload[6]) << 8 | Int(reply.payload[7]) == clientMTU)
    #expect(error.quote == Array(datagram.prefix(isIPv4 ? 28 : 48)))
    #expect(world.stack.flowCount == 1)
    world.send(datagram)
    #expect(world.sockets[slot]?.fragmentPermissions == 0)
  }

  @Test("a client that fragments is not told; its target's socket fragments too")
  func fragmentingClient() throws {
    let world = World(rules: [dns(to: "203.0.113.5")])
    var datagram = udpPacket(payload: [1, 2, 3])
    datagram[6] = 0  // no DF
    fixHeaderChecksum(&datagram)
    world.send(datagram)
    let slot = try #require(world.flow)
    world.stack.sessionFailed(slot, failure: .tooBig(mtu: 1000), at: world.now)
    world.turn()
    #expect(world.take().isEmpty)
    world.send(datagram)
    #expect(world.sockets[slot]?.fragmentPermissions == 1)
  }

  @Test("an IPv6 client is not told of less than 1280: the target's socket fragments")
  func belowIPv6() throws {
    let world = World(rules: [dns(to: "203.0.113.5")])
    let datagram = udpPacket(from: client6, to: virtual6, payload: [1])
    world.send(datagram)
    let slot = try #require(world.flow)
    world.stack.sessionFailed(slot, failure: .tooBig(mtu: 1200), at: world.now)
    world.turn()
    #expect(world.take().isEmpty)
    #expect(world.sockets[slot]?.fragmentPermissions == 0)
    world.send(datagram)
    #expect(world.sockets[slot]?.fragmentPermissions == 1)
  }
}

/// Makes an IPv4 header's checksum right again.
private func fixHeaderChecksum(_ packet: inout [UInt8]) {
  packet[10] = 0
  packet[11] = 0
  var sum = 0
  for offset in stride(from: 0, to: 20, by: 2) {
    sum += Int(packet[offset]) << 8 | Int(packet[offset + 1])
  }
  while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
  packet[10] = UInt8(~sum >> 8 & 0xff)
  packet[11] = UInt8(~sum & 0xff)
}
