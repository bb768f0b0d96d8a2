import Primitives
import Stack
import Wire

// A client's payload: parsed, looked up, taken by the endpoint, gathered for the target's socket, and
// acknowledged.

/// 64 KiB at a time, the checksum left to the device, as senders on the same host do.
package struct UploadOfSuperPackets: HotPath, ~Copyable {
  package static let name = "upload of super-packets"
  private static let payloadOctets = 65_160
  private var world = HotWorld(connects: true)

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets) { world in
      world.send(.pushed, payloadOctets: Self.payloadOctets)
      world.sent += Self.payloadOctets
    }
  }

  package func failure() -> String? { world.uploadFailure() }
}

/// Single segments from the network, sixteen in a turn, their checksums verified here.
package struct UploadOfSegments: HotPath, ~Copyable {
  package static let name = "upload of segments, checksum verified"
  private static let batch = 16
  private var world = HotWorld(connects: true)
  /// The frames of a turn stay where they are until it ends.
  private var frames = FrameStore(count: batch, octets: 2048)

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: Self.batch) { world in
      for index in 0..<Self.batch {
        let frame = world.worker.client.segment(
          .ack, payloadOctets: Client.segmentOctets, isVerified: false, at: world.worker.now)
        world.worker.receive(frames.keep(frame, at: index))
      }
      world.worker.turn()
      world.sent += Self.batch * Client.segmentOctets
    }
  }

  package func failure() -> String? { world.uploadFailure() }
}

/// The target's socket takes half of what a turn brings; the rest is kept, and goes first in the next.
package struct UploadToFullTarget: HotPath, ~Copyable {
  package static let name = "upload that is kept for a slow target"
  private static let payloadOctets = 16_000
  private var world = HotWorld(connects: true)

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets) { world in
      world.worker.appetite = Self.payloadOctets / 2
      world.send(.pushed, payloadOctets: Self.payloadOctets)
      world.worker.appetite = Int.max
      world.wake(readable: false)
      world.sent += Self.payloadOctets
    }
  }

  package func failure() -> String? { world.uploadFailure() }
}

/// Every second segment overtakes the one before it: it is kept, and told of by a SACK block, until the
/// gap is filled.
package struct UploadWithGaps: HotPath, ~Copyable {
  package static let name = "upload that arrives out of order"
  private var world = HotWorld(connects: true)

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: 2) { world in
      let segment = Client.segmentOctets
      let ahead = world.worker.client.sequence + segment
      world.worker.receive(
        world.worker.client.stray(.ack, at: ahead, payloadOctets: segment, at: world.worker.now))
      world.worker.turn()
      world.send(.ack, payloadOctets: segment)
      world.worker.client.sequence = world.worker.client.sequence + segment
      world.sent += 2 * segment
    }
  }

  package func failure() -> String? { world.uploadFailure() }
}

/// Memory for the frames of one turn.
struct FrameStore: ~Copyable {
  private let memory: UnsafeMutableRawPointer
  private let octets: Int

  init(count: Int, octets: Int) {
    memory = .allocate(byteCount: count * octets, alignment: 64)
    self.octets = octets
  }

  deinit { memory.deallocate() }

  func keep(_ frame: UnsafeRawBufferPointer, at index: Int) -> UnsafeRawBufferPointer {
    precondition(frame.count <= octets, "frame")
    guard let base = frame.baseAddress else { return frame }
    (memory + index * octets).copyMemory(from: base, byteCount: frame.count)
    return UnsafeRawBufferPointer(start: memory + index * octets, count: frame.count)
  }
}
