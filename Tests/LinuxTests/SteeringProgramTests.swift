// The steering program in the kernel itself: its verifier takes it, and it computes what we do.

import Kernel
import Steering
import TestSupport
import Testing
import TunDevice
import Wire

@Suite("Steering program in the kernel") struct SteeringProgramTests {
  @Test("the kernel sends every packet where its flow lives", arguments: [1, 2, 4, 7, 64])
  func agrees(workers: Int) throws {
    var generator = SeededGenerator(seed: UInt64(workers))
    let steering = Steering(workers: workers, seed: (generator.next(), generator.next()))
    let filter = try SocketFilter(SteeringProgram.assemble(steering).map(\.word))
    for _ in 0..<1000 {
      let packet = SteeredPacket(&generator)
      let home =
        if let ports = packet.ports {
          steering.worker(
            of: FiveTuple(
              client: packet.source, virtual: packet.destination, clientPort: ports.source,
              virtualPort: ports.destination, transport: .tcp))
        } else {
          steering.worker(of: packet.source, packet.destination)
        }
      #expect(try Int(filter.run(on: packet.octets)) == home, "\(packet)")
    }
  }

  @Test("a device takes the program, and keeps it when ours is closed") func attaches() throws {
    let namespace = try TestNamespace()
    let device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 4, offload: true, keep: false)
    let steering = Steering(workers: 4, seed: (3, 4))
    try device.steer(by: try SocketFilter(SteeringProgram.assemble(steering).map(\.word)))
    #expect(device.queueCount == 4)
    device.steerByKernel()
    device.steerByKernel()
  }

  @Test("what is no program is refused by the verifier, as an error") func refuses() {
    let error = #expect(throws: SystemError.self) { _ = try SocketFilter([]) }
    #expect(error?.call == .programLoad)
  }
}
