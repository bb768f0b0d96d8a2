// Frames that a thread beside the worker's writes.

import Glibc
import Kernel
import Synchronization
import Testing
import Wire
import Worker

/// A device that takes a while for each frame, and refuses some.
private final class SlowDevice: FrameSink, Sendable {
  private let taken = Mutex<[[UInt8]]>([])
  private let refused: Set<UInt8>
  var frames: [[UInt8]] { taken.withLock { $0 } }

  /// - Parameter refused: the first octet of frames that it does not take.
  init(refusing refused: Set<UInt8> = []) { self.refused = refused }

  func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer {
    let frame = gather.flatMap { slice in
      Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
    }
    usleep(1000)
    if refused.contains(frame[0]) { return .failed(SystemError(code: EINVAL, call: .writev)) }
    taken.withLock { $0.append(frame) }
    return .octets(frame.count)
  }
}

@Suite("Frames that another thread writes") struct FrameWriterTests {
  private func put(_ octets: Range<UInt8>, into frames: inout FrameQueue) {
    for octet in octets {
      frames.reserve(headerOctets: 1).storeBytes(of: octet, as: UInt8.self)
      frames.commit(headerOctets: 1)
    }
  }

  @Test("every lot is written in order, in exchange for an empty queue")
  func writes() throws {
    let device = SlowDevice()
    var writer = try FrameWriter(queue: device, name: "writer")
    var frames = FrameQueue()
    for lot in UInt8(0)..<10 {
      put(lot * 10..<lot * 10 + 10, into: &frames)
      writer.start { swap(&$0, &frames) }
      #expect(writer.isWriting && frames.isEmpty)
      let outcome = writer.finish()
      #expect(outcome.taken == 10 && outcome.lost == 0 && !writer.isWriting)
    }
    #expect(device.frames == (UInt8(0)..<100).map { [$0] })
  }

  @Test("what the device refuses, and no packets can be made of, is lost; the rest goes on")
  func refuses() throws {
    let device = SlowDevice(refusing: [1, 3])
    var writer = try FrameWriter(queue: device, name: "writer")
    var frames = FrameQueue()
    put(0..<4, into: &frames)
    writer.start { swap(&$0, &frames) }
    var outcome = writer.finish()
    #expect(outcome.taken == 2 && outcome.lost == 2)
    put(4..<6, into: &frames)
    writer.start { swap(&$0, &frames) }
    outcome = writer.finish()
    #expect(outcome.taken == 2 && outcome.lost == 0)
    #expect(device.frames == [[0], [2], [4], [5]])
  }

  @Test("who goes while something is being written waits for it") func ends() throws {
    let device = SlowDevice()
    func write() throws {
      var writer = try FrameWriter(queue: device, name: "writer")
      var frames = FrameQueue()
      put(0..<20, into: &frames)
      writer.start { swap(&$0, &frames) }
    }
    try write()
    #expect(device.frames.count == 20)
  }
}
