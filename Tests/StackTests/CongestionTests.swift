import Configuration
import Primitives
import Stack
import Testing
import Wire

// Congestion between the client's packets and the endpoint: ECN in IP headers, each rule's algorithm.

@Suite("RFC 3168, RFC 9438: ECN through the IP header, congestion control by rule")
struct CongestionTests {
  /// A flow with ECN whose target is connected.
  private func agreed(_ world: World, isIPv4: Bool) throws -> Client {
    var client = Client(world, isIPv4: isIPv4)
    client.send([.syn, .ece, .cwr])
    let answer = try #require(world.take().last)
    #expect(answer.tcp?.flags == [.syn, .ack, .ece])
    #expect(answer.ip.trafficClass == 0)
    client.acknowledgment = (answer.tcp?.sequence.rawValue ?? 0) &+ 1
    client.send(.ack)
    return client
  }

  /// The target says so much; what went to the client.
  private func download(_ world: World, _ octets: Int) throws -> [Reply] {
    let slot = try #require(world.flow)
    world.sockets[slot]?.saying += [UInt8](repeating: 7, count: octets)
    world.socketEvent(slot, readable: true)
    return world.take()
  }

  @Test("data leaves as ECT(0), and CE on the client's is echoed", arguments: [true, false])
  func codepoints(isIPv4: Bool) throws {
    let world = World(rules: [rule("web")])
    var client = try agreed(world, isIPv4: isIPv4)
    let data = try download(world, 100)
    #expect(data.map(\.ip.trafficClass) == [2])
    client.acknowledgment &+= 100
    for (trafficClass, isEchoed) in [(2, false), (0, false), (1, false), (3, true)] {
      let source = isIPv4 ? client4 : client6
      world.send(
        tcpPacket(
          from: source, to: isIPv4 ? virtual4 : virtual6, [.ack, .psh], sequence: client.sequence,
          acknowledgment: client.acknowledgment, payload: [1, 2, 3],
          trafficClass: UInt8(trafficClass)))
      client.sequence &+= 3
      world.advance(by: .milliseconds(50))
      let answer = try #require(world.take().last)
      #expect(answer.tcp?.flags.contains(.ece) == isEchoed)
      #expect(answer.ip.trafficClass == 0)
    }
    client.send(.rst)
  }

  @Test("a rule's algorithm: half for newreno, seven tenths for cubic", arguments: [true, false])
  func algorithm(isNewReno: Bool) throws {
    var web = rule("web")
    web.congestion = isNewReno ? .newReno : .cubic
    let world = World(rules: [web])
    var client = try agreed(world, isIPv4: true)
    let flight = try download(world, 40_000)
    #expect(flight.count == 10)
    client.acknowledgment &+= UInt32(flight.map(\.payload.count).reduce(0, +))
    client.send([.ack, .ece])
    let replies = world.take()
    #expect(replies.count == (isNewReno ? 5 : 7))
    #expect(replies.map { $0.tcp?.flags.contains(.cwr) == true }.filter(\.self).count == 1)
    #expect(replies.first?.tcp?.flags.contains(.cwr) == true)
    client.send(.rst)
  }

  @Test("a reload that changes the algorithm is for new flows, and a change of the rule")
  func reload() throws {
    var web = rule("web")
    let world = World(rules: [web])
    var old = try agreed(world, isIPv4: true)
    web.congestion = .newReno
    #expect(web != rule("web"))
    world.install([web])
    let flight = try download(world, 40_000)
    old.acknowledgment &+= UInt32(flight.map(\.payload.count).reduce(0, +))
    old.send([.ack, .ece])
    #expect(world.take().count == 7)
    old.send(.rst)
  }
}
