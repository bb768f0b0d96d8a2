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

  @Test("a client that sends on into the window it was offered before is relieved each time")
  func targetStallsAndTheClientSendsOn() throws {
    let world = patient()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 700
    world.sockets[slot]?.relief = 20_000
    for round in 1...3 {
      for _ in 0..<20 { client.send([.ack, .psh], [UInt8](repeating: 5, count: 1000)) }
      world.advance(by: .milliseconds(199))
      let last = try #require(world.take().last?.tcp)
      #expect(last.acknowledgment.rawValue == client.sequence)
      #expect(world.sockets[slot]?.received.count == round * 20_000)
      #expect(world.stack.counters.reliefs == UInt64(round))
      world.advance(by: .seconds(60))
      #expect(world.stack.counters.reliefs == UInt64(round))
    }
  }

  @Test("without the privilege to relieve, what is kept stays kept, and nothing spins")
  func noRelief() throws {
    let world = patient()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 700
    for _ in 0..<64 { client.send([.ack, .psh], [UInt8](repeating: 5, count: 1000)) }
    let start = client.sequence &- 64_000
    _ = world.take()
    // The client's timer: its oldest segment again and again, each time after twice as long.
    for seconds in [1, 2, 4, 8, 16, 32] {
      world.advance(by: .seconds(seconds))
      _ = world.take()
      var again = client
      again.sequence = start
      again.send([.ack, .psh], [UInt8](repeating: 5, count: 1000))
      let answer = try #require(world.take().last?.tcp)
      #expect(answer.acknowledgment.rawValue == start &+ 700)
    }
    #expect(world.stack.counters.reliefs == 0)
    #expect(world.sockets[slot]?.received.count == 700)
    world.sockets[slot]?.appetite = .max
    world.socketEvent(slot, writable: true)
    #expect(world.sockets[slot]?.received.count == 64_000)
    #expect(world.take().last?.tcp?.acknowledgment.rawValue == client.sequence)
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

@Suite("Memory pressure: the heaviest idle flow goes first")
struct MemoryPressureTests {
  /// Clients that ask for much and take nothing.
  @discardableResult
  private func pin(
    _ world: World, _ count: Int, octets: Int, port: UInt16 = 40_000
  ) throws -> [UInt32] {
    var slots: [UInt32] = []
    for number in 0..<count {
      let (client, slot) = try connect(world, port: port + UInt16(number))
      world.sockets[slot]?.saying = [UInt8](repeating: UInt8(number), count: octets)
      world.socketEvent(slot, readable: true)
      _ = world.take()
      world.send(client.packet(.ack, window: 0))
      slots.append(slot)
    }
    _ = world.take()
    return slots
  }

  private func connect(_ world: World, port: UInt16) throws -> (client: Client, slot: UInt32) {
    let before = Set(world.sockets.keys)
    var client = Client(world, port: port)
    try client.connect()
    return (client, try #require(Set(world.sockets.keys).subtracting(before).first))
  }

  @Test("a newcomer that finds the pool spent gets what the heaviest idle flow kept")
  func evicts() throws {
    let world = World(rules: [rule("web")], maxFlows: 64, bufferOctets: 2 << 20)
    // Each pins what it may: no more than is left for all others, so that many are needed.
    let before = try pin(world, 2, octets: 100_000)
    let heaviest = try #require(pin(world, 1, octets: 8 << 20, port: 41_000).first)
    let after = try pin(world, 12, octets: 150_000, port: 42_000)
    let slots = before + after
    let others = slots.map { world.stack.endpoints.keptOctets($0, memory: world.stack.memory) }
    #expect(others.allSatisfy { $0 < 160_000 })
    #expect(world.stack.endpoints.keptOctets(heaviest, memory: world.stack.memory) > 160_000)
    #expect(world.stack.memory.chunks.available <= 8)
    world.advance(by: .seconds(4))
    #expect(world.stack.counters.flowsEvicted == 0)
    world.advance(by: .seconds(2))
    // Some of the others starve, and so one went without a newcomer.
    let wasCut = world.sockets[heaviest] == nil
    #expect(wasCut, "another flow than the heaviest was cut")
    #expect(world.stack.counters.flowsEvicted == 1)
    _ = world.take()
    var (client, slot) = try connect(world, port: 50_000)
    world.sockets[slot]?.saying = [UInt8](repeating: 9, count: 300_000)
    world.socketEvent(slot, readable: true)
    world.advance(by: .milliseconds(200))
    var heard = 0
    for _ in 0..<500 where heard < 300_000 { heard += client.receive().octets.count }
    #expect(heard == 300_000)
    #expect(world.stack.counters.flowsEvicted >= 1 && world.stack.counters.flowsEvicted < 8)
  }

  @Test("a small pool is spent when it takes no segment any more, though a few chunks are left")
  func fewChunks() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 18)
    try pin(world, 1, octets: 14 * ChunkPool.chunkOctets)
    #expect(world.stack.memory.chunks.available == 2)
    world.advance(by: .seconds(6))
    var (client, slot) = try connect(world, port: 50_000)
    let packet = client.packet([.ack, .psh], payload: Array("hello".utf8))
    world.send(packet)
    #expect(world.sockets[slot]?.received.isEmpty == true)
    world.send(packet)  // the client's time-out
    #expect(world.sockets[slot]?.received == Array("hello".utf8))
    #expect(world.stack.counters.flowsEvicted == 1)
    client.send(.rst)
  }

  @Test("a client whose payload is refused, but which acknowledges something with it, is not idle")
  func refusedAndMoving() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 18)
    var (client, slot) = try connect(world, port: 50_000)
    world.sockets[slot]?.saying = [UInt8](repeating: 1, count: 14 * ChunkPool.chunkOctets)
    world.socketEvent(slot, readable: true)
    world.advance(by: .seconds(6))
    client.acknowledgment &+= 1000
    client.send([.ack, .psh], Array("hello".utf8))
    #expect(world.sockets[slot]?.received.isEmpty == true)
    #expect(world.stack.counters.flowsEvicted == 0)
  }

  @Test("chunks too few for all who starve are spent, too")
  func manyStarved() throws {
    let world = World(rules: [rule("web")], maxFlows: 64, bufferOctets: 1 << 20)
    try pin(world, 3, octets: 300_000)
    var (leaver, slot) = try connect(world, port: 41_000)
    world.sockets[slot]?.saying = [UInt8](repeating: 1, count: 8 * ChunkPool.chunkOctets)
    world.socketEvent(slot, readable: true)
    try pin(world, 1, octets: 300_000, port: 42_000)
    #expect(world.stack.memory.chunks.available == 1)
    for number in 0..<14 {
      let (_, slot) = try connect(world, port: UInt16(50_000 + number))
      world.sockets[slot]?.saying = Array("hello".utf8)
      world.socketEvent(slot, readable: true)
    }
    leaver.send(.rst)  // leaves eight chunks to fourteen
    #expect(5..<16 ~= world.stack.memory.chunks.available)
    _ = world.take()
    world.advance(by: .seconds(6))
    let heard = world.take().count { $0.payload == Array("hello".utf8) }
    #expect(heard >= 14)
    #expect(world.stack.counters.flowsEvicted >= 1)
  }

  @Test("octets behind a gap are no life sign: who sends only those is idle")
  func gaps() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 20)
    var clients: [Client] = []
    for number in 0..<2 {
      var client = Client(world, port: UInt16(30_000 + number))
      try client.connect()
      clients.append(client)
    }
    for step in 0..<60 {
      for client in clients {
        var ahead = client
        ahead.sequence &+= UInt32(1000 + step * 1000)
        world.send(ahead.packet([.ack, .psh], payload: [UInt8](repeating: 3, count: 1000)))
      }
      world.advance(by: .milliseconds(200))
    }
    #expect(world.stack.memory.chunks.count > 0)
    _ = world.take()
    // A pool that others fill: what these two keep is what goes.
    let others = try pin(world, 6, octets: 300_000)
    #expect(!others.isEmpty)
    world.advance(by: .milliseconds(300))
    #expect(world.stack.counters.flowsEvicted >= 1)
    let living = Set(world.sockets.keys)
    #expect(others.allSatisfy { living.contains($0) })
  }

  @Test("a trickle is no life sign beside what is kept: who pins much and moves little goes")
  func trickles() throws {
    let world = World(rules: [rule("web")], maxFlows: 64, bufferOctets: 4 << 20)
    var options = TCPOptions()
    options.windowScale = 7
    var trickling: [Client] = []
    for number in 0..<24 {
      var client = Client(world, port: UInt16(30_000 + number))
      _ = try client.connect(scaling: options)
      // One octet of every chunk of the window, behind a gap.
      for chunk in 1..<60 {
        var ahead = client
        ahead.sequence &+= UInt32(chunk * ChunkPool.chunkOctets)
        world.send(ahead.packet([.ack, .psh], payload: [3]))
      }
      trickling.append(client)
    }
    #expect(world.stack.memory.chunks.available <= 8)
    let (newcomer, slot) = try connect(world, port: 50_000)
    let gap = newcomer.packet([.ack, .psh], payload: Array("hello ".utf8))
    var behind = newcomer
    behind.sequence &+= 6
    let piece = behind.packet([.ack, .psh], payload: Array("world".utf8))
    for step in 0..<3 {
      world.send(piece)  // refused, as long as others keep all
      world.advance(by: .seconds(4))
      guard step < 2 else { break }
      for index in trickling.indices { trickling[index].send([.ack, .psh], [1]) }
    }
    world.send(piece)
    world.send(gap)
    #expect(world.sockets[slot]?.received == Array("hello world".utf8))
    #expect(world.stack.counters.flowsEvicted == 1)
  }

  @Test("a download that is slow, but would be through within the minute, is not cut")
  func slowIsNotIdle() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 20)
    var readers: [Client] = []
    var slots: [UInt32] = []
    for number in 0..<7 {
      let (client, slot) = try connect(world, port: UInt16(40_000 + number))
      readers.append(client)
      slots.append(slot)
    }
    // The last one starves.
    for (number, slot) in slots.enumerated() {
      let octets = number < 6 ? 1_000_000 : 1
      world.sockets[slot]?.saying = [UInt8](repeating: 1, count: octets)
      world.socketEvent(slot, readable: true)
    }
    #expect(world.stack.memory.chunks.available <= 4)
    var ends = readers.map { SequenceNumber($0.acknowledgment) }
    for _ in 0..<200 {
      for piece in world.take() {
        guard let header = piece.tcp else { continue }
        let index = Int(header.destinationPort) - 40_000
        let end = header.sequence + piece.payload.count
        if ends[index].precedes(end) { ends[index] = end }
      }
      for index in readers.indices {
        let new = ends[index].distance(from: SequenceNumber(readers[index].acknowledgment))
        readers[index].acknowledgment &+= UInt32(min(1_000, new))
        readers[index].send(.ack)
      }
      world.advance(by: .milliseconds(100))
    }
    #expect(world.stack.counters.flowsEvicted == 0)
  }

  @Test("what a flow moved in an earlier shortage does not count in the next one")
  func twoShortages() throws {
    let world = World(rules: [rule("web")], maxFlows: 64, bufferOctets: 1 << 20)
    var (client, slot) = try connect(world, port: 30_000)
    // Looked at while it keeps a chunk for what came behind a gap, and moves less than a share of that.
    let gap = client.packet([.ack, .psh], payload: Array("hello ".utf8))
    client.sequence &+= 6
    client.send([.ack, .psh], Array("world".utf8))
    try pin(world, 12, octets: 300_000)
    #expect(world.stack.memory.chunks.available <= 4)
    world.advance(by: .milliseconds(200))
    for number in 0..<12 {
      var leaving = Client(world, port: UInt16(40_000 + number))
      leaving.sequence &+= 1
      leaving.send(.rst)
    }
    world.send(gap)
    #expect(world.sockets[slot]?.received == Array("hello world".utf8))
    #expect(world.stack.memory.chunks.count == 0)
    world.advance(by: .seconds(300))
    // It has just begun to move much as the pool is spent again.
    world.sockets[slot]?.saying = [UInt8](repeating: 2, count: 256 << 10)
    world.socketEvent(slot, readable: true)
    try pin(world, 12, octets: 300_000, port: 41_000)
    world.advance(by: .milliseconds(200))
    #expect(world.stack.memory.chunks.available <= 4)
    #expect(world.stack.counters.flowsEvicted == 0)
    #expect(world.sockets[slot] != nil)
    // The goal of this shortage counts as ever.
    world.advance(by: .seconds(6))
    #expect(world.stack.counters.flowsEvicted > 0)
  }

  @Test("a pool that nobody idle has spent is left alone")
  func movingFlows() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 20)
    try pin(world, 4, octets: 300_000)
    world.advance(by: .seconds(2))
    #expect(world.stack.counters.flowsEvicted == 0)
    #expect(world.stack.flowCount == 4)
  }
}
