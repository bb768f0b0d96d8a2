import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// What a turn takes first, and how much of it: the passes that workers make.

@Suite("A turn serves everybody, each within its part")
struct TurnTests {
  /// Clients with a wide window, each with its target's slot.
  private func connect(
    _ world: World, _ count: Int, from first: Int = 30_000
  ) throws -> [(client: Client, slot: UInt32)] {
    var options = TCPOptions()
    options.windowScale = 7
    return try (0..<count).map { number in
      let before = Set(world.sockets.keys)
      var client = Client(world, port: UInt16(first + number))
      _ = try client.connect(scaling: options)
      _ = world.take()
      return (client, try #require(Set(world.sockets.keys).subtracting(before).first))
    }
  }

  /// Has targets say so much each, and tells the worker of it.
  private func say(_ world: World, _ slots: [UInt32], octets: Int) {
    for slot in slots {
      world.sockets[slot]?.saying = [UInt8](repeating: 7, count: octets)
      world.stack.targetReady(
        slot, readable: true, writable: false, readToEnd: false, at: world.now)
    }
  }

  /// Octets that are left of what targets said.
  private func left(_ world: World, _ slots: [UInt32]) -> [Int] {
    slots.map { world.sockets[$0]?.saying.count ?? -1 }
  }

  /// SYNs to so many addresses, each of which is its own target.
  private func flood(_ world: World, _ addresses: Range<Int>) {
    for number in addresses {
      world.give(
        tcpPacket(
          to: IPAddress(v4: 0x0A4D_0100 + UInt32(number)), port: UInt16(50_000 + number), .syn,
          sequence: 1))
    }
  }

  private func originals() -> ForwardRule {
    ForwardRule(
      name: "web", listen: [ListenPattern(addresses: .any, ports: PortRange(80))],
      target: Target(host: .original, port: .same))
  }

  @Test("64 addresses are dialled in a turn, the longest waiting first, behind what runs")
  func dials() throws {
    let world = World(rules: [originals()], maxFlows: 1024)
    let (client, slot) = try #require(connect(world, 1).first)
    world.dials.removeAll()
    world.dialing = .hangs
    var served: (up: Int?, down: Int) = (nil, 0)
    world.beforeDial = {
      guard world.dials.isEmpty else { return }
      served = (world.sockets[slot]?.received.count, world.replies.count)
    }
    flood(world, 0..<50)
    say(world, [slot], octets: 5)
    world.give(client.packet([.ack, .psh], payload: Array("hello".utf8)))
    flood(world, 50..<100)
    world.turnOnce()
    #expect(world.dials.count == 64)
    #expect(served.up == 5)
    #expect(served.down > 0)
    #expect(world.take().contains { $0.payload.count == 5 })
    flood(world, 100..<110)
    world.turnOnce()
    #expect(world.dials.map(\.address) == (0..<110).map { IPAddress(v4: 0x0A4D_0100 + $0) })
    #expect(world.stack.requestCount == 0)
  }

  @Test("addresses that fail at once are counted: a turn dials no more for them")
  func failures() {
    var web = rule("web")
    web.target = Target(host: .name("api.example"), port: .fixed(443))
    let world = World(rules: [web]) { $0.budget.dials = 2 }
    world.stack.resolved("api.example", (1...3).map { IPAddress(v4: 0xCB00_7100 + $0) })
    world.dialing = .fails(.refused)
    world.give(tcpPacket(.syn, sequence: 1))
    world.turnOnce()
    #expect(world.dials.count == 2)
    #expect(world.take().isEmpty)
    world.turn()
    #expect(world.dials.count == 3)
    #expect(world.take().first?.tcp?.flags == [.rst, .ack])
    expectEmpty(world)
  }

  /// Two addresses, of which a turn dials one; both hang.
  private func hanging() -> World {
    var web = rule("web")
    web.target = Target(host: .name("api.example"), port: .fixed(443))
    web.connectTimeout = .seconds(10)
    let world = World(rules: [web]) { $0.budget.dials = 1 }
    world.stack.resolved("api.example", (1...2).map { IPAddress(v4: 0xCB00_7100 + $0) })
    world.dialing = .hangs
    return world
  }

  /// Packets of the clients that are waited for, then what is due, then one turn.
  private func turn(_ world: World, after interval: Interval, syns ports: Range<UInt16>) {
    world.now = world.now + interval
    for port in ports { world.give(tcpPacket(port: port, .syn, sequence: 1)) }
    world.stack.handleDeadlines(at: world.now)
    world.turnOnce()
  }

  @Test("a failed attempt's socket is closed though the next one waits: it cannot connect any more")
  func failedAttempt() throws {
    let world = hanging()
    world.give(tcpPacket(port: 40_000, .syn, sequence: 1))
    world.turnOnce()
    let slot = try #require(world.sockets.keys.first)
    turn(world, after: .seconds(5), syns: 41_000..<41_003)
    #expect(world.dials.count == 2)
    #expect(world.sockets[slot] == nil && world.stack.isDialing(slot))
    for _ in 0..<3 { world.turnOnce() }
    #expect(world.sockets[slot] != nil && world.dials.count == 5)
  }

  @Test("an attempt's time is counted from where it is dialled")
  func waitingAttempt() throws {
    let world = hanging()
    for port in UInt16(40_000)..<40_003 { world.give(tcpPacket(port: port, .syn, sequence: 1)) }
    world.turnOnce()
    // The third flow's turn comes late.
    world.now = world.now + .seconds(4)
    world.turnOnce()
    world.turnOnce()
    let late = world.now
    #expect(world.dials.count == 3)
    while let due = world.stack.nextDeadline(), due < late + .seconds(3) {
      turn(world, after: due - world.now, syns: 0..<0)
    }
    // The first had five seconds and dialled again; the others have three each, of the six that are left.
    #expect(world.dials.count == 4)
    #expect(world.stack.counters.dialsTimedOut == 1)
  }

  @Test("a session's socket is opened for the datagram of the same turn, whatever else is dialled")
  func sessions() throws {
    let world = World(rules: [rule("web"), rule("dns", .udp, ports: PortRange(53))]) {
      $0.budget.dials = 1
    }
    for port in UInt16(0)..<3 { world.give(tcpPacket(port: 40_000 + port, .syn, sequence: 1)) }
    for port in UInt16(0)..<3 { world.give(udpPacket(port: 40_000 + port, payload: [1])) }
    world.turnOnce()
    #expect(world.dials.map(\.transport) == [.udp, .udp, .udp, .tcp])
    #expect(world.sockets.values.count { $0.receivedDatagrams == [[1]] } == 3)
  }

  @Test("a flow reads no more than its part of a turn, and goes on in the next, unasked")
  func flowBudget() throws {
    let world = World(rules: [rule("web")]) { $0.budget.flowOctets = 53_600 }
    let slots = try connect(world, 2).map(\.slot)
    say(world, [slots[0]], octets: 120_000)
    say(world, [slots[1]], octets: 10)
    world.turnOnce()
    #expect(left(world, slots) == [66_400, 0])
    world.turnOnce()
    #expect(left(world, slots) == [12_800, 0])
    world.turnOnce()
    #expect(left(world, slots) == [0, 0])
    #expect(world.stack.requestCount == 0)
  }

  @Test("a part is whole frames, four times as many of a flow that is alone")
  func frames() throws {
    let world = World(rules: [rule("web")]) { $0.budget.flowOctets = 27_000 }
    let flows = try connect(world, 2)
    let slots = [flows[0].slot]
    world.now = world.now + .seconds(1)
    say(world, slots, octets: 300_000)
    world.turnOnce()
    // Segments of 536 octets; 108 000 are no more of them.
    #expect(left(world, slots) == [300_000 - 201 * 536])
    for flow in flows { world.give(flow.client.packet(.ack)) }
    world.turnOnce()
    #expect(left(world, slots) == [300_000 - 251 * 536])
  }

  @Test("a target that said little is given little room first, and more at once if it fills that")
  func firstRoom() throws {
    let world = World(rules: [rule("web")])
    let slots = try connect(world, 1).map(\.slot)
    func rooms(saying octets: Int) -> [Int] {
      world.rooms = []
      say(world, slots, octets: octets)
      world.turnOnce()
      return world.rooms
    }
    #expect(rooms(saying: 10) == [16_384])
    let filled = rooms(saying: 20_000)
    #expect(filled.count == 2 && filled[0] == 16_384 && filled[1] > 200_000)
    let much = rooms(saying: 20_000)
    #expect(much.count == 1 && much[0] > 200_000)
    let little = rooms(saying: 10)
    #expect(little.count == 1 && little[0] > 200_000)
    #expect(rooms(saying: 10) == [16_384])
  }

  @Test("a target is read again when acknowledgements make room, however much that is by then")
  func roomBesideOthers() throws {
    let world = World(rules: [rule("web")], bufferOctets: 64 << 20)
    var flows: [CloseClient] = []
    for port in UInt16(40_000)...40_001 { flows.append(try CloseClient(world, port: port)) }
    func kept(_ number: Int) -> Int { flows[number].kept }
    var talking: Set<UInt32> = []
    func say(_ number: Int) {
      talking.insert(flows[number].slot)
      world.sockets[flows[number].slot]?.saying = Array(repeating: 7, count: 5 << 20)
      world.socketEvent(flows[number].slot, readable: true)
    }
    func acknowledge(_ number: Int, _ octets: Int) {
      for slot in talking { world.sockets[slot]?.saying = Array(repeating: 7, count: 5 << 20) }
      flows[number].acknowledge(octets)
      for reply in world.take() {
        for other in flows.indices { flows[other].hear(reply) }
      }
    }
    func expectFull(_ number: Int, _ bound: Int, sourceLocation: SourceLocation = #_sourceLocation)
    {
      let kept = kept(number)
      #expect(
        kept > bound - 65_536 && kept <= bound, "\(kept)", sourceLocation: sourceLocation)
    }
    say(0)
    for _ in 0..<40 { acknowledge(0, .max) }
    expectFull(0, 2 << 20)
    // The other target says much, too: more is kept than there is room for from now on.
    say(1)
    for _ in 0..<12 { acknowledge(1, .max) }
    expectFull(1, 512 << 10)
    for _ in 0..<4 { acknowledge(0, kept(0) - (512 << 10) - 1) }
    #expect(kept(0) == 512 << 10 + 1)
    acknowledge(0, 100_001)
    expectFull(0, 512 << 10)
    // It falls silent. Nobody is woken to hear that there is more room: the next acknowledgement tells.
    talking.remove(flows[1].slot)
    world.sockets[flows[1].slot]?.saying = []
    world.now = world.now + .milliseconds(101)
    acknowledge(0, 1)
    expectFull(0, 4 << 20)
  }

  @Test("who was not read, since others read the turn's part, is the next turn's first")
  func turnBudget() throws {
    let world = World(rules: [rule("web")]) {
      $0.budget.flowOctets = 53_600
      $0.budget.octets = 60_000
    }
    let slots = try connect(world, 3).map(\.slot)
    say(world, slots, octets: 125_000)
    for expected in [
      [71_400, 71_400, 125_000], [17_800, 71_400, 71_400], [17_800, 17_800, 17_800], [0, 0, 0],
    ] {
      world.turnOnce()
      #expect(left(world, slots) == expected)
    }
    #expect(world.stack.requestCount == 0)
  }

  @Test("who is not read is written to and finished all the same")
  func unread() throws {
    let world = World(rules: [rule("web")]) {
      $0.budget.flowOctets = 53_600
      $0.budget.octets = 10_000
    }
    let flows = try connect(world, 2)
    say(world, flows.map(\.slot), octets: 60_000)
    world.give(flows[1].client.packet([.ack, .psh, .fin], payload: Array("bye".utf8)))
    world.turnOnce()
    #expect(left(world, flows.map(\.slot)) == [6_400, 60_000])
    let other = try #require(world.sockets[flows[1].slot])
    #expect(other.received == Array("bye".utf8) && other.finishReceived)
  }

  @Test("a session reads so many datagrams in a turn, and pays for each at least 1 KiB of its part")
  func sessionBudget() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))]) {
      $0.budget.sessionMessages = 4
      $0.budget.octets = 4 << 10
    }
    for port in UInt16(0)..<2 { world.send(udpPacket(port: 40_000 + port, payload: [1])) }
    let slots = world.sockets.keys.sorted()
    for slot in slots {
      world.sockets[slot]?.sayingDatagrams = [[UInt8]](repeating: [1, 2], count: 10)
      world.stack.targetReady(
        slot, readable: true, writable: false, readToEnd: false, at: world.now)
    }
    func left() -> [Int] { slots.map { world.sockets[$0]?.sayingDatagrams.count ?? -1 } }
    for expected in [[6, 10], [6, 6], [2, 6], [2, 2], [0, 0]] {
      world.turnOnce()
      #expect(left() == expected)
    }
    #expect(world.take().count == 20)
    #expect(world.stack.requestCount == 0)
  }

  @Test("a session reads so many octets in a turn, one receive more or less")
  func sessionOctets() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))]) {
      // Two datagrams: those of the first receive, since the device takes no runs.
      $0.budget.sessionOctets = 2000
    }
    world.send(udpPacket(payload: [1]))
    let slot = try #require(world.flow)
    world.sockets[slot]?.sayingDatagrams = [[UInt8]](
      repeating: [UInt8](repeating: 1, count: 1000), count: 3)
    world.stack.targetReady(
      slot, readable: true, writable: false, readToEnd: false, at: world.now)
    world.turnOnce()
    #expect(world.sockets[slot]?.sayingDatagrams.count == 1)
    world.turn()
    #expect(world.take().count == 3)
  }

  @Test("equal datagrams of a target go to a device that takes that as one frame")
  func runs() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))]) {
      $0.offloadsChecksum = true
      $0.offloadsDatagrams = true
    }
    world.send(udpPacket(payload: [1]))
    let slot = try #require(world.flow)
    world.sockets[slot]?.sayingDatagrams = [[1, 1], [2, 2], [3], [4], [5, 5]]
    world.socketEvent(slot, readable: true)
    #expect(world.take().map(\.payload) == [[1, 1, 2, 2, 3], [4], [5, 5]])
  }

  @Test("a target's socket that will not tell of room any more counts as broken")
  func untold() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 10
    world.sockets[slot]?.relief = 20
    world.sockets[slot]?.tellsOfRoom = false
    client.send([.ack, .psh], [UInt8](repeating: 5, count: 100))
    world.sockets[slot]?.resets = true
    world.advance(by: .milliseconds(199))
    #expect(world.ends == [.targetReset])
    #expect(world.take().last?.tcp?.flags.contains(.rst) == true)
  }
}
