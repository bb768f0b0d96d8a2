import Configuration
import Primitives
import Stack
import Testing
import Wire

// UDP sessions and ICMP through the whole stack.

@Suite("UDP sessions, and ICMP about them")
struct UDPSessionTests {
  private let dns = rule("dns", .udp, ports: PortRange(53), port: 5353)

  @Test(
    "a datagram makes a session; answers come from the virtual address", arguments: [true, false])
  func session(isIPv4: Bool) throws {
    let world = World(rules: [dns])
    let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(udpPacket(from: source, to: destination, payload: [1, 2, 3]))
    #expect(world.dials.first?.transport == .udp)
    #expect(world.dials.first?.port == 5353)
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.receivedDatagrams == [[1, 2, 3]])
    world.sockets[slot]?.sayingDatagrams = [[9, 8], []]
    world.socketEvent(slot, readable: true)
    let replies = world.take()
    #expect(replies.map(\.payload) == [[9, 8], []])
    #expect(replies.first?.ip.source == destination)
    #expect(replies.first?.udp?.sourcePort == 53)
    #expect(replies.first?.udp?.destinationPort == 40_000)
    world.send(udpPacket(from: source, to: destination, payload: []))
    #expect(world.dials.count == 1)
    #expect(world.sockets[slot]?.receivedDatagrams == [[1, 2, 3], []])
  }

  @Test(
    "a session that was never answered ends after a quarter of udp_timeout, others after all of it")
  func expiry() throws {
    let world = World(rules: [dns])
    world.send(udpPacket(payload: [1]))
    world.advance(by: .milliseconds(44_999))
    #expect(world.stack.flowCount == 1)
    world.advance(by: .milliseconds(1))
    expectEmpty(world)

    world.send(udpPacket(payload: [1]))
    let slot = try #require(world.flow)
    world.sockets[slot]?.sayingDatagrams = [[2]]
    world.socketEvent(slot, readable: true)
    world.advance(by: .seconds(179))
    #expect(world.stack.flowCount == 1)
    world.send(udpPacket(payload: [1]))
    world.advance(by: .seconds(179))
    #expect(world.stack.flowCount == 1)
    world.advance(by: .seconds(1))
    expectEmpty(world)
    #expect(world.stack.counters.flowsExpired == 2)
  }

  @Test("a refusal by the target is told as port unreachable that quotes the latest datagram")
  func refused() throws {
    for isIPv4 in [true, false] {
      let world = World(rules: [dns])
      let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
      world.send(udpPacket(from: source, to: destination, payload: [1]))
      let slot = try #require(world.flow)
      let latest = udpPacket(from: source, to: destination, payload: [1, 2, 3, 4])
      world.send(latest)
      _ = world.take()
      world.stack.sessionFailed(slot, failure: .refused, at: world.now)
      world.turn()
      let error = try #require(world.take().first?.icmp)
      #expect(error.type == (isIPv4 ? 3 : 1))
      #expect(error.code == (isIPv4 ? 3 : 4))
      #expect(error.quote == Array(latest.prefix(isIPv4 ? 28 : 48)))
      #expect(world.stack.flowCount == 1)
    }
  }

  @Test("a session without a socket is told and forgotten")
  func dialFails() throws {
    let world = World(rules: [dns])
    world.dialing = .fails(.networkUnreachable)
    world.send(udpPacket(payload: [1]))
    #expect(world.take().first?.icmp?.code == 0)
    expectEmpty(world)
  }

  @Test("no rule: port unreachable that quotes the whole datagram, or silence")
  func noRule() throws {
    for reject in [true, false] {
      let world = World(rules: [dns], unmatched: reject ? .reject : .drop)
      let datagram = udpPacket(virtualPort: 54, payload: [1, 2, 3])
      world.send(datagram)
      let replies = world.take()
      #expect(replies.count == (reject ? 1 : 0))
      if reject {
        let error = try #require(replies.first?.icmp)
        #expect(error.type == 3 && error.code == 3)
        #expect(error.quote == datagram)
      }
      expectEmpty(world)
    }
  }

  @Test("a super-packet is cut into its datagrams, the last one shorter")
  func superPacket() throws {
    let world = World(rules: [dns])
    let payload = (0..<2500).map { UInt8(truncatingIfNeeded: $0) }
    world.send(
      udpPacket(payload: payload),
      virtio: VirtioNetHeader(
        flags: .dataIsValid, gsoType: VirtioNetHeader.Segmentation.udp.rawValue, headerOctets: 28,
        segmentOctets: 1000))
    let slot = try #require(world.flow)
    #expect(
      world.sockets[slot]?.receivedDatagrams
        == [Array(payload[..<1000]), Array(payload[1000..<2000]), Array(payload[2000...])])
  }

  @Test("a super-packet of more datagrams than a socket takes at once is queued in parts")
  func longSuperPacket() throws {
    let world = World(rules: [dns])
    let payload = (0..<200).map { UInt8($0) }
    world.give(
      udpPacket(payload: payload),
      virtio: VirtioNetHeader(
        flags: .dataIsValid, gsoType: VirtioNetHeader.Segmentation.udp.rawValue, headerOctets: 28,
        segmentOctets: 2))
    let slot = world.stack.request(at: 0)
    var parts: [Int] = []
    while let (slice, segmentOctets) = world.stack.nextDatagrams(slot) {
      #expect(segmentOctets == 2)
      parts.append(slice.octets)
    }
    #expect(parts == [128, 72])
  }

  @Test("a super-packet that there is no room for is counted datagram by datagram")
  func fullMemory() {
    let world = World(rules: [dns])
    func give(_ payload: [UInt8], segment: UInt16) {
      world.give(
        udpPacket(payload: payload),
        virtio: VirtioNetHeader(
          flags: .dataIsValid, gsoType: VirtioNetHeader.Segmentation.udp.rawValue, headerOctets: 28,
          segmentOctets: segment))
    }
    var packets = 0
    while world.stack.drops[.memoryFull] == 0, packets < 100_000 {
      give([1], segment: 2)
      packets += 1
    }
    #expect(world.stack.drops[.memoryFull] == 1)
    give([1, 2, 3, 4, 5], segment: 2)
    #expect(world.stack.drops[.memoryFull] == 4)
  }

  @Test("where the kernel refused a run, datagrams of its length or more go one by one")
  func refusedRun() throws {
    let world = World(rules: [dns])
    let payload = (0..<230).map { UInt8($0) }
    func send(segment: Int) {
      world.send(
        udpPacket(payload: payload),
        virtio: VirtioNetHeader(
          flags: .dataIsValid, gsoType: VirtioNetHeader.Segmentation.udp.rawValue, headerOctets: 28,
          segmentOctets: UInt16(segment)))
    }
    func cut(_ segment: Int) -> [[UInt8]] {
      stride(from: 0, to: payload.count, by: segment).map {
        Array(payload[$0..<min($0 + segment, payload.count)])
      }
    }
    send(segment: 100)
    let slot = try #require(world.flow)
    world.stack.runWasRefused(slot, segmentOctets: 100, at: world.now)
    send(segment: 100)
    send(segment: 101)
    send(segment: 99)
    #expect(world.sockets[slot]?.receivedRuns == [3, 1, 1, 1, 1, 1, 1, 3])
    #expect(world.sockets[slot]?.receivedDatagrams == cut(100) + cut(100) + cut(101) + cut(99))
  }

  @Test("where the kernel knows no runs, every session's datagrams go one by one")
  func noRuns() throws {
    let world = World(rules: [dns])
    world.stack.forgoTargetRuns()
    for port: UInt16 in [1, 2] {
      world.send(
        udpPacket(port: port, payload: [1, 2, 3, 4, 5]),
        virtio: VirtioNetHeader(
          flags: .dataIsValid, gsoType: VirtioNetHeader.Segmentation.udp.rawValue, headerOctets: 28,
          segmentOctets: 2))
    }
    #expect(world.sockets.count == 2)
    for socket in world.sockets.values {
      #expect(socket.receivedRuns == [1, 1, 1])
      #expect(socket.receivedDatagrams == [[1, 2], [3, 4], [5]])
    }
  }

  @Test("a run that the target sent goes to the client as one packet, where the device takes that")
  func runs() throws {
    for (takes, mtu) in [(true, 1500), (true, 1027), (false, 1500)] {
      let world = World(rules: [dns], mtu: mtu) { settings in
        settings.offloadsChecksum = takes
        settings.offloadsDatagrams = takes
      }
      world.send(udpPacket(payload: [1]))
      let slot = try #require(world.flow)
      #expect(
        world.stack.joinsDatagrams(slot, DatagramRun(1000), at: world.now)
          == (takes && mtu == 1500))
      guard takes, mtu == 1500 else { continue }
      var octets = [UInt8](repeating: 7, count: 2400)
      octets.withUnsafeMutableBytes { memory in
        let slices = [
          Slice(memory.baseAddress, 2000), Slice(memory.baseAddress.map { $0 + 2000 }, 400),
        ]
        var run = DatagramRun(2000, segmentOctets: 1000)
        #expect(run.join(DatagramRun(400)) == true)
        let isDone = slices.withUnsafeBufferPointer {
          world.stack.downloaded(slot, run: run, $0, at: world.now)
        }
        #expect(isDone)
        #expect(world.stack.frames.count == 1)
        let frame = world.stack.frames.slices(of: 0)
        #expect(frame.map(\.octets) == [10 + 20 + 8, 2000, 400])
        let header = UnsafeRawBufferPointer(start: frame[0].base, count: frame[0].octets)
        let virtio = try? VirtioNetHeader(parsing: header.bytes)
        #expect(virtio?.segmentation == .udp && virtio?.segmentOctets == 1000)
        #expect(virtio?.flags.contains(.needsChecksum) == true)
        world.stack.frames.removeAll()
      }
      #expect(world.stack.joinsDatagrams(slot, DatagramRun(1473), at: world.now) == false)
      // As long as IPv6 lets it be, and longer than an IPv4 packet: datagram by datagram.
      let long = DatagramRun(65_520, segmentOctets: 1456)
      #expect(world.stack.joinsDatagrams(slot, long, at: world.now) == false)
      world.stack.disableOffloads()
      #expect(world.stack.joinsDatagrams(slot, DatagramRun(1000), at: world.now) == false)
    }
  }

  @Test(
    "a datagram larger than the MTU leaves in fragments that make it up", arguments: [true, false])
  func fragments(isIPv4: Bool) throws {
    let world = World(rules: [dns])
    let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(udpPacket(from: source, to: destination, payload: [1]))
    let slot = try #require(world.flow)
    let said = (0..<5000).map { UInt8(truncatingIfNeeded: $0 * 3) }
    world.sockets[slot]?.sayingDatagrams = [said, said]
    world.socketEvent(slot, readable: true)
    let replies = world.take()
    #expect(replies.count == 8)
    #expect(replies.allSatisfy { $0.octets.count <= 1500 && $0.ip.isFragment })
    let first = replies.prefix(4)
    #expect(Set(first.map(\.ip.identification)).count == 1)
    #expect(replies[0].ip.identification != replies[4].ip.identification)
    var datagram: [UInt8] = []
    for piece in first {
      #expect(piece.ip.fragmentOffset == datagram.count)
      datagram += piece.octets[piece.ip.headerOctets...]
    }
    #expect(first.last?.ip.moreFragments == false)
    #expect(Array(datagram.dropFirst(8)) == said)
    var whole = try #require(replies.first).ip
    whole.moreFragments = false
    whole.headerOctets = 0
    whole.totalOctets = datagram.count
    let isValid = transportChecksumIsValid(whole, segment: datagram.span.bytes)
    #expect(isValid)
  }

  @Test("a full table makes room by its oldest session; conversations stay")
  func eviction() throws {
    let world = World(rules: [dns, rule("web")], maxFlows: 4)
    var client = Client(world)
    try client.connect()
    for port in 1...2 as ClosedRange<UInt16> { world.send(udpPacket(port: port, payload: [1])) }
    world.send(udpPacket(port: 1, payload: [1]))  // 1 is younger now
    world.send(udpPacket(port: 3, payload: [1]))
    #expect(world.stack.counters.flowsEvicted == 1)
    let views = world.stack.flowViews(limit: 16, at: world.now)
    #expect(Set(views.map(\.tuple.clientPort)) == [40_000, 1, 3])
  }

  @Test("a full table drops a SYN and counts it; a session gives way for the next try")
  func fullTable() throws {
    let world = World(rules: [dns, rule("web")], maxFlows: 2)
    world.send(udpPacket(port: 1, payload: [1]))
    var first = Client(world, port: 1001)
    try first.connect()
    world.send(Client(world, port: 1002).packet(.syn))
    #expect(world.take().isEmpty)
    #expect(world.stack.drops[.flowTableFull] == 1)
    var second = Client(world, port: 1002)
    try second.connect()
    world.send(Client(world, port: 1003).packet(.syn))
    #expect(world.stack.drops[.flowTableFull] == 2)
    #expect(world.stack.flowCount == 2)
  }

  @Test(
    "an echo request to a covered address is answered, elsewhere not", arguments: [true, false])
  func echo(isIPv4: Bool) throws {
    let world = World(rules: [dns])
    let (source, destination) = isIPv4 ? (client4, virtual4) : (client6, virtual6)
    world.send(echoPacket(from: source, to: destination, body: [5, 6, 7]))
    let reply = try #require(world.take().first)
    #expect(reply.payload.first == (isIPv4 ? 0 : 129))
    #expect(Array(reply.payload.dropFirst(8)) == [5, 6, 7])
    #expect(reply.ip.source == destination && reply.ip.destination == source)
    #expect(world.stack.counters.echoReplies == 1)

    var narrow = dns
    narrow.listen = [
      ListenPattern(
        addresses: .prefix(IPPrefix(address("10.9.9.9"), length: 128)), ports: PortRange(53))
    ]
    let elsewhere = World(rules: [narrow])
    elsewhere.send(echoPacket(from: source, to: destination, body: [5]))
    #expect(elsewhere.take().isEmpty)
    #expect(elsewhere.stack.drops[.notForUs] == 1)
  }
}
