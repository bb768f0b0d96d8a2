import Configuration
import Primitives
import Stack
import Testing
import Wire

// TCP flows through the whole stack, from packet to socket request and back.

@Suite("TCP flows: what a client meets at a port")
struct TCPFlowTests {
  @Test("a SYN to a rule dials its target, and is answered when that is connected")
  func dialsFirst() throws {
    let world = World(rules: [rule("web")])
    world.dialing = .hangs
    var client = Client(world)
    client.send(.syn)
    #expect(world.dials.count == 1)
    #expect(world.dials.first?.address == address("203.0.113.5"))
    #expect(world.dials.first?.port == 8080)
    #expect(world.take().isEmpty)
    world.advance(by: .seconds(3))
    world.send(tcpPacket(.syn, sequence: 0xFFFF_FFF0))
    #expect(world.dials.count == 1)
    #expect(world.stack.drops[.duplicateSYN] == 1)
    let slot = try #require(world.flow)
    world.stack.dialed(slot, failure: nil, at: world.now)
    world.turn()
    let answer = try #require(world.take().first?.tcp)
    #expect(answer.flags == [.syn, .ack])
    #expect(answer.acknowledgment == SequenceNumber(0xFFFF_FFF1))
  }

  @Test("octets go both ways, both finish, and nothing is kept", arguments: [true, false])
  func wholeConversation(isIPv4: Bool) throws {
    let world = World(rules: [rule("web")])
    var client = Client(world, isIPv4: isIPv4)
    try client.connect()
    let slot = try #require(world.flow)
    client.send([.ack, .psh], Array("GET /".utf8))
    #expect(world.sockets[slot]?.received == Array("GET /".utf8))
    world.sockets[slot]?.saying = Array("hello".utf8)
    world.socketEvent(slot, readable: true)
    #expect(client.receive().octets == Array("hello".utf8))
    client.send([.ack, .fin])
    #expect(world.sockets[slot]?.finishReceived == true)
    #expect(world.sockets[slot]?.state == .open)
    world.sockets[slot]?.saying = Array("bye".utf8)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    let last = client.receive()
    #expect(last.octets == Array("bye".utf8))
    #expect(last.flags.contains(.fin))
    #expect(world.ended.first?.state == .closed)
    expectEmpty(world)
  }

  @Test("a flow whose target finishes first ends after TIME-WAIT, its socket before")
  func targetFinishesFirst() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(client.receive().flags.contains(.fin))
    client.send([.ack, .psh], Array("more".utf8))
    #expect(world.sockets[slot]?.received == Array("more".utf8))
    client.send([.ack, .fin])
    #expect(world.ended.first?.finishReceived == true)
    #expect(world.ended.first?.state == .closed)
    world.advance(by: .milliseconds(59_999))
    let deadline = world.stack.nextDeadline()
    #expect(deadline == world.now + .milliseconds(1))
    world.advance(by: .milliseconds(1))
    expectEmpty(world)
  }

  @Test("a refused dial answers the SYN with a reset")
  func refused() throws {
    let world = World(rules: [rule("web")])
    world.dialing = .fails(.refused)
    var client = Client(world)
    client.send(.syn)
    let replies = world.take()
    let reset = try #require(replies.first?.tcp)
    #expect(replies.count == 1)
    #expect(reset.flags == [.rst, .ack])
    #expect(reset.sequence == SequenceNumber(0))
    #expect(reset.acknowledgment == SequenceNumber(0xFFFF_FFF1))
    expectEmpty(world)
  }

  @Test(
    "unreachable targets are told by ICMP that quotes the SYN",
    arguments: [
      (TargetFailure.hostUnreachable, 1 as UInt8, 3 as UInt8), (.networkUnreachable, 0, 0),
      (.prohibited, 13, 1),
    ])
  func unreachable(failure: TargetFailure, code4: UInt8, code6: UInt8) throws {
    for isIPv4 in [true, false] {
      let world = World(rules: [rule("web")])
      world.dialing = .fails(failure)
      let client = Client(world, isIPv4: isIPv4)
      let syn = client.packet(.syn)
      world.send(syn)
      let replies = world.take()
      #expect(replies.count == 1)
      let error = try #require(replies.first?.icmp)
      #expect(error.type == (isIPv4 ? 3 : 1))
      #expect(error.code == (isIPv4 ? code4 : code6))
      #expect(error.quote == Array(syn.prefix(isIPv4 ? 28 : 48)))
      #expect(replies.first?.ip.source == (isIPv4 ? virtual4 : virtual6))
      expectEmpty(world)
    }
  }

  @Test("a dial without answer is silence until connect_timeout, then ICMP host unreachable")
  func dialTimeout() throws {
    let world = World(rules: [rule("web")])
    world.dialing = .hangs
    var client = Client(world)
    client.send(.syn)
    world.advance(by: .milliseconds(9_999))
    #expect(world.take().isEmpty)
    world.advance(by: .milliseconds(1))
    let error = try #require(world.take().first?.icmp)
    #expect(error.type == 3 && error.code == 1)
    #expect(world.stack.counters.dialsTimedOut == 1)
    #expect(world.ended.count == 1)
    expectEmpty(world)
  }

  @Test("without descriptors the SYN is dropped and counted: the client tries again")
  func exhausted() {
    let world = World(rules: [rule("web")])
    world.dialing = .fails(.exhausted)
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.take().isEmpty)
    #expect(world.stack.drops[.noSocket] == 1)
    expectEmpty(world)
  }

  @Test("a SYN-ACK without answer is sent again, and again, then the flow ends")
  func answerUnanswered() throws {
    let world = World(rules: [rule("web")])
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.take().count == 1)
    world.advance(by: .seconds(1))
    #expect(world.take().count == 1)
    world.advance(by: .seconds(2))
    #expect(world.take().count == 1)
    world.advance(by: .seconds(100))
    #expect(world.take().count == 3)
    #expect(world.ended.first?.state == .aborted)
    expectEmpty(world)
  }

  @Test("no rule: a reset, or silence where the policy says drop", arguments: [true, false])
  func noRule(reject: Bool) {
    let world = World(rules: [rule("web")], unmatched: reject ? .reject : .drop)
    world.send(tcpPacket(virtualPort: 81, .syn, sequence: 7))
    let replies = world.take()
    #expect(replies.count == (reject ? 1 : 0))
    if reject { #expect(replies.first?.tcp?.flags == [.rst, .ack]) }
    #expect(world.stack.drops[.noRule] + world.stack.drops[.notForUs] == 1)
    expectEmpty(world)
  }

  @Test("a segment of no flow is reset, a stray reset is not")
  func strangers() {
    let world = World(rules: [rule("web")])
    world.send(tcpPacket(.ack, sequence: 7, acknowledgment: 99))
    let reset = world.take().first?.tcp
    #expect(reset?.flags == .rst)
    #expect(reset?.sequence == SequenceNumber(99))
    world.send(tcpPacket(.rst, sequence: 7))
    #expect(world.take().isEmpty)
    #expect(world.stack.drops[.unknownFlow] == 2)
    #expect(world.stack.counters.refusals == 1)
  }

  @Test("the client's reset reaches the target as a reset")
  func clientResets() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    client.send([.ack, .psh], [1, 2, 3])
    client.send(.rst)
    #expect(world.ended.first?.state == .aborted)
    #expect(world.take().allSatisfy { $0.tcp?.flags.contains(.rst) == false })
    expectEmpty(world)
  }

  @Test("the target's reset reaches the client behind every octet that came before it")
  func targetResets() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    let said = (0..<30_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    world.sockets[slot]?.saying = said
    world.sockets[slot]?.resets = true
    world.socketEvent(slot, readable: true, hangup: true)
    var heard: [UInt8] = []
    var flags: TCPFlags = []
    for _ in 0..<100 where !flags.contains(.rst) {
      let (octets, seen) = client.receive()
      heard += octets
      flags.formUnion(seen)
    }
    #expect(heard == said)
    #expect(flags.contains(.rst))
    expectEmpty(world)
  }

  @Test("a slow target that has finished still gets the client's last octets")
  func slowTarget() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 10
    world.sockets[slot]?.finishes = true
    client.send([.ack, .psh], Array(repeating: 7, count: 50))
    client.send([.ack, .fin])
    world.socketEvent(slot, readable: true)
    #expect(client.receive().flags.contains(.fin))
    world.advance(by: .seconds(120))
    #expect(world.sockets[slot]?.received.count == 10)
    world.sockets[slot]?.appetite = .max
    world.socketEvent(slot, writable: true)
    #expect(world.ended.first?.received.count == 50)
    #expect(world.ended.first?.finishReceived == true)
    #expect(world.ended.first?.state == .closed)
    world.advance(by: .seconds(60))
    expectEmpty(world)
  }

  @Test("a flow that carries nothing is cut after idle_timeout, at both sides")
  func idle() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    world.advance(by: .seconds(400))
    client.send([.ack, .psh], [1])
    world.advance(by: .seconds(599))
    #expect(world.stack.flowCount == 1)
    _ = world.take()
    world.advance(by: .seconds(1))
    #expect(world.take().first?.tcp?.flags.contains(.rst) == true)
    #expect(world.ended.first?.state == .aborted)
    #expect(world.stack.counters.flowsExpired == 1)
    expectEmpty(world)
  }

  @Test("an idle flow wakes nobody before its bound")
  func idleMeansSleep() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    world.advance(by: .seconds(10))
    let next = world.stack.nextDeadline()
    let deadline = try #require(next)
    #expect(deadline - world.now >= .seconds(580))
  }

  @Test("a flow in TIME-WAIT does not count beside the one that takes its ports")
  func reincarnationAtTheBound() throws {
    let world = World(rules: [rule("web", maxConnections: 1)])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(client.receive().flags.contains(.fin))
    client.send([.ack, .fin])
    _ = world.take()
    #expect(world.stack.timeWaitCount == 1)
    client.sequence &+= 100_000
    client.send(.syn)
    #expect(world.take().last?.tcp?.flags == [.syn, .ack])
    #expect(world.stack.drops[.ruleFull] == 0)
    #expect(world.stack.timeWaitCount == 0)
  }

  @Test("a later SYN of the same ports takes over a flow in TIME-WAIT, in the same turn or not")
  func reincarnation() throws {
    for sameTurn in [false, true] {
      let world = World(rules: [rule("web")])
      var client = Client(world)
      try client.connect()
      let slot = try #require(world.flow)
      world.sockets[slot]?.finishes = true
      world.socketEvent(slot, readable: true, hangup: true)
      _ = client.receive()
      if sameTurn {
        world.give(client.packet([.ack, .fin]))
      } else {
        client.send([.ack, .fin])
      }
      client.sequence = 5_000
      world.send(client.packet(.syn))
      if sameTurn { world.send(client.packet(.syn)) }  // the client tries again
      let answer = world.take().compactMap(\.tcp).last
      #expect(answer?.flags == [.syn, .ack])
      #expect(answer?.acknowledgment == SequenceNumber(5_001))
      #expect(world.stack.flowCount == 1)
    }
  }

  @Test("max_connections drops the SYN; a place that comes free is given again")
  func maxConnections() throws {
    let world = World(rules: [rule("web", maxConnections: 1)])
    var first = Client(world, port: 1001)
    try first.connect()
    world.send(Client(world, port: 1002).packet(.syn))
    #expect(world.take().isEmpty)
    #expect(world.stack.drops[.ruleFull] == 1)
    first.send(.rst)
    var second = Client(world, port: 1002)
    try second.connect()
  }

  @Test("a rule's figures follow its flows")
  func figures() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    client.send([.ack, .psh], [1, 2, 3])
    #expect(world.stack.rules.figures(0).pointee.active == 1)
    #expect(world.stack.rules.figures(0).pointee.octetsUp == 3)
    client.send(.rst)
    #expect(world.stack.rules.figures(0).pointee.active == 0)
    #expect(world.stack.rules.figures(0).pointee.acceptedTotal == 1)
  }
}
