import Primitives
import Stack
import TCP
import Testing
import Wire

// Frames that are written while the turn goes on: what they refer to stays as it is until they are.

@Suite("Frames written behind") struct WriteBehindTests {
  private func world() -> World {
    let world = World(rules: [rule("web")], bufferOctets: 64 << 20) {
      $0.offloadsSegmentation = true
      $0.offloadsChecksum = true
      $0.budget.octetsBehind = 10_000
    }
    world.writesBehind = true
    return world
  }

  /// Has a target say more, and gives the worker one turn.
  private func say(_ world: World, _ slot: UInt32, _ octets: [UInt8]) {
    world.sockets[slot]?.saying += octets
    world.stack.targetReady(
      slot, readable: true, writable: false, readToEnd: false, at: world.now)
    world.turnOnce()
  }

  /// Octets that are different every 16 KiB.
  private func octets(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8 ^ $0 >> 14) }
  }

  @Test("a flow that is alone is written behind, and every octet arrives, in order")
  func arrives() throws {
    let world = world()
    var client = try CloseClient(world, port: 40_000)
    let said = octets(3 << 20)
    say(world, client.slot, said)
    var heard: [UInt8] = []
    for _ in 0..<2000 where heard.count < said.count {
      world.finishWriting()
      for reply in world.take() {
        client.hear(reply)
        heard += reply.payload
      }
      client.acknowledge(.max)
    }
    #expect(heard == said)
    #expect(world.lots > 10)
    world.finishWriting()
    #expect(world.stack.memory.chunks.count == 0)
  }

  @Test("what is given back while it is being written is given to nobody before it is written")
  func staysAsItIs() throws {
    for resets in [true, false] {
      let world = world()
      var client = try CloseClient(world, port: 40_000)
      let other = try CloseClient(world, port: 40_001)
      world.now = world.now + .seconds(1)
      let said = octets(14_000)
      say(world, client.slot, said)
      #expect(world.lots == 1)
      #expect(world.take().isEmpty, "nothing is written yet")
      // It resets, or says that it has what it cannot have.
      if resets { client.reset() } else { client.claim(said.count) }
      world.turnOnce()
      #expect(world.take().isEmpty, "nothing is written yet")
      #expect(world.stack.memory.chunks.count > 0, "they count as taken")
      say(world, other.slot, [UInt8](repeating: 0xEE, count: 1 << 20))
      world.finishWriting()
      let payload = world.take().flatMap(\.payload)
      #expect(Array(payload.prefix(said.count)) == said)
      #expect(payload.count > said.count)
      #expect(payload.dropFirst(said.count).allSatisfy { $0 == 0xEE })
    }
  }

  @Test("beside others everything is written at once") func company() throws {
    let world = world()
    let client = try CloseClient(world, port: 40_000)
    var other = try CloseClient(world, port: 40_001)
    other.claim(0)
    world.turnOnce()
    say(world, client.slot, octets(14_000))
    #expect(world.lots == 0)
    #expect(world.take().reduce(0) { $0 + $1.payload.count } == 14_000)
  }
}
