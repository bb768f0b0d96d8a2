import Configuration
import Primitives
import Stack
import Testing
import Wire

// Flows whose client says nothing: keep-alive, half-closed flows, answers that never come.

private func webRule() -> ForwardRule { rule("web") }

@Suite("Silent flows: asked after, bounded, counted") struct SilentFlowTests {
  private func rule(keepalive: Interval?) -> ForwardRule {
    var rule = webRule()
    rule.keepalive = keepalive
    return rule
  }

  @Test("without keepalive a silent client is not asked; idle_timeout ends the flow")
  func off() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    #expect(world.stack.keepalive(slot) == .zero)
    world.advance(by: .seconds(599))
    #expect(world.take().isEmpty)
    world.advance(by: .seconds(1))
    #expect(world.stack.counters.flowsExpired == 1)
    expectEmpty(world)
  }

  @Test("with it a client that is gone is cut, its target reset, and both counted once")
  func gone() throws {
    let world = World(rules: [rule(keepalive: .seconds(75))])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    #expect(world.stack.keepalive(slot) == .seconds(75))
    world.advance(by: .seconds(75))
    let question = try #require(world.take().last?.tcp)
    #expect(question.flags == .ack)
    #expect(question.sequence.rawValue == client.acknowledgment &- 1)
    #expect(question.acknowledgment.rawValue == client.sequence)
    world.advance(by: .seconds(15 * 9 - 1))
    #expect(world.take().count == 8)
    #expect(world.stack.flowCount == 1)
    world.advance(by: .seconds(1))
    #expect(world.stack.counters.flowsGone == 1)
    #expect(world.stack.counters.flowsExpired == 0)
    #expect(world.ended.first?.state == .aborted)
    expectEmpty(world)
  }

  @Test("answers keep the flow, but do not count as data for idle_timeout")
  func answered() throws {
    let world = World(rules: [rule(keepalive: .seconds(75))])
    var client = Client(world)
    try client.connect()
    var asked = 0
    for _ in 0..<599 {
      world.advance(by: .seconds(1))
      guard !world.take().isEmpty else { continue }
      asked += 1
      client.send(.ack)
    }
    #expect(asked == 7)
    #expect(world.stack.flowCount == 1)
    world.advance(by: .seconds(1))
    #expect(world.stack.counters.flowsExpired == 1)
    #expect(world.stack.counters.flowsGone == 0)
    expectEmpty(world)
  }

  @Test("a window that widens and narrows moves no data, and keeps no flow")
  func wobblingWindow() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    for minute in 0..<9 {
      world.advance(by: .seconds(60))
      world.send(client.packet(.ack, window: minute % 2 == 0 ? 1_000 : 20_000))
    }
    world.advance(by: .seconds(59))
    #expect(world.stack.flowCount == 1)
    world.advance(by: .seconds(1))
    #expect(world.stack.counters.flowsExpired == 1)
    expectEmpty(world)
  }

  @Test("a client that never acknowledges data is counted as gone")
  func unanswered() throws {
    var patient = rule(keepalive: nil)
    patient.idleTimeout = .seconds(100_000)
    let world = World(rules: [patient])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.saying = [1, 2, 3]
    world.socketEvent(slot, readable: true)
    world.advance(by: .seconds(3600))
    #expect(world.stack.counters.flowsGone == 1)
    #expect(world.ended.first?.state == .aborted)
    expectEmpty(world)
  }

  @Test("FIN-WAIT-2 lives as long as the client's data moves, and idle_timeout bounds it")
  func targetFinished() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(client.receive().flags.contains(.fin))
    for _ in 0..<20 {
      world.advance(by: .seconds(599))
      client.send([.ack, .psh], [7])
    }
    #expect(world.sockets[slot]?.received.count == 20)
    world.advance(by: .seconds(599))
    #expect(world.stack.flowCount == 1)
    _ = world.take()
    world.advance(by: .seconds(1))
    #expect(world.take().last?.tcp?.flags.contains(.rst) == true)
    #expect(world.stack.counters.flowsExpired == 1)
    expectEmpty(world)
  }

  @Test("CLOSE-WAIT lives as long as the target's data moves, and idle_timeout bounds it")
  func clientFinished() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    client.send([.ack, .fin])
    _ = world.take()
    for _ in 0..<20 {
      world.advance(by: .seconds(599))
      world.sockets[slot]?.saying = [9]
      world.socketEvent(slot, readable: true)
      #expect(client.receive().octets == [9])
    }
    world.advance(by: .seconds(599))
    #expect(world.stack.flowCount == 1)
    _ = world.take()
    world.advance(by: .seconds(1))
    #expect(world.take().last?.tcp?.flags.contains(.rst) == true)
    #expect(world.stack.counters.flowsExpired == 1)
    expectEmpty(world)
  }

  @Test("a reset in TIME-WAIT leaves the slot resting until its time")
  func resetInTimeWait() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    _ = client.receive()
    client.send([.ack, .fin])
    client.send(.rst)
    #expect(world.stack.timeWaitCount == 1)
    #expect(world.stack.drops[.resetInTimeWait] == 1)
    world.advance(by: .seconds(60))
    #expect(world.stack.timeWaitCount == 0)
    expectEmpty(world)
  }

  @Test("octets that a client marks urgent reach the target in their place")
  func urgent() throws {
    let world = World(rules: [rule(keepalive: nil)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    client.send([.ack, .psh], Array("ab".utf8))
    client.send([.ack, .psh, .urg], Array("c".utf8))
    client.send([.ack, .psh], Array("de".utf8))
    #expect(world.sockets[slot]?.received == Array("abcde".utf8))
  }
}
