import Primitives
import Stack
import Wire

// A client's payload: parsed, looked up, taken by the endpoint, gathered for the target's socket, and
// acknowledged.

/// 64 KiB at a time, the checksum left to the device, as senders on the same host do.
package struct UploadOfSuperPackets: HotPath, ~Copyable {
  package static let name = "upload of super-packets"
  private static let payloadOctets = 65_160
  private var worker = HotWorker()
  private var client = Client()
  private var octets = 0

  package init() { worker.connect(&client) }

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      worker.advance(microseconds: 20)
      worker.receive(client.segment(.pushed, payloadOctets: Self.payloadOctets, at: worker.now))
      worker.turn(&client)
      octets += Self.payloadOctets
    }
    return packets
  }

  package func failure() -> String? {
    worker.failure(expecting: octets)
  }
}

/// Single segments from the network, sixteen in a turn, their checksums verified here.
package struct UploadOfSegments: HotPath, ~Copyable {
  package static let name = "upload of segments, checksum verified"
  private static let batch = 16
  private var worker = HotWorker()
  /// The frames of a turn stay where they are until it ends.
  private var frames = FrameStore(count: batch, octets: 2048)
  private var client = Client()
  private var octets = 0

  package init() { worker.connect(&client) }

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: 20)
      for index in 0..<Self.batch {
        let frame = client.segment(
          .ack, payloadOctets: Client.segmentOctets, isVerified: false, at: worker.now)
        worker.receive(frames.keep(frame, at: index))
      }
      worker.turn(&client)
      octets += Self.batch * Client.segmentOctets
      driven += Self.batch
    }
    return driven
  }

  package func failure() -> String? {
    worker.failure(expecting: octets)
  }
}

/// The target's socket takes half of what a turn brings; the rest is kept, and goes first in the next.
package struct UploadToFullTarget: HotPath, ~Copyable {
  package static let name = "upload that is kept for a slow target"
  private static let payloadOctets = 16_000
  private var worker = HotWorker()
  private var client = Client()
  private var octets = 0

  package init() { worker.connect(&client) }

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      worker.advance(microseconds: 20)
      worker.appetite = Self.payloadOctets / 2
      worker.receive(client.segment(.pushed, payloadOctets: Self.payloadOctets, at: worker.now))
      worker.turn(&client)
      worker.appetite = Int.max
      worker.targetReady(worker.slot, readable: false)
      worker.turn(&client)
      octets += Self.payloadOctets
    }
    return packets
  }

  package func failure() -> String? {
    worker.failure(expecting: octets)
  }
}

/// Every second segment overtakes the one before it: it is kept, and told of by a SACK block, until the
/// gap is filled.
package struct UploadWithGaps: HotPath, ~Copyable {
  package static let name = "upload that arrives out of order"
  private var worker = HotWorker()
  private var client = Client()
  private var octets = 0

  package init() { worker.connect(&client) }

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: 20)
      let segment = Client.segmentOctets
      let ahead = client.sequence + segment
      worker.receive(client.stray(.ack, at: ahead, payloadOctets: segment, at: worker.now))
      worker.turn(&client)
      worker.receive(client.segment(.ack, payloadOctets: segment, at: worker.now))
      worker.turn(&client)
      client.sequence = client.sequence + segment
      octets += 2 * segment
      driven += 2
    }
    return driven
  }

  package func failure() -> String? {
    worker.failure(expecting: octets)
  }
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
