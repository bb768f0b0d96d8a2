import Primitives
import Stack
import Wire

// A target's payload: read into chunks, cut into segments, kept until the client acknowledges it.

/// What the downloads share: a target that always has more to say, and a client that acknowledges
/// what a turn brought.
struct Transfer: ~Copyable {
  private var world: HotWorld

  init(_ world: consuming HotWorld = HotWorld(connects: true)) { self.world = world }

  /// A turn in which the target says so much.
  mutating func say(_ octets: Int) {
    world.worker.advance(microseconds: 100)
    world.worker.waiting += octets
    world.wake()
    world.sent += octets
  }

  mutating func acknowledge() {
    if world.worker.client.owesAcknowledgment { world.send(.ack) }
  }

  /// Frames that the stack sends until there are so many more.
  mutating func drive(packets: Int, saying octets: Int) -> Int {
    let before = world.worker.framesSent
    while world.worker.framesSent - before < packets {
      if world.worker.waiting == 0 { say(octets) } else { world.worker.advance(microseconds: 100) }
      acknowledge()
    }
    return world.worker.framesSent - before
  }

  func failure() -> String? {
    // What is under way may be a window's worth.
    let missing = world.sent - world.worker.client.octetsHeard
    guard missing <= 16 << 20, world.worker.client.octetsHeard > 0 else {
      return "\(missing) octets missing"
    }
    return world.worker.losses()
  }
}

package struct Download: HotPath, ~Copyable {
  package static let name = "download"
  private var transfer = Transfer()
  package init() {}
  package mutating func drive(packets: Int) -> Int {
    transfer.drive(packets: packets, saying: 65_160)
  }
  package func failure() -> String? { transfer.failure() }
}

package struct DownloadIPv6: HotPath, ~Copyable {
  package static let name = "download over IPv6"
  private var transfer = Transfer(HotWorld(isIPv4: false, connects: true))
  package init() {}
  package mutating func drive(packets: Int) -> Int {
    transfer.drive(packets: packets, saying: 65_160)
  }
  package func failure() -> String? { transfer.failure() }
}

/// Each segment is a frame of its own, with its checksum computed.
package struct DownloadWithoutOffloads: HotPath, ~Copyable {
  package static let name = "download without offloads"
  private var transfer = Transfer(HotWorld(offloads: false, connects: true))
  package init() {}
  package mutating func drive(packets: Int) -> Int {
    transfer.drive(packets: packets, saying: 65_160)
  }
  package func failure() -> String? { transfer.failure() }
}

/// One frame in fifty is lost, told of by SACK blocks, and sent again.
package struct DownloadWithLoss: HotPath, ~Copyable {
  package static let name = "download with loss"
  private var transfer = Transfer(HotWorld(lossEvery: 50, connects: true))
  package init() {}
  package mutating func drive(packets: Int) -> Int {
    transfer.drive(packets: packets, saying: 20_000)
  }
  package func failure() -> String? { transfer.failure() }
}

/// One small write of the target's, one acknowledgement of the client's, which is what is counted.
package struct Acknowledgments: HotPath, ~Copyable {
  package static let name = "acknowledgements"
  private var transfer = Transfer()
  package init() {}

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      transfer.say(100)
      transfer.acknowledge()
    }
    return packets
  }
  package func failure() -> String? { transfer.failure() }
}
