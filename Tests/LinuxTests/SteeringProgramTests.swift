// The steering program in the kernel itself: its verifier takes it, and it computes what we do.

import Kernel
import Steering
import TestSupport
import Testing
import TunDevice
import Wire

@Suite("Steering program in the kernel") struct SteeringProgramTests {
  @Test(
    "the kernel sends every packet where its flow lives, and deals what is new",
    arguments: [1, 2, 4, 7, 64, 256])
  func agrees(workers: Int) throws {
    var generator = SeededGenerator(seed: UInt64(workers))
    let map = try SharedMap(octets: Homes.octets)
    let shared = Homes(map.memory)
    // Ours deals the same packets in memory of its own.
    let steering = Steering(
      workers: workers, seed: (generator.next(), generator.next()), homes: .ofProcess())
    let filter = try SocketFilter(
      SteeringProgram.assemble(steering, map: map.number).map(\.word))
    var parts: [Int] = []
    for _ in 0..<1000 {
      let packet = SteeredPacket(&generator)
      let home = steering.brings(packet)
      #expect(try Int(filter.run(on: packet.octets)) == home, "\(packet)")
      guard let tuple = packet.tuple else { continue }
      let part = steering.part(of: tuple)
      #expect(shared[part] == home)
      parts.append(part)
      if generator.number(in: 0...3) == 0 {
        let part = parts.remove(at: generator.number(in: 0...parts.count - 1))
        for homes in [shared, steering.homes] {
          if let home = homes[part] { homes.leave(part, of: home) }
        }
      }
    }
  }

  @Test("what a worker took, the kernel brings it") func heeds() throws {
    var generator = SeededGenerator(seed: 11)
    let map = try SharedMap(octets: Homes.octets)
    let steering = Steering(workers: 16, seed: (3, 4), homes: Homes(map.memory))
    let filter = try SocketFilter(
      SteeringProgram.assemble(steering, map: map.number).map(\.word))
    for number in 0..<400 {
      let packet = SteeredPacket(&generator)
      guard let tuple = packet.tuple else { continue }
      let home = steering.homes.take(steering.part(of: tuple), for: number % 16)
      #expect(try Int(filter.run(on: packet.octets)) == home)
    }
  }

  @Test("a device takes the program, and keeps it when ours is closed") func attaches() throws {
    let namespace = try TestNamespace()
    let device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 4, offload: true, keep: false)
    let map = try SharedMap(octets: Homes.octets)
    let steering = Steering(workers: 4, seed: (3, 4), homes: Homes(map.memory))
    let program = SteeringProgram.assemble(steering, map: map.number)
    try device.steer(by: try SocketFilter(program.map(\.word)))
    #expect(device.queueCount == 4)
    device.steerByKernel()
    device.steerByKernel()
  }

  @Test("what is no program is refused by the verifier, as an error") func refuses() {
    let error = #expect(throws: SystemError.self) { _ = try SocketFilter([]) }
    #expect(error?.call == .programLoad)
  }
}
