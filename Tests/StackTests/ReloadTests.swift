import Configuration
import Primitives
import Stack
import Testing
import Wire

// Rules that change under running flows: who keeps what, and when old rules go.

@Suite("Reload: rules are followed by name, flows keep the rule that they met")
struct ReloadTests {
  private func install(_ rules: [ForwardRule], in world: World) {
    world.install(rules)
    world.turn()
  }

  private func slots(_ world: World) -> [String?] {
    world.stack.rules.entries.map { $0?.rule.name }
  }

  @Test("a rule that stays keeps its slot, its figures and its flows, however often")
  func unchanged() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    for line in 1...5 {
      var same = rule("web")
      same.line = line
      install([rule("other", ports: PortRange(99)), same], in: world)
    }
    #expect(slots(world) == ["web", "other"])
    #expect(world.stack.rules.figures(0).pointee.active == 1)
    #expect(world.take().isEmpty)
    client.send([.ack, .psh], [1, 2])
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.received == [1, 2])
  }

  @Test("a removed rule takes nobody in, keeps its flows, and goes with the last one")
  func removed() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    install([rule("new", ports: PortRange(99))], in: world)
    #expect(slots(world) == ["web", "new"])
    #expect(world.stack.rules.entries.first??.retired == true)
    client.send([.ack, .psh], [1, 2])
    #expect(world.sockets.values.first?.received == [1, 2])
    world.send(Client(world, port: 1).packet(.syn))
    #expect(world.take().last?.tcp?.flags == [.rst, .ack])
    client.send(.rst)
    #expect(slots(world) == [nil, "new"])
    install([rule("new", ports: PortRange(99)), rule("third")], in: world)
    #expect(slots(world) == ["third", "new"])
  }

  @Test("a changed rule leads new flows to its new target, old ones stay where they are")
  func changed() throws {
    let world = World(rules: [rule("web")])
    var old = Client(world, port: 1)
    try old.connect()
    install([rule("web", port: 9090)], in: world)
    var new = Client(world, port: 2)
    try new.connect()
    #expect(world.dials.map(\.port) == [8080, 9090])
    #expect(world.stack.flowCount == 2)
    old.send([.ack, .psh], [1])
    #expect(world.sockets.values.contains { $0.received == [1] })
  }

  @Test("drain cuts what is left after drain_timeout, reset at once")
  func policies() throws {
    let world = World(rules: [rule("web", onReload: .drain)])
    var client = Client(world)
    try client.connect()
    install([], in: world)
    world.advance(by: .milliseconds(29_999))
    #expect(world.stack.flowCount == 1)
    world.advance(by: .milliseconds(1))
    world.turn()
    #expect(world.take().last?.tcp?.flags.contains(.rst) == true)
    #expect(world.ended.first?.state == .aborted)
    expectEmpty(world)

    install([rule("web", onReload: .reset)], in: world)
    var second = Client(world, port: 2)
    try second.connect()
    install([], in: world)
    #expect(world.take().last?.tcp?.flags.contains(.rst) == true)
    expectEmpty(world)
    #expect(slots(world).allSatisfy { $0 == nil })
  }

  @Test("a rule whose host name has no address refuses; its next answer opens it")
  func names() throws {
    var named = rule("web")
    named.target = Target(host: .name("api.example"), port: .fixed(443))
    let world = World(rules: [named])
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.take().last?.tcp?.flags == [.rst, .ack])
    world.stack.resolved("api.example", [address("203.0.113.9"), address("203.0.113.10")])
    var client = Client(world)
    try client.connect()
    #expect(world.dials.map(\.address) == [address("203.0.113.9")])
  }

  @Test("as many rules as a file may have are replaced by as many others; none is left out")
  func manyRules() throws {
    func rules(_ generation: Int) -> [ForwardRule] {
      (0..<Configuration.forwardCountMax).map { number in
        rule("\(generation).\(number)", ports: PortRange(UInt16(number + 1)))
      }
    }
    let world = World(rules: rules(0))
    let count = Configuration.forwardCountMax
    var client = Client(world)
    try client.connect()
    install(rules(1), in: world)
    #expect(world.stack.rules.entries.count == count + 1)
    #expect(world.stack.rules.entries.filter { $0?.retired == true }.count == 1)
    world.send(tcpPacket(virtualPort: UInt16(count), .syn, sequence: 1))
    #expect(world.dials.count == 2)
    client.send(.rst)
    install(rules(2), in: world)
    #expect(world.stack.rules.entries.count == count + 1)
    #expect(world.stack.rules.entries.filter { $0?.retired == false }.count == count)
  }

  @Test("a slot that a retired rule leaves is not cut again when another rule has it")
  func slotUsedAgain() throws {
    let world = World(rules: [rule("web", onReload: .drain)])
    var first = Client(world, port: 1)
    try first.connect()
    install([], in: world)
    first.send(.rst)
    install([rule("new")], in: world)
    #expect(slots(world) == ["new"])
    var second = Client(world, port: 2)
    try second.connect()
    world.advance(by: .seconds(60))
    #expect(world.stack.flowCount == 1)
    #expect(world.stack.nextDeadline() != nil)
  }

  @Test("the end of the daemon resets both sides of every flow")
  func endAll() throws {
    let world = World(rules: [rule("web"), rule("dns", .udp, ports: PortRange(53))])
    var client = Client(world)
    try client.connect()
    world.send(udpPacket(payload: [1]))
    world.stack.endAll()
    world.turn()
    #expect(world.take().contains { $0.tcp?.flags.contains(.rst) == true })
    expectEmpty(world)
  }
}
