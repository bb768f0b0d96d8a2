// The parts of the five-tuples, whose home each is, and the kernel's program that computes the same.

import Steering
import Synchronization
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

  private static func steering(
    _ workers: Int, _ generator: inout SeededGenerator
  ) -> (Steering, SharedOctets) {
    let memory = SharedOctets()
    let seed = (generator.next(), generator.next())
    return (Steering(workers: workers, seed: seed, homes: memory.homes), memory)
  }

  @Test("both directions of a flow, and both of its protocols, are of one part")
  func isSymmetric() {
    var generator = SeededGenerator(seed: 1)
    for workers in [1, 2, 3, 16, 64, 256] {
      let (steering, memory) = Self.steering(workers, &generator)
      defer { withExtendedLifetime(memory) {} }
      for _ in 0..<500 {
        let tuple = Self.tuple(&generator)
        let back = FiveTuple(
          client: tuple.virtual, virtual: tuple.client, clientPort: tuple.virtualPort,
          virtualPort: tuple.clientPort, transport: .udp)
        let part = steering.part(of: tuple)
        #expect(0..<Homes.partCount ~= part)
        #expect(steering.part(of: back) == part)
        let worker = steering.worker(of: tuple.client, tuple.virtual)
        #expect(0..<workers ~= worker)
        #expect(steering.worker(of: tuple.virtual, tuple.client) == worker)
      }
    }
  }

  @Test("what has no home is dealt evenly, what has one stays there until it is left")
  func deals() {
    var generator = SeededGenerator(seed: 5)
    for workers in [1, 2, 3, 16, 256] {
      let (steering, memory) = Self.steering(workers, &generator)
      defer { withExtendedLifetime(memory) {} }
      func loads() -> [Int] { (0..<workers).map { steering.homes.load(of: $0) } }
      var homes: [Int: Int] = [:]
      for _ in 0..<2000 {
        let tuple = Self.tuple(&generator)
        let part = steering.part(of: tuple)
        #expect(steering.home(of: tuple) == homes[part])
        let home = steering.deal(tuple)
        #expect(0..<workers ~= home && homes[part] ?? home == home)
        homes[part] = home
        #expect(steering.deal(tuple) == home)
        #expect(steering.home(of: tuple) == home)
        // Another that wants it does not get it.
        #expect(steering.homes.take(part, for: (home + 1) % workers) == home)
        #expect(loads().reduce(0, +) == homes.count)
        #expect((loads().max() ?? 0) - homes.count / workers <= (workers < 3 ? 1 : 4))
      }
      for (part, home) in homes { steering.homes.leave(part, of: home) }
      #expect(loads().allSatisfy { $0 == 0 })
      for part in homes.keys {
        #expect(steering.homes[part] == nil)
        #expect(steering.homes.take(part, for: workers - 1) == workers - 1)
      }
    }
  }

  @Test("64 connections at a time, however they come and go, are spread within a few")
  func spreadsWhatComesAndGoes() {
    var generator = SeededGenerator(seed: 6)
    for workers in [2, 3, 4, 16] {
      let (steering, memory) = Self.steering(workers, &generator)
      defer { withExtendedLifetime(memory) {} }
      var counts = [Int](repeating: 0, count: workers)
      var open: [(part: Int, home: Int)] = []
      for _ in 0..<4000 {
        let tuple = Self.tuple(&generator)
        guard steering.home(of: tuple) == nil else { continue }
        let home = steering.deal(tuple)
        counts[home] += 1
        open.append((steering.part(of: tuple), home))
        guard open.count > 64 else { continue }
        let (part, left) = open.remove(at: generator.number(in: 0...63))
        steering.homes.leave(part, of: left)
        counts[left] -= 1
        #expect((counts.max() ?? 0) - 64 / workers <= 6, "\(counts)")
      }
    }
  }

  @Test("long conversations are spread evenly whatever short ones come between", arguments: [2, 4])
  func spreadsLongOnes(_ workers: Int) {
    var generator = SeededGenerator(seed: 12)
    let (steering, memory) = Self.steering(workers, &generator)
    defer { withExtendedLifetime(memory) {} }
    var counts = [Int](repeating: 0, count: workers)
    for long in 1...100 {
      for number in 0..<workers {
        let tuple = Self.tuple(&generator)
        guard steering.home(of: tuple) == nil else { continue }
        let home = steering.deal(tuple)
        if number == 0 {
          counts[home] += 1
        } else {
          steering.homes.leave(steering.part(of: tuple), of: home)
        }
      }
      #expect((counts.max() ?? 0) - long / workers <= (workers == 2 ? 1 : 3), "\(counts)")
    }
  }

  /// As of a client that tells on one connection what two others are to carry.
  @Test("of flows that begin one after the other two workers have every second", arguments: 1...40)
  func partsWhatBeginsTogether(_ seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let (steering, memory) = Self.steering(2, &generator)
    defer { withExtendedLifetime(memory) {} }
    var homes: [Int] = []
    while homes.count < 9 {
      let tuple = Self.tuple(&generator)
      if steering.home(of: tuple) == nil { homes.append(steering.deal(tuple)) }
    }
    #expect(zip(homes, homes.dropFirst()).allSatisfy { $0 != $1 }, "\(homes)")
  }

  @Test("whatever several workers do at once, a part has one home, and the loads are right")
  func isExclusive() async {
    let memory = SharedOctets()
    let homes = memory.homes
    let parts = 8
    // By part: how many believe to have it.
    let believers = Believers(parts)
    await withTaskGroup(of: Void.self) { group in
      for worker in 0..<4 {
        group.addTask {
          var generator = SeededGenerator(seed: UInt64(worker))
          for _ in 0..<50_000 {
            let part = generator.number(in: 0...parts - 1)
            guard homes.take(part, for: worker) == worker else { continue }
            believers.enter(part)
            believers.leave(part)
            homes.leave(part, of: worker)
          }
        }
      }
    }
    #expect(believers.mostAtOnce == 1)
    #expect((0..<parts).allSatisfy { homes[$0] == nil })
    #expect((0..<4).allSatisfy { homes.load(of: $0) == 0 })
    withExtendedLifetime(memory) {}
  }

  @Test("whoever connects through the device soon finds a source port of a part of its own")
  func sourcePorts() {
    var generator = SeededGenerator(seed: 7)
    for workers in [1, 2, 3, 16, 64] {
      let (steering, memory) = Self.steering(workers, &generator)
      defer { withExtendedLifetime(memory) {} }
      for part in 0..<Homes.partCount where part % 4 != 0 {
        _ = steering.homes.take(part, for: part % workers)
      }
      for number in 0..<workers {
        let server = Self.tuple(&generator)
        let first = UInt16(truncatingIfNeeded: generator.next())
        let tries = (0..<UInt16(100)).first { step in
          // The answers come from the server, which is the device's client then.
          let answer = FiveTuple(
            client: server.virtual, virtual: server.client, clientPort: 8080,
            virtualPort: first &+ step, transport: .tcp)
          return steering.homes.take(steering.part(of: answer), for: number) == number
        }
        #expect(tries != nil, "\(workers) workers, \(number)")
      }
    }
  }

  @Test("clients that differ in one thing only are of parts all over")
  func spreads() {
    let memory = SharedOctets()
    defer { withExtendedLifetime(memory) {} }
    let steering = Steering(workers: 2, seed: (0, 0), homes: memory.homes)
    let groups = 16
    func counts(_ tuple: (UInt16) -> FiveTuple) -> [Int] {
      var counts = [Int](repeating: 0, count: groups)
      for number in 0..<16_000 {
        counts[steering.part(of: tuple(UInt16(number))) * groups / Homes.partCount] += 1
      }
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
    let mean = 16_000.0 / Double(groups)
    let bound = 6 * (mean * (1 - 1 / Double(groups))).squareRoot()
    for counts in kinds {
      for count in counts { #expect(abs(Double(count) - mean) < bound, "\(counts)") }
    }
  }

  @Test("other keys, other parts") func dependsOnKeys() {
    var generator = SeededGenerator(seed: 2)
    let memory = SharedOctets()
    defer { withExtendedLifetime(memory) {} }
    let tuples = (0..<1000).map { _ in Self.tuple(&generator) }
    let keys: [(UInt64, UInt64)] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    let parts = keys.map { seed in
      let steering = Steering(workers: 2, seed: seed, homes: memory.homes)
      return tuples.map { steering.part(of: $0) * 2 / Homes.partCount }
    }
    for one in parts.indices {
      for other in parts.indices where other > one {
        let same = zip(parts[one], parts[other]).count { $0 == $1 }
        #expect(400...600 ~= same)
      }
    }
  }

  @Test("the program sends a packet where its flow lives or its addresses lead, and deals as we do")
  func programAgrees() throws {
    var generator = SeededGenerator(seed: 3)
    for workers in [1, 2, 4, 7, 64, 256] {
      let (steering, memory) = Self.steering(workers, &generator)
      let map = SharedOctets()
      let program = SteeringProgram.assemble(steering, map: 9)
      var parts: [Int] = []
      for _ in 0..<2000 {
        let packet = SteeredPacket(&generator)
        let queue = try interpret(program, on: packet.octets, map: map.octets)
        #expect(Int(queue) == steering.brings(packet), "\(packet)")
        if let tuple = packet.tuple { parts.append(steering.part(of: tuple)) }
        if generator.number(in: 0...3) == 0, !parts.isEmpty {
          let part = parts.remove(at: generator.number(in: 0...parts.count - 1))
          for homes in [memory.homes, map.homes] {
            if let home = homes[part] { homes.leave(part, of: home) }
          }
        }
      }
      #expect(memory.octets.elementsEqual(map.octets))
    }
  }

  @Test("whatever a packet contains, and wherever it ends, the program names a queue")
  func programIsTotal() throws {
    var generator = SeededGenerator(seed: 4)
    let (steering, map) = Self.steering(5, &generator)
    let program = SteeringProgram.assemble(steering, map: 9)
    for _ in 0..<2000 {
      let packet = SteeredPacket(&generator).octets
      let cut = Array(packet.prefix(generator.number(in: 0...packet.count)))
      #expect(try interpret(program, on: cut, map: map.octets) < 5)
      let noise = generator.octets(generator.number(in: 0...90))
      #expect(try interpret(program, on: noise, map: map.octets) < 5)
    }
    #expect(try interpret(program, on: [], map: map.octets) == 0)
    #expect(try interpret(program, on: [0x50] + generator.octets(60), map: map.octets) == 0)
  }

  @Test("the program is straight and short") func programIsSmall() {
    var generator = SeededGenerator(seed: 10)
    let (steering, memory) = Self.steering(4, &generator)
    defer { withExtendedLifetime(memory) {} }
    let program = SteeringProgram.assemble(steering, map: 9)
    #expect(program.count < 220)
    #expect(MemoryLayout<BPFInstruction>.size == 8)
    for instruction in program where instruction.opcode & 7 == 5 {
      #expect(instruction.offset >= 0)
    }
    #expect(program.last?.opcode == 0x95)
  }
}

/// How many are in each of several places at once.
private final class Believers: Sendable {
  private let counts: Mutex<(counts: [Int], most: Int)>
  var mostAtOnce: Int { counts.withLock { $0.most } }

  init(_ places: Int) { counts = Mutex(([Int](repeating: 0, count: places), 0)) }

  func enter(_ place: Int) {
    counts.withLock {
      $0.counts[place] += 1
      $0.most = max($0.most, $0.counts[place])
    }
  }

  func leave(_ place: Int) { counts.withLock { $0.counts[place] -= 1 } }
}

/// Memory of `Homes`.
private final class SharedOctets: @unchecked Sendable {
  let octets: UnsafeMutableRawBufferPointer
  var homes: Homes {
    guard let base = octets.baseAddress else { preconditionFailure("memory") }
    return Homes(base)
  }

  init() {
    octets = .allocate(byteCount: Homes.octets, alignment: 128)
    octets.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { octets.deallocate() }
}
