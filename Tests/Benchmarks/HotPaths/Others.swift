import Primitives
import Stack
import Wire

// Datagrams, and packets that belong to nobody.

/// A query and its answer, in a session that stands.
package struct Datagrams: HotPath, ~Copyable {
  package static let name = "datagrams of a session, both ways"
  private var world = HotWorld()

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: 2) { world in
      world.sendDatagrams(octets: 1200)
      world.worker.datagramsWaiting = 1
      world.wake()
      world.sent += 1
    }
  }

  package func failure() -> String? {
    world.failure(of: "queries", came: world.worker.datagramsTaken)
      ?? world.failure(of: "answers", came: world.worker.framesSent)
  }
}

/// Forty datagrams in one frame; each counts.
package struct DatagramSuperPackets: HotPath, ~Copyable {
  package static let name = "datagrams in super-packets"
  private static let count = 40
  private var world = HotWorld()

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: Self.count) { world in
      world.sendDatagrams(octets: 1200 * Self.count, segmentOctets: 1200)
      world.sent += Self.count
    }
  }

  package func failure() -> String? {
    world.failure(of: "datagrams", came: world.worker.datagramsTaken)
  }
}

/// Forty datagrams of a target in one frame; each counts.
package struct DatagramRuns: HotPath, ~Copyable {
  package static let name = "datagrams of a target in runs"
  private static let count = 40
  private var world = HotWorld()

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: Self.count) { world in
      world.sendDatagrams(octets: 1200)
      world.worker.datagramsWaiting = Self.count
      world.wake()
      world.sent += 1
    }
  }

  package func failure() -> String? {
    world.failure(of: "frames", came: world.worker.framesSent)
  }
}

/// Segments of no flow to an address without a rule: dropped.
package struct UnknownSegments: HotPath, ~Copyable {
  package static let name = "segments of no flow"
  private var world = HotWorld(virtualPort: 81)

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets) { world in
      world.send(.ack, payloadOctets: 100)
      world.sent += 1
    }
  }

  package func failure() -> String? {
    world.worker.stack.drops[.unknownFlow] == world.sent
      ? nil : "they are taken for something else"
  }
}

/// Echo requests to an address that a rule covers.
package struct Echoes: HotPath, ~Copyable {
  package static let name = "echo requests"
  private var world = HotWorld()

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, microseconds: 2000) { world in
      world.worker.receive(world.worker.client.echoRequest())
      world.worker.turn()
      world.sent += 1
    }
  }

  package func failure() -> String? {
    world.failure(of: "answers", came: Int(world.worker.stack.counters.echoReplies))
  }
}
