// The hash that says where a flow lives, and the kernel's program that computes the same.

import Steering
import TestSupport
import Testing
import Wire

@Suite("Steering") struct SteeringTests {
  private static func tuple(_ generator: inout SeededGenerator) -> FiveTuple {
    let packet = SteeredPacket(&generator)
    return FiveTuple(
      client: packet.source, virtual: packet.destination,
      clientPort: UInt16(truncatingIfNeeded: generator.next()), virtualPort: 80, transport: .tcp)
  }

  @Test("both directions of a flow, and both of its protocols, have one home")
  func isSymmetric() {
    var generator = SeededGenerator(seed: 1)
    for workers in [1, 2, 3, 16, 64, 256] {
      let steering = Steering(workers: workers, seed: (generator.next(), generator.next()))
      for _ in 0..<500 {
        let tuple = Self.tuple(&generator)
        let back = FiveTuple(
          client: tuple.virtual, virtual: tuple.client, clientPort: tuple.virtualPort,
          virtualPort: tuple.clientPort, transport: .udp)
        let home = steering.worker(of: tuple)
        #expect(0..<workers ~= home)
        #expect(steering.worker(of: back) == home)
        #expect(
          steering.worker(of: tuple.client, tuple.virtual)
            == steering.worker(of: tuple.virtual, tuple.client))
      }
    }
  }

  @Test("whoever connects through the device soon finds a source port that leads home")
  func sourcePorts() {
    var generator = SeededGenerator(seed: 7)
    for workers in [1, 2, 3, 16, 64] {
      let steering = Steering(workers: workers, seed: (generator.next(), generator.next()))
      for number in 0..<workers {
        let server = Self.tuple(&generator)
        let first = UInt16(truncatingIfNeeded: generator.next())
        let tries = (0..<UInt16(20 * workers)).first { step in
          // The answers come from the server, which is the device's client then.
          let answer = FiveTuple(
            client: server.virtual, virtual: server.client, clientPort: 8080,
            virtualPort: first &+ step, transport: .tcp)
          return steering.worker(of: answer) == number
        }
        #expect(tries != nil, "\(workers) workers, \(number)")
      }
    }
  }

  @Test("clients that differ in one thing only are spread evenly", arguments: [2, 3, 4, 16])
  func spreads(_ workers: Int) {
    let steering = Steering(workers: workers, seed: (0, 0))
    func counts(_ tuple: (UInt16) -> FiveTuple) -> [Int] {
      var counts = [Int](repeating: 0, count: workers)
      for number in 0..<16_000 { counts[steering.worker(of: tuple(UInt16(number)))] += 1 }
      return counts
    }
    let virtual = IPAddress(v4: 0x0a4d_000a)
    let kinds = [
      counts {
        FiveTuple(
          client: IPAddress(v4: 0x0a4d_0002), virtual: virtual, clientPort: 32_768 + $0,
          virtualPort: 80, transport: .tcp)
      },
      counts {
        FiveTuple(
          client: IPAddress(v4: 0x0a00_0000 + UInt32($0)), virtual: virtual, clientPort: 5000,
          virtualPort: 80, transport: .tcp)
      },
      counts {
        FiveTuple(
          client: IPAddress(high: 0xfd77 << 48, low: UInt64($0) << 20),
          virtual: IPAddress(high: 0xfd77 << 48, low: 10), clientPort: 5000, virtualPort: 80,
          transport: .tcp)
      },
      counts {
        FiveTuple(
          client: virtual, virtual: virtual, clientPort: $0, virtualPort: $0, transport: .tcp)
      },
    ]
    // Six standard deviations of a binomial distribution.
    let mean = 16_000.0 / Double(workers)
    let bound = 6 * (mean * (1 - 1 / Double(workers))).squareRoot()
    for counts in kinds {
      for count in counts { #expect(abs(Double(count) - mean) < bound, "\(counts)") }
    }
  }

  @Test("other keys, other homes") func dependsOnKeys() {
    var generator = SeededGenerator(seed: 2)
    let tuples = (0..<1000).map { _ in Self.tuple(&generator) }
    let keys: [(UInt64, UInt64)] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    let homes = keys.map { seed in
      tuples.map { Steering(workers: 2, seed: seed).worker(of: $0) }
    }
    for one in homes.indices {
      for other in homes.indices where other > one {
        let same = zip(homes[one], homes[other]).count { $0 == $1 }
        #expect(400...600 ~= same)
      }
    }
  }

  @Test("the program sends a packet where its flow lives, or its addresses lead")
  func programAgrees() throws {
    var generator = SeededGenerator(seed: 3)
    for workers in [1, 2, 4, 7, 64] {
      let steering = Steering(workers: workers, seed: (generator.next(), generator.next()))
      let program = SteeringProgram.assemble(steering)
      for _ in 0..<2000 {
        let packet = SteeredPacket(&generator)
        let queue = try interpret(program, on: packet.octets)
        #expect(Int(queue) == steering.home(of: packet), "\(packet)")
      }
    }
  }

  @Test("whatever a packet contains, and wherever it ends, the program names a queue")
  func programIsTotal() throws {
    var generator = SeededGenerator(seed: 4)
    let steering = Steering(workers: 5, seed: (7, 8))
    let program = SteeringProgram.assemble(steering)
    for _ in 0..<2000 {
      let packet = SteeredPacket(&generator).octets
      let cut = Array(packet.prefix(generator.number(in: 0...packet.count)))
      #expect(try interpret(program, on: cut) < 5)
      #expect(try interpret(program, on: generator.octets(generator.number(in: 0...90))) < 5)
    }
    #expect(try interpret(program, on: []) == 0)
    #expect(try interpret(program, on: [0x50] + generator.octets(60)) == 0)
  }

  @Test("the program is straight and short") func programIsSmall() {
    let program = SteeringProgram.assemble(Steering(workers: 4, seed: (1, 2)))
    #expect(program.count < 150)
    #expect(MemoryLayout<BPFInstruction>.size == 8)
    for instruction in program where instruction.opcode & 7 == 5 {
      #expect(instruction.offset >= 0)
    }
    #expect(program.last?.opcode == 0x95)
  }
}

extension Steering {
  /// The queue that a packet belongs into.
  func home(of packet: SteeredPacket) -> Int {
    guard let ports = packet.ports else { return worker(of: packet.source, packet.destination) }
    return worker(
      of: FiveTuple(
        client: packet.source, virtual: packet.destination, clientPort: ports.source,
        virtualPort: ports.destination, transport: .tcp))
  }
}
