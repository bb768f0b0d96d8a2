import Configuration
import Primitives
import Stack
import Testing
import Wire

// Which address a flow dials: a name's addresses in turn, the port by the pattern that was met, never
// the device itself.

@Suite("Dialling: a target's addresses are tried in turn until one connects")
struct DialingTests {
  private let addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map { address($0) }

  /// A world with a rule for each protocol, whose targets have the name of `addresses`.
  private func named() -> World {
    let rules = [rule("web"), rule("dns", .udp, ports: PortRange(53))].map { rule in
      var rule = rule
      rule.target = Target(host: .name("api.example"), port: .fixed(443))
      return rule
    }
    let world = World(rules: rules)
    world.stack.resolved("api.example", addresses)
    return world
  }

  @Test("an address that fails at once is followed by the next, within the turn")
  func immediateFailure() throws {
    let world = named()
    world.dialingAt[addresses[0]] = .fails(.networkUnreachable)
    world.dialingAt[addresses[1]] = .fails(.refused)
    var client = Client(world)
    try client.connect()
    #expect(world.dials.map(\.address) == addresses)
    #expect(world.dials.map(\.port) == [443, 443, 443])
    #expect(world.stack.counters.dialsFailed == 2)
    #expect(world.stack.rules.figures(0).pointee.refusedTotal == 0)
  }

  @Test("an address that fails later is followed by the next; its socket is closed first")
  func laterFailure() throws {
    let world = named()
    world.dialing = .hangs
    var client = Client(world)
    client.send(.syn)
    let slot = try #require(world.flow)
    world.stack.dialed(slot, failure: .refused, at: world.now)
    world.turn()
    #expect(world.dials.map(\.address) == Array(addresses.prefix(2)))
    #expect(world.ended.map(\.state) == [.closed])
    #expect(world.take().isEmpty)
    world.stack.dialed(slot, failure: nil, at: world.now)
    world.turn()
    #expect(world.take().first?.tcp?.flags == [.syn, .ack])
  }

  @Test("silent addresses share connect_timeout equally, and then the client is told")
  func silence() throws {
    let world = named()
    world.dialing = .hangs
    var client = Client(world)
    client.send(.syn)
    world.advance(by: .milliseconds(3_333))
    #expect(world.dials.count == 1)
    world.advance(by: .milliseconds(1))
    #expect(world.dials.count == 2)
    world.advance(by: .milliseconds(3_333))
    #expect(world.dials.count == 3)
    world.advance(by: .milliseconds(3_332))
    #expect(world.take().isEmpty)
    world.advance(by: .milliseconds(1))
    let error = try #require(world.take().first?.icmp)
    #expect(error.type == 3 && error.code == 1)
    #expect(world.stack.counters.dialsTimedOut == 3)
    #expect(world.ended.count == 3)
    expectEmpty(world)
  }

  @Test("an address that fails early leaves its share of connect_timeout to the others")
  func shareOfTheOthers() throws {
    let world = named()
    world.dialing = .hangs
    world.dialingAt[addresses[0]] = .fails(.refused)
    var client = Client(world)
    client.send(.syn)
    world.advance(by: .milliseconds(4_999))
    #expect(world.dials.count == 2)
    world.advance(by: .milliseconds(1))
    #expect(world.dials.count == 3)
  }

  @Test("a client is told of a refusal even if another address failed otherwise")
  func refusalFirst() {
    let world = named()
    world.dialing = .fails(.networkUnreachable)
    world.dialingAt[addresses[1]] = .fails(.refused)
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.dials.count == 3)
    #expect(world.take().map { $0.tcp?.flags } == [[.rst, .ack]])
    #expect(world.stack.rules.figures(0).pointee.refusedTotal == 1)
    expectEmpty(world)
  }

  @Test("without descriptors no other address is tried")
  func exhausted() {
    let world = named()
    world.dialing = .fails(.exhausted)
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.dials.count == 1)
    expectEmpty(world)
  }

  @Test("a client that resets while the next address is due has it dialled no more")
  func clientGone() throws {
    let world = named()
    world.dialing = .hangs
    var client = Client(world)
    client.send(.syn)
    let slot = try #require(world.flow)
    world.stack.dialed(slot, failure: .refused, at: world.now)
    world.stack.endAll()
    world.turn()
    #expect(world.dials.count == 1)
    expectEmpty(world)
  }

  @Test("a datagram goes to the first address that has a route; later errors change nothing")
  func datagrams() throws {
    let world = named()
    world.dialingAt[addresses[0]] = .fails(.networkUnreachable)
    world.send(udpPacket(payload: [1, 2]))
    #expect(world.dials.map(\.address) == Array(addresses.prefix(2)))
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.receivedDatagrams == [[1, 2]])
    world.stack.sessionFailed(slot, failure: .refused, at: world.now)
    world.turn()
    #expect(world.dials.count == 2)
    #expect(world.take().count == 1)
  }

  @Test("of a rule's overlapping patterns the most specific sets the shift")
  func shift() throws {
    var shifted = rule("web")
    shifted.listen = [
      ListenPattern(addresses: .any, ports: PortRange(first: 80, last: 89)),
      ListenPattern(
        addresses: .prefix(IPPrefix(virtual4)), ports: PortRange(first: 71, last: 80)),
      ListenPattern(
        addresses: .prefix(IPPrefix(virtual4)), ports: PortRange(first: 41, last: 140)),
    ]
    shifted.target.port = .shifted(first: 1000)
    let world = World(rules: [shifted])
    world.send(tcpPacket(.syn, sequence: 1))
    world.send(tcpPacket(to: address("10.77.0.11"), .syn, sequence: 1))
    world.send(tcpPacket(virtualPort: 85, .syn, sequence: 1))
    #expect(world.dials.map(\.port) == [1009, 1000, 1044])
  }
}

@Suite("Targets that lead back into the device")
struct OwnPrefixTests {
  private let routed = [IPPrefix("10.77.0.0/24"), IPPrefix("10.77.0.1"), IPPrefix("fd77::/64")]
    .compactMap(\.self)

  private func world(_ target: String) -> World {
    let world = World(rules: [rule("web", to: target), rule("dns", .udp, to: target)])
    world.stack.setOwnPrefixes(
      routed, addresses: [InterfaceAddress(address: address("10.77.0.1"), length: 24)])
    return world
  }

  @Test("they are refused for both protocols", arguments: ["10.77.0.200", "fd77::9"])
  func refused(target: String) {
    let world = world(target)
    world.send(tcpPacket(.syn, sequence: 1))
    #expect(world.take().last?.tcp?.flags == [.rst, .ack])
    world.send(udpPacket(virtualPort: 80, payload: [1]))
    #expect(world.take().last?.icmp?.type == 3)
    #expect(world.dials.isEmpty)
    expectEmpty(world)
  }

  @Test(
    "the device's own addresses and all others may be dialled",
    arguments: ["10.77.0.1", "10.78.0.1", "fd78::1"])
  func dialled(target: String) throws {
    let world = world(target)
    var client = Client(world)
    try client.connect()
    #expect(world.dials.map(\.address) == [address(target)])
  }

  @Test("a name's address among them is passed over")
  func passedOver() throws {
    var named = rule("web")
    named.target = Target(host: .name("api.example"), port: .fixed(443))
    let world = World(rules: [named])
    world.stack.setOwnPrefixes(routed, addresses: [])
    world.stack.resolved("api.example", [address("10.77.0.1"), address("203.0.113.1")])
    var client = Client(world)
    try client.connect()
    #expect(world.dials.map(\.address) == [address("203.0.113.1")])
  }

  @Test("a reload may take them away")
  func replaced() throws {
    let world = world("10.77.0.200")
    world.stack.setOwnPrefixes([], addresses: [])
    var client = Client(world)
    try client.connect()
    #expect(world.dials.count == 1)
  }
}
