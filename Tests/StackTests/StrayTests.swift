// Several stacks: what comes to the wrong one goes to the right one, and never any further.

import Configuration
import Primitives
import Stack
import Steering
import TCP
import TestSupport
import Testing
import Wire

@Suite("Packets of other workers") struct StrayTests {
  private let steering = Steering(workers: 4, seed: (1, 2), homes: .ofProcess())
  private let rules = [rule("web"), rule("dns", .udp, ports: PortRange(53))]

  private func world(_ number: Int, rules: RuleSet? = nil) -> World {
    let world = World(rules: self.rules, maxFlows: 64) { settings in
      settings.steering = steering
      settings.worker = number
    }
    if let rules { world.install(rules) }
    return world
  }

  private func part(port: UInt16, virtualPort: UInt16 = 80, isIPv4: Bool = true) -> Int {
    steering.part(
      of: FiveTuple(
        client: isIPv4 ? client4 : client6, virtual: isIPv4 ? virtual4 : virtual6,
        clientPort: port, virtualPort: virtualPort, transport: .tcp))
  }

  /// A client's port whose part is a worker's, and of which nothing lives.
  private func port(
    on worker: Int, virtualPort: UInt16 = 80, isIPv4: Bool = true
  ) throws -> UInt16 {
    func part(_ port: UInt16) -> Int {
      self.part(port: port, virtualPort: virtualPort, isIPv4: isIPv4)
    }
    let free = try #require((UInt16(40_000)..<41_000).first { steering.homes[part($0)] == nil })
    #expect(steering.homes.take(part(free), for: worker) == worker)
    return free
  }

  @Test("a connection begins on its home only, wherever its packets come", arguments: 0..<4)
  func connects(number: Int) throws {
    let here = world(number)
    for other in 0..<4 {
      let port = try port(on: other)
      let syn = tcpPacket(port: port, .syn, sequence: 1)
      here.send(syn)
      if other == number {
        #expect(here.takeStrays().isEmpty)
        #expect(here.take().map(\.tcp?.flags) == [[.syn, .ack]])
        continue
      }
      let stray = try #require(here.takeStrays().first)
      #expect(stray.worker == other && Array(stray.frame[10...]) == syn && !stray.wasFragmented)
      #expect(here.take().isEmpty)
      let there = world(other)
      there.takeOver(stray)
      #expect(there.takeStrays().isEmpty)
      #expect(there.take().map(\.tcp?.flags) == [[.syn, .ack]])
      #expect(there.stack.flowCount == 1)
    }
    #expect(here.stack.flowCount == 1)
    #expect(here.stack.counters.handedOver == 3)
    #expect(here.stack.drops.total == 0)
  }

  @Test("fragments meet where their addresses lead, the datagram goes on to its ports' home")
  func fragmented() throws {
    let meeting = steering.worker(of: client4, virtual4)
    let elsewhere = (meeting + 1) % 4
    let final = (meeting + 2) % 4
    let payload = (0..<4000).map { UInt8(truncatingIfNeeded: $0) }
    let port = try port(on: final, virtualPort: 53)
    var packet = udpPacket(port: port, payload: payload)
    packet[6] |= 0x40  // DF, which a fragmented datagram does not keep
    let first = world(elsewhere)
    for fragment in fragments(packet, of: 1480) { first.send(fragment) }
    let strays = first.takeStrays()
    #expect(strays.count == 3 && strays.allSatisfy { $0.worker == meeting })
    let second = world(meeting)
    for stray in strays { second.takeOver(stray) }
    let whole = second.takeStrays()
    #expect(whole.map(\.worker) == [final] && whole.allSatisfy(\.wasFragmented))
    #expect(second.stack.flowCount == 0)
    let third = world(final)
    third.takeOver(try #require(whole.first))
    let slot = try #require(third.flow)
    #expect(third.sockets[slot]?.receivedDatagrams == [payload])
    #expect(third.sockets[slot]?.fragmentPermissions == 1)
    for each in [first, second, third] { #expect(each.stack.drops.total == 0) }
  }

  @Test("an ICMP error goes where the flow lives that it quotes", arguments: [true, false])
  func errors(isIPv4: Bool) throws {
    let there = world(1)
    let port = try port(on: 1, isIPv4: isIPv4)
    var client = Client(there, port: port, isIPv4: isIPv4)
    try client.connect(maximumSegmentSize: 1440)
    there.sockets[try #require(there.flow)]?.saying = [UInt8](repeating: 7, count: 3000)
    there.socketEvent(try #require(there.flow), readable: true)
    let sent = try #require(there.take().first)
    let here = world(0)
    here.send(
      icmpError(
        from: isIPv4 ? client4 : client6, to: isIPv4 ? virtual4 : virtual6, type: isIPv4 ? 3 : 2,
        code: isIPv4 ? 4 : 0, rest: 1300, quoting: Array(sent.octets.prefix(68))))
    let stray = try #require(here.takeStrays().first)
    #expect(stray.worker == 1)
    #expect(here.stack.drops.total == 0)
    there.takeOver(stray)
    let again = there.take()
    #expect(!again.isEmpty && again.allSatisfy { $0.octets.count <= 1300 })
  }

  @Test("a ping is answered wherever it comes", arguments: 0..<4)
  func echoes(number: Int) {
    let here = world(number)
    here.send(echoPacket(body: [1, 2, 3, 4]))
    #expect(here.takeStrays().isEmpty)
    #expect(here.take().count == 1)
  }

  @Test("what is malformed is counted where it comes, and goes nowhere") func malformed() throws {
    let here = world(0)
    var packet = tcpPacket(port: try port(on: 1), .syn, sequence: 1)
    packet[packet.count - 1] ^= 1
    here.send(packet)
    #expect(here.takeStrays().isEmpty)
    #expect(here.stack.drops[.badTransportChecksum] == 1)
  }

  @Test("a turn's strays are bounded, and what is beyond is counted") func bounded() throws {
    let here = world(0)
    let packet = tcpPacket(port: try port(on: 1), .syn, sequence: 1)
    for _ in 0..<520 { here.give(packet) }
    #expect(here.takeStrays().count == 512)
    #expect(here.stack.drops[.handOverFull] == 8)
    here.give(packet)
    #expect(here.takeStrays().count == 1)
  }

  @Test("no two workers' fragments have the same identification, begun with the same seed")
  func identifiesFragments() throws {
    var seen: [UInt16: Int] = [:]
    for number in 0..<4 {
      let here = world(number)
      here.send(udpPacket(port: try port(on: number, virtualPort: 53), payload: [1]))
      let slot = try #require(here.flow)
      for _ in 0..<50 {
        here.sockets[slot]?.sayingDatagrams = [[UInt8](repeating: 1, count: 2000)]
        here.socketEvent(slot, readable: true)
        let identifications = here.take().map {
          UInt16($0.octets[4]) << 8 | UInt16($0.octets[5])
        }
        #expect(identifications.count == 2 && Set(identifications).count == 1)
        for each in identifications {
          #expect(seen.updateValue(number, forKey: each) ?? number == number)
        }
      }
    }
    #expect(seen.count == 200)
  }

  // MARK: Homes that move

  @Test("what has no home stays where it comes, until the last flow of its part has ended")
  func staysWhereItBegan() throws {
    let both = RuleSet([rule("web"), rule("also", .udp)])
    let (first, second) = (world(0, rules: both), world(1, rules: both))
    let port: UInt16 = 40_000
    let part = part(port: port)
    #expect(steering.homes[part] == nil)
    var client = Client(second, port: port)
    try client.connect()
    #expect(steering.homes[part] == 1)
    // Another of the same part, UDP for once, keeps it when the first has gone.
    second.send(udpPacket(port: port, virtualPort: 80, payload: [1]))
    client.send(.rst)
    #expect(second.stack.flowCount == 1)
    #expect(steering.homes[part] == 1)
    first.send(tcpPacket(port: port, .syn, sequence: 1))
    #expect(first.takeStrays().map(\.worker) == [1])
    second.advance(by: .seconds(3600))
    #expect(second.stack.flowCount == 0)
    #expect(steering.homes[part] == nil)
    first.send(tcpPacket(port: port, .syn, sequence: 1))
    #expect(first.takeStrays().isEmpty)
    #expect(steering.homes[part] == 0)
  }

  @Test("what begins no flow leaves no home", arguments: [true, false])
  func leavesNothing(isTCP: Bool) throws {
    let here = world(2)
    for virtualPort: UInt16 in [80, 81] {
      let port = UInt16(40_000)
      here.send(
        isTCP
          ? tcpPacket(
            port: port, virtualPort: virtualPort, virtualPort == 80 ? .ack : .syn, sequence: 1)
          : udpPacket(port: port, virtualPort: 81, payload: [1]))
      #expect(here.take().count == 1)
      #expect(steering.homes[part(port: port, virtualPort: virtualPort)] == nil)
    }
    #expect(here.stack.flowCount == 0)
  }

  @Test("a stray whose home has moved on its way goes after it, and none begins a flow twice")
  func followsHome() throws {
    let worlds = (0..<3).map { world($0) }
    let port = try port(on: 1)
    let part = part(port: port)
    worlds[0].send(tcpPacket(port: port, .syn, sequence: 1))
    let stray = try #require(worlds[0].takeStrays().first)
    #expect(stray.worker == 1)
    steering.homes.leave(part, of: 1)
    #expect(steering.homes.take(part, for: 2) == 2)
    worlds[1].takeOver(stray)
    let again = try #require(worlds[1].takeStrays().first)
    #expect(again.worker == 2 && worlds[1].stack.flowCount == 0)
    worlds[2].takeOver(again)
    #expect(worlds[2].takeStrays().isEmpty && worlds[2].stack.flowCount == 1)
    #expect(worlds[2].take().map(\.tcp?.flags) == [[.syn, .ack]])
  }

  @Test("what the kernel dealt for a packet that got no further comes back in the same turn")
  func leavesWhatIsMalformed() throws {
    let here = world(2)
    var client = Client(here, port: try port(on: 2))
    try client.connect()
    var packet = tcpPacket(port: try port(on: 2), .syn, sequence: 1)
    packet[packet.count - 1] ^= 1
    #expect(steering.homes.load(of: 2) == 2)
    here.send(packet)
    #expect(here.stack.drops[.badTransportChecksum] == 1)
    #expect(steering.homes.load(of: 2) == 1)
    // Lost on the way to us.
    _ = try port(on: 2)
    here.stack.deviceOverflowed(at: here.now)
    here.turn()
    #expect(steering.homes.load(of: 2) == 1)
    #expect(here.stack.flowCount == 1)
  }

  @Test("what the kernel dealt for a packet that is lost unseen comes back in some turns")
  func findsWhatWasLost() throws {
    let here = world(2)
    var client = Client(here, port: try port(on: 2))
    try client.connect()
    let lost = try port(on: 2, virtualPort: 81)
    #expect(steering.homes.load(of: 2) == 2)
    for _ in 0..<Homes.partCount / Stack.partsOfTurn { here.turn() }
    #expect(steering.homes.load(of: 2) == 1)
    #expect(steering.homes[part(port: lost, virtualPort: 81)] == nil)
    #expect(here.stack.flowCount == 1)
  }

  @Test("an endpoint that rests is no load, and keeps its part until it has rested")
  func restsWithoutLoad() throws {
    let here = world(1)
    let port = try port(on: 1)
    let part = part(port: port)
    var client = Client(here, port: port)
    try client.connect()
    #expect(steering.homes.load(of: 1) == 1)
    here.sockets[try #require(here.flow)]?.finishes = true
    here.socketEvent(try #require(here.flow), readable: true)
    _ = client.receive()
    client.send([.fin, .ack])
    #expect(here.stack.timeWaitCount == 1)
    #expect(steering.homes.load(of: 1) == 0 && steering.homes[part] == 1)
    _ = here.take()
    #expect(here.stack.faultOfParts() == nil)
    // The next connection of the same ports, then its end: one that rests gave way to it, though
    // something came for it in the same turn.
    var again = client
    again.sequence &-= 1
    here.give(again.packet([.fin, .ack]))
    here.send(tcpPacket(port: port, .syn, sequence: 0x4000_0000))
    #expect(here.stack.faultOfParts() == nil)
    #expect(here.take().map(\.tcp?.flags).last == [.syn, .ack])
    #expect(here.stack.timeWaitCount == 0)
    #expect(steering.homes.load(of: 1) == 1 && steering.homes[part] == 1)
    here.send(tcpPacket(port: port, .rst, sequence: 0x4000_0001))
    #expect(here.stack.flowCount == 0)
    #expect(steering.homes.load(of: 1) == 0 && steering.homes[part] == nil)
    #expect(here.stack.faultOfParts() == nil)
  }

  @Test("a flow table that is full of what rests makes room, and keeps the part of what comes")
  func evictsWithinPart() throws {
    let here = World(rules: rules, maxFlows: 1) { settings in
      settings.steering = steering
      settings.worker = 1
    }
    let port = try port(on: 1)
    var client = Client(here, port: port)
    try client.connect()
    here.sockets[try #require(here.flow)]?.finishes = true
    here.socketEvent(try #require(here.flow), readable: true)
    _ = client.receive()
    client.send([.fin, .ack])
    #expect(here.stack.timeWaitCount == 1)
    _ = here.take()
    // Of the same part, which goes with its last flow.
    let other = try #require(
      (UInt16(1024)..<65_000).first { $0 != port && part(port: $0) == part(port: port) })
    here.send(tcpPacket(port: other, .syn, sequence: 7))
    #expect(here.take().map(\.tcp?.flags) == [[.syn, .ack]])
    #expect(here.stack.timeWaitCount == 0 && here.stack.flowCount == 1)
    #expect(steering.homes[part(port: other)] == 1)
    #expect(here.stack.faultOfParts() == nil)
    // A live one stays, and who finds no room leaves nothing.
    let third = try self.port(on: 1)
    here.send(tcpPacket(port: third, .syn, sequence: 7))
    #expect(here.stack.flowCount == 1)
    #expect(steering.homes[part(port: third)] == nil)
    #expect(here.stack.faultOfParts() == nil)
  }

  @Test("a cookie of one worker may come back to another") func sharesCookies() throws {
    let (first, second) = (world(0), world(1))
    // Until the flood's SYNs are answered by cookies, each holds a flow.
    var ports = Array((UInt16(40_000)..<40_400).reversed())
    var answered: UInt16?
    while answered == nil, let port = ports.popLast() {
      first.send(tcpPacket(port: port, .syn, sequence: 1))
      if first.stack.counters.cookiesSent > 0 { answered = port }
    }
    let port = try #require(answered)
    let cookie = try #require(first.take().last?.tcp)
    #expect(cookie.flags == [.syn, .ack])
    #expect(steering.homes[part(port: port)] == nil)
    second.send(
      tcpPacket(port: port, .ack, sequence: 2, acknowledgment: cookie.sequence.rawValue &+ 1))
    #expect(second.takeStrays().isEmpty)
    #expect(second.stack.counters.cookiesAccepted == 1)
    #expect(steering.homes[part(port: port)] == 1)
  }

  // MARK: Bounds of all together

  @Test("max_connections counts the flows of all workers, but none that rests in TIME-WAIT")
  func sharesBound() throws {
    let bounded = RuleSet([rule("web", maxConnections: 1)], isShared: true)
    let count = try #require(bounded.rules[0].count)
    let (first, second) = (world(0, rules: bounded), world(1, rules: bounded))
    var client = Client(first, port: try port(on: 0))
    try client.connect()
    let syn = tcpPacket(port: try port(on: 1), .syn, sequence: 1)
    second.send(syn)
    #expect(second.take().isEmpty)
    #expect(second.stack.drops[.ruleFull] == 1)
    #expect(count.value == 1)
    first.sockets[try #require(first.flow)]?.finishes = true
    first.socketEvent(try #require(first.flow), readable: true)
    _ = client.receive()
    client.send([.fin, .ack])
    #expect(first.stack.timeWaitCount == 1)
    #expect(count.value == 0)
    second.send(syn)
    #expect(second.take().map(\.tcp?.flags) == [[.syn, .ack]])
    #expect(count.value == 1)
    first.advance(by: .seconds(61))
    #expect(first.stack.timeWaitCount == 0)
    #expect(count.value == 1)
  }

  @Test("a rule that a reload leaves as it is keeps its count; a changed one begins anew")
  func keepsCount() throws {
    let here = world(0, rules: RuleSet([rule("web", maxConnections: 1)], isShared: true))
    here.send(tcpPacket(port: try port(on: 0), .syn, sequence: 1))
    let old = try #require(here.stack.rules.set.rules[0].count)
    func install(_ rule: ForwardRule) {
      here.install(RuleSet([rule], after: here.stack.rules.set, isShared: true))
    }
    install(rule("web", maxConnections: 1))
    #expect(here.stack.rules.set.rules[0].count?.value == 1)
    let other = try port(on: 0)
    here.send(tcpPacket(port: other, .syn, sequence: 1))
    #expect(here.stack.drops[.ruleFull] == 1)
    install(rule("web", maxConnections: 2))
    here.send(tcpPacket(port: other, .syn, sequence: 1))
    #expect(here.stack.rules.set.rules[0].count?.value == 1)
    #expect(old.value == 1)
  }
}
