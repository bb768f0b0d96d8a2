import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// What happens when much comes at once: protocols mixed in a turn, ends by the hundred, slow clients.

@Suite("Pressure")
struct PressureTests {
  @Test("datagrams beside an upload leave nothing set aside: the upload goes on for ever")
  func mixedTurns() throws {
    let world = World(
      rules: [rule("web"), rule("dns", .udp, ports: PortRange(53))], bufferOctets: 1 << 20)
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    let piece = [UInt8](repeating: 7, count: 1000)
    for _ in 0..<500 {
      world.give(client.packet([.ack, .psh], payload: piece))
      client.sequence &+= 1000
      world.give(udpPacket(payload: [1]))
      world.turn()
    }
    #expect(world.sockets[slot]?.received.count == 500_000)
    #expect(world.stack.drops[.memoryFull] == 0)
  }

  @Test("every client is reset when hundreds of flows are ended at once")
  func manyResets() throws {
    let world = World(rules: [rule("web")], maxFlows: 700)
    for number in 0..<600 {
      var client = Client(world, port: UInt16(20_000 + number))
      try client.connect()
    }
    _ = world.take()
    world.stack.endAll()
    world.turn()
    let resets = world.take().filter { $0.tcp?.flags.contains(.rst) == true }
    #expect(resets.count == 600)
    expectEmpty(world)
  }

  @Test("a target that finished and then died is heard: the client is reset")
  func deathAfterFinish() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(client.receive().flags.contains(.fin))
    client.acknowledgment &+= 1
    client.send(.ack)
    world.stack.targetReady(
      slot, readable: false, writable: true, readToEnd: true, dead: true, at: world.now)
    world.turn()
    #expect(client.receive().flags.contains(.rst))
    expectEmpty(world)
  }

  @Test("a client that takes what it is sent, however slowly, is not idle")
  func slowClient() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.saying = [UInt8](repeating: 1, count: 30_000)
    world.socketEvent(slot, readable: true)
    let start = client.acknowledgment
    for step in 1...8 {
      client.acknowledgment = start &+ UInt32(step * 1000)
      client.send(.ack)
      world.advance(by: .seconds(100))
    }
    #expect(world.flow == slot)
  }

  @Test("clients of a device that overflows are offered less, and as much as before in the end")
  func overflow() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    func offered() -> UInt16? {
      client.send([.ack, .psh], [1])
      world.advance(by: .milliseconds(40))
      return world.take().last?.tcp?.window
    }
    let before = offered()
    for _ in 0..<9 { world.stack.deviceOverflowed(at: world.now) }
    client.send([.ack, .psh], [UInt8](repeating: 7, count: 50_000))
    #expect(try #require(offered()) <= 16 * 1024)
    world.advance(by: .seconds(12))
    #expect(try #require(offered()) >= #require(before))
    #expect(world.stack.memory.windowCap.octets == .max)
  }

  @Test("near clients that send in bulk at once share a window; one that does alone has all of it")
  func share() throws {
    let world = World(rules: [rule("web")])
    var options = TCPOptions()
    options.windowScale = 7
    var clients = (0..<8).map { Client(world, port: UInt16(20_000 + $0)) }
    var scale = 0
    for index in clients.indices { scale = try clients[index].connect(scaling: options) }
    /// Every one of some clients sends so much; what they are offered then.
    func send(_ senders: Range<Int>, octets: Int) throws -> [Int] {
      try senders.map { index in
        clients[index].send([.ack, .psh], [UInt8](repeating: 7, count: octets))
        world.advance(by: .milliseconds(1))
        let window = try #require(world.take().last?.tcp?.window)
        return Int(window) << scale
      }
    }
    #expect(try send(0..<1, octets: 60_000)[0] > 900 << 10)
    // What was offered before goes first.
    for _ in 0..<20 { _ = try send(0..<8, octets: 60_000) }
    let shared = try send(0..<8, octets: 60_000)
    #expect(shared.allSatisfy { abs($0 - 120 << 10) < 1 << 10 }, "\(shared)")
    _ = try send(1..<2, octets: 1000)
    world.advance(by: .milliseconds(60))
    _ = try send(0..<1, octets: 60_000)
    world.advance(by: .milliseconds(60))
    #expect(try send(0..<1, octets: 60_000)[0] > 900 << 10)
  }

  @Test("a resting endpoint makes room while an older one is answered; no session goes for it")
  func restingYields() throws {
    let dns = rule("dns", .udp, ports: PortRange(53))
    let world = World(rules: [rule("web"), dns], maxFlows: 4)
    world.send(udpPacket(payload: [1]))
    var clients: [Client] = []
    for port in 0..<3 as Range<UInt16> {
      var client = Client(world, port: 20_000 + port)
      let known = Set(world.sockets.keys)
      try client.connect()
      let slot = try #require(world.sockets.keys.first { !known.contains($0) })
      world.sockets[slot]?.finishes = true
      world.socketEvent(slot, readable: true, hangup: true)
      _ = client.receive()
      client.send([.ack, .fin])
      clients.append(client)
    }
    #expect(world.stack.timeWaitCount == 3)
    // The oldest sends its FIN again, and in the same turn a SYN comes.
    world.give(clients[0].packet([.ack, .fin]))
    world.give(Client(world, port: 30_000).packet(.syn))
    world.turn()
    #expect(world.stack.timeWaitCount == 2)
    let views = world.stack.flowViews(limit: 8, at: world.now)
    #expect(views.contains { $0.tuple.transport == .udp })
    #expect(world.stack.drops[.flowTableFull] == 0)
  }

  @Test("sessions make room for sessions, and leave TIME-WAIT alone")
  func sessionsYieldToSessions() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))], maxFlows: 16)
    for port in 0..<40 { world.send(udpPacket(port: UInt16(30_000 + port), payload: [1])) }
    #expect(world.stack.flowCount == 8)
    #expect(world.stack.counters.flowsEvicted == 32)
  }
}
