import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// Targets that take nothing and clients that read nothing, for a long time.

@Suite("Stalls: neither side's silence ends a flow or pins memory")
struct StallTests {
  private func patient() -> World {
    var web = rule("web")
    web.idleTimeout = .seconds(7200)
    return World(rules: [web])
  }

  @Test("a stalled target's client is acknowledged within 200 ms, and waits at a closed window")
  func targetStalls() throws {
    let world = patient()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 700
    world.sockets[slot]?.relief = .max / 2
    var offered = 0
    for _ in 0..<64 {
      client.send([.ack, .psh], [UInt8](repeating: 5, count: 1000))
      offered += 1000
    }
    #expect(world.sockets[slot]?.received.count == 700)
    world.advance(by: .milliseconds(199))
    #expect(world.sockets[slot]?.received.count == offered)
    #expect(world.stack.memory.chunks.count == 0)
    let last = try #require(world.take().last?.tcp)
    #expect(last.acknowledgment.rawValue == client.sequence)
    #expect(last.window <= 65_535 - 64_000)
    #expect(world.stack.counters.reliefs == 1)
    // An hour of window probes, each answered.
    for _ in 0..<60 {
      world.advance(by: .seconds(60))
      client.sequence &-= 1
      client.send(.ack)
      client.sequence &+= 1
      #expect(world.take().count == 1)
    }
    world.socketEvent(slot, writable: true)
    #expect((world.take().last?.tcp?.window ?? 0) > 60_000)
    client.send([.ack, .psh], [1, 2, 3])
    #expect(world.sockets[slot]?.received.count == offered + 3)
  }

  @Test("without the privilege to relieve, what is kept stays kept, and nothing spins")
  func noRelief() throws {
    let world = patient()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 700
    for _ in 0..<64 { client.send([.ack, .psh], [UInt8](repeating: 5, count: 1000)) }
    world.advance(by: .seconds(60))
    #expect(world.stack.counters.reliefs == 1)
    #expect(world.sockets[slot]?.received.count == 700)
    world.sockets[slot]?.appetite = .max
    world.socketEvent(slot, writable: true)
    #expect(world.sockets[slot]?.received.count == 64_000)
  }

  @Test("a client that reads nothing for an hour keeps its flow, and its target is not read")
  func clientStalls() throws {
    let world = patient()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    let said = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }
    world.sockets[slot]?.saying = said
    world.socketEvent(slot, readable: true)
    var heard: [UInt8] = []
    heard += client.receive(window: 0).octets
    let left = try #require(world.sockets[slot]?.saying.count)
    #expect(left > 1_000_000)
    var probes = 0
    for _ in 0..<3600 {
      world.advance(by: .seconds(1))
      let count = world.take().count
      probes += count
      if count > 0 {
        world.send(client.packet(.ack, window: 0))
      }
    }
    // The persist timer backs off to a minute (RFC 9293 §3.8.6.1).
    #expect(probes >= 55 && probes < 120)
    #expect(world.flow == slot)
    #expect(world.sockets[slot]?.saying.count == left)
    world.send(client.packet(.ack))
    for _ in 0..<5000 where heard.count < said.count { heard += client.receive().octets }
    #expect(heard == said)
  }
}
