import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

// Payload memory is bounded, shared, and given back; who found it spent is asked again.

@Suite("Payload memory: bounded, shared, given back")
struct MemoryTests {
  /// A flow whose target says so much, and whose client hears nothing of it.
  private func hog(_ world: World, port: UInt16, octets: Int) throws -> Client {
    var client = Client(world, port: port)
    let before = Set(world.sockets.keys)
    try client.connect()
    let slot = try #require(Set(world.sockets.keys).subtracting(before).first)
    world.sockets[slot]?.saying = [UInt8](repeating: 7, count: octets)
    world.socketEvent(slot, readable: true)
    _ = world.take()
    return client
  }

  @Test("a flow that found the pool spent reads on as soon as others have given back")
  func starvation() throws {
    let world = World(rules: [rule("web")], bufferOctets: 1 << 20)
    var hogs: [Client] = []
    for port in 1...5 as ClosedRange<UInt16> {
      hogs.append(try hog(world, port: port, octets: 1 << 20))
    }
    var client = Client(world, port: 99)
    try client.connect()
    let slot = try #require(world.sockets.first { $0.value.saying.isEmpty }?.key)
    world.sockets[slot]?.saying = Array("hello".utf8)
    world.socketEvent(slot, readable: true)
    #expect(world.take().isEmpty)
    for hog in hogs {
      var hog = hog
      hog.send(.rst)
    }
    #expect(client.receive().octets == Array("hello".utf8))
    client.send(.rst)
    expectEmpty(world)
  }

  @Test("a client that reads nothing pins no more than a buffer's worth, and the target waits")
  func backPressure() throws {
    let world = World(rules: [rule("web")])
    var client = try hog(world, port: 1, octets: 4 << 20)
    let slot = try #require(world.flow)
    let kept = Int(world.stack.memory.chunks.count) * ChunkPool.chunkOctets
    #expect(kept <= 300_000)
    #expect(world.sockets[slot].map { $0.saying.count > 3 << 20 } == true)
    client.send(.rst)
    expectEmpty(world)
  }

  @Test("a target that takes nothing pins no more than the window; then every octet arrives")
  func upload() throws {
    let world = World(rules: [rule("web")])
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    world.sockets[slot]?.appetite = 0
    var sent: [UInt8] = []
    for index in 0..<60 {
      let piece = [UInt8](repeating: UInt8(index), count: 1000)
      client.send([.ack, .psh], piece)
      sent += piece
    }
    #expect(world.sockets[slot]?.received.isEmpty == true)
    let kept = Int(world.stack.memory.chunks.count) * ChunkPool.chunkOctets
    #expect(kept <= 65_536 + ChunkPool.chunkOctets)
    world.sockets[slot]?.appetite = .max
    world.socketEvent(slot, writable: true)
    #expect(world.sockets[slot]?.received == sent)
    let chunks = world.stack.memory.chunks.count
    #expect(chunks == 0)
  }
}
