import Primitives
import Stack
import TCP
import Testing
import Wire

// Initial sequence numbers and timestamp offsets as a client sees them.

@Suite("RFC 6528: initial sequence numbers") struct InitialSequenceTests {
  /// The SYN-ACK that a fresh client gets.
  private func answer(
    _ world: World, from source: IPAddress = client4, to destination: IPAddress = virtual4,
    port: UInt16 = 40_000, options: TCPOptions = TCPOptions()
  ) throws -> TCPHeader {
    world.send(
      tcpPacket(from: source, to: destination, port: port, .syn, sequence: 77, options: options))
    let answer = try #require(world.take().last?.tcp)
    #expect(answer.flags == [.syn, .ack])
    world.send(
      tcpPacket(from: source, to: destination, port: port, .rst, sequence: 78))
    _ = world.take()
    return answer
  }

  private func world(seed: (UInt64, UInt64) = (1, 2)) -> World {
    World(rules: [rule("web")], seed: seed)
  }

  @Test("one five-tuple's numbers rise by one every 4 µs (MUST-8)") func rises() throws {
    let world = world()
    let first = try answer(world).sequence
    for microseconds in [4, 400, 4_000_000] {
      let before = try answer(world).sequence
      world.advance(by: .microseconds(microseconds))
      let after = try answer(world).sequence
      #expect(after.distance(from: before) == microseconds / 4)
    }
    let last = try answer(world).sequence
    #expect(last.distance(from: first) == 1_000_101)
  }

  @Test("each part of the five-tuple moves them (SHLD-1)") func differs() throws {
    let world = world()
    let numbers = try [
      answer(world), answer(world, port: 40_001), answer(world, from: address("192.0.2.8")),
      answer(world, to: address("10.77.0.11")), answer(world, from: client6, to: virtual6),
    ].map(\.sequence.rawValue)
    #expect(Set(numbers).count == numbers.count)
    // Ports in a row have numbers that are not.
    let steps = try (0..<64 as Range<UInt16>).map { port in
      try answer(world, port: 1000 + port).sequence.rawValue
    }
    let differences = zip(steps, steps.dropFirst()).map { $1 &- $0 }
    #expect(Set(differences).count == differences.count)
  }

  @Test("another secret has other numbers; the same secret the same (MUST-9)") func secret() throws
  {
    let one = try answer(world()).sequence
    let same = try answer(world()).sequence
    let seeds: [(UInt64, UInt64)] = [(1, 3), (2, 2), (0, 2)]
    let others = try seeds.map { seed in
      try answer(world(seed: seed)).sequence.rawValue
    }
    #expect(one == same)
    #expect(Set(others + [one.rawValue]).count == 4)
  }

  @Test("timestamps begin elsewhere for each five-tuple (RFC 7323 §7.1)") func timestamps() throws {
    let world = world()
    var options = TCPOptions()
    options.timestamp = TCPTimestamp(value: 9, echo: 0)
    let values = try (0..<16 as Range<UInt16>).map { port in
      try #require(answer(world, port: 1000 + port, options: options).options.timestamp).value
    }
    #expect(Set(values).count == 16)
  }

  @Test("the segment size in a SYN-ACK follows the device's MTU (SHLD-6)")
  func segmentSizeFollowsMTU()
    throws
  {
    let world = world()
    #expect(try answer(world).options.maximumSegmentSize == 1460)
    #expect(
      try answer(world, from: client6, to: virtual6).options.maximumSegmentSize == 1440)
    world.stack.setMTU(1280)
    #expect(try answer(world).options.maximumSegmentSize == 1240)
    #expect(
      try answer(world, from: client6, to: virtual6).options.maximumSegmentSize == 1220)
  }

  @Test("a flow that follows one in TIME-WAIT begins beyond all that it sent (RFC 1122 §4.2.2.13)")
  func beyondTheLast() throws {
    let world = world()
    var client = Client(world)
    try client.connect()
    let slot = try #require(world.flow)
    // Faster than the clock of sequence numbers: no time passes.
    for _ in 0..<40 {
      world.sockets[slot]?.saying = Array(repeating: 5, count: 10_000)
      world.socketEvent(slot, readable: true)
      while !client.receive().octets.isEmpty {}
    }
    world.sockets[slot]?.finishes = true
    world.socketEvent(slot, readable: true, hangup: true)
    #expect(client.receive().flags.contains(.fin))
    client.send([.ack, .fin])
    let last = SequenceNumber(client.acknowledgment)
    _ = world.take()
    client.sequence &+= 9000
    world.send(client.packet(.syn))
    let answer = try #require(world.take().last?.tcp)
    #expect(answer.flags == [.syn, .ack])
    #expect(answer.sequence.distance(from: last) == 0x1_0000)
  }
}
