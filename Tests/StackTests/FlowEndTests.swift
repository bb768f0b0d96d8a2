import Configuration
import Primitives
import Stack
import Testing
import Wire

// What the owner is told of a flow's end, for its log: once for each flow, by the first cause.

@Suite("Flows' ends: each is told once, with the cause that was seen first")
struct FlowEndTests {
  private let dns = rule("dns", .udp, ports: PortRange(53), port: 5353)

  private func connected(_ rules: [ForwardRule] = [rule("web")]) throws -> (World, Client, UInt32) {
    let world = World(rules: rules)
    var client = Client(world)
    try client.connect()
    return (world, client, try #require(world.flow))
  }

  @Test("both sides finish, the client last: told when TIME-WAIT begins, and not again after it")
  func finishedIntoTimeWait() throws {
    var (world, client, slot) = try connected()
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    _ = client.receive()
    #expect(world.ends.isEmpty)
    client.send([.ack, .fin])
    #expect(world.ends == [.finished])
    world.advance(by: .seconds(60))
    expectEmpty(world)
    #expect(world.ends == [.finished])
  }

  @Test("both sides finish, the target last") func finished() throws {
    var (world, client, slot) = try connected()
    client.send([.ack, .fin])
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    _ = client.receive()
    expectEmpty(world)
    #expect(world.ends == [.finished])
  }

  @Test("the client resets, connected or not") func clientReset() throws {
    var (world, client, _) = try connected()
    client.send(.rst)
    world.dialing = .hangs
    var other = Client(world, port: 2)
    other.send(.syn)
    other.send(.rst)
    #expect(world.ends == [.clientReset, .clientReset])
  }

  @Test("the target resets: the cause stays although the client resets while it drains")
  func targetReset() throws {
    var (world, client, slot) = try connected()
    world.sockets[slot]?.saying = [1, 2, 3]
    world.sockets[slot]?.resets = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(world.ends.isEmpty)
    client.send(.rst)
    #expect(world.ends == [.targetReset])
  }

  @Test("a target that fell silent is lost, whether a read or a write says so")
  func targetLost() throws {
    for writes in [false, true] {
      let (world, _, slot) = try connected()
      if writes {
        world.sockets[slot]?.finishes = true
        world.stack.targetWriteFailed(slot, lost: true, at: world.now)
      } else {
        world.stack.targetFailed(slot, lost: true, at: world.now)
      }
      world.turn()
      #expect(world.ends == [.targetLost])
    }
  }

  @Test("a client that acknowledges nothing any more is lost") func clientLost() throws {
    var patient = rule("web")
    patient.idleTimeout = .seconds(86_400)
    let (world, _, slot) = try connected([patient])
    world.sockets[slot]?.saying = [1, 2, 3]
    world.socketEvent(slot, readable: true)
    world.advance(by: .seconds(3600))
    expectEmpty(world)
    #expect(world.ends == [.clientLost])
  }

  @Test("a flow, or a session, that carries nothing is idle") func idle() throws {
    let (world, _, _) = try connected([rule("web"), dns])
    world.send(udpPacket(payload: [1]))
    world.advance(by: .seconds(601))
    expectEmpty(world)
    #expect(world.ends == [.idle, .idle])
  }

  @Test("sessions that make room are evicted") func evicted() {
    let world = World(rules: [dns], maxFlows: 4)
    for port: UInt16 in 1...5 { world.send(udpPacket(port: port, payload: [1])) }
    #expect(world.ends == [.evicted, .evicted, .evicted])
  }

  @Test("a reload cuts, an end stops") func cut() throws {
    let (world, _, _) = try connected([rule("web", onReload: .reset)])
    world.install([rule("web", port: 9)])
    world.turn()
    #expect(world.ends == [.reloadCut])
    var next = Client(world, port: 2)
    try next.connect()
    world.stack.endAll()
    world.turn()
    #expect(world.ends == [.reloadCut, .stopped])
  }

  @Test(
    "a target that cannot be connected",
    arguments: zip(
      [TargetFailure.refused, .hostUnreachable, .networkUnreachable, .prohibited, .exhausted],
      [FlowEnd.refused, .unreachable, .unreachable, .prohibited, .noSocket]))
  func failures(failure: TargetFailure, end: FlowEnd) {
    let world = World(rules: [rule("web"), dns])
    world.dialing = .fails(failure)
    world.send(tcpPacket(.syn, sequence: 1))
    world.send(udpPacket(payload: [1]))
    #expect(world.ends == [end, end])
    #expect(end.isFailure)
    expectEmpty(world)
  }

  @Test("a target that does not answer in time, and one whose other address refused")
  func timedOut() {
    let world = World(rules: [rule("web")])
    world.dialing = .hangs
    world.send(tcpPacket(.syn, sequence: 1))
    world.advance(by: .seconds(10))
    #expect(world.ends == [.timedOut])
  }

  @Test("words are kebab case, and no two ends share one") func words() {
    let words = FlowEnd.allCases.map(\.word)
    #expect(Set(words).count == words.count)
    #expect(words.allSatisfy { $0.utf8.allSatisfy { ($0 >= 97 && $0 <= 122) || $0 == 45 } })
  }
}

@Suite("Clients that get no flow are told of, a bounded number for each turn")
struct TurnedAwayTests {
  private func takeWhy(_ world: World) -> [FlowEnd] {
    defer { world.stack.forgetTurnedAway() }
    return world.stack.turnedAway.map(\.why)
  }

  @Test("nobody listens: at a covered address, and at another one") func nobody() {
    var web = rule("web")
    web.listen = [ListenPattern(addresses: .prefix(IPPrefix(virtual4)), ports: PortRange(80))]
    let world = World(rules: [web])
    world.send(tcpPacket(virtualPort: 81, .syn, sequence: 1))
    world.send(udpPacket(to: address("10.77.0.99"), payload: [1]))
    #expect(world.stack.turnedAway.map(\.tuple.virtualPort) == [81, 53])
    #expect(world.stack.turnedAway.allSatisfy { $0.rule == nil })
    #expect(takeWhy(world) == [.noRule, .notForUs])
    world.send(tcpPacket(virtualPort: 81, .ack, sequence: 1))
    #expect(takeWhy(world).isEmpty)
  }

  @Test("a rule is full, a name has no address, the table is full") func rules() throws {
    var named = rule("named", ports: PortRange(81))
    named.target = Target(host: .name("api.example"), port: .fixed(443))
    let world = World(rules: [rule("web", maxConnections: 1), named], maxFlows: 1)
    world.send(tcpPacket(virtualPort: 81, .syn, sequence: 1))
    #expect(world.stack.turnedAway.first?.rule == 1)
    #expect(takeWhy(world) == [.noTarget])
    var client = Client(world)
    try client.connect()
    world.send(tcpPacket(port: 2, .syn, sequence: 1))
    #expect(takeWhy(world) == [.ruleFull])
    world.stack.resolved("api.example", [address("203.0.113.1")])
    world.send(tcpPacket(virtualPort: 81, .syn, sequence: 1))
    #expect(takeWhy(world) == [.flowTableFull])
  }

  @Test("what is beyond the bound is only counted") func bound() {
    let world = World(rules: [])
    for port: UInt16 in 1...20 { world.send(tcpPacket(virtualPort: port, .syn, sequence: 1)) }
    #expect(world.stack.turnedAway.count == 16)
    #expect(world.stack.turnedAwayUntold == 4)
    world.stack.forgetTurnedAway()
    #expect(world.stack.turnedAway.isEmpty && world.stack.turnedAwayUntold == 0)
  }
}
