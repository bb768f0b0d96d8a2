// A device that does not take a frame as it was gets its packets plain, and at once.

import Glibc
import Kernel
import Primitives
import TestSupport
import Testing
import Wire
import Worker

/// A device that refuses some writes.
private final class FakeDevice: FrameSink {
  private let answer: (_ write: Int, _ isOffloaded: Bool) -> CInt
  private(set) var writes = 0
  private(set) var taken: [[UInt8]] = []

  /// - Parameter answer: 0, or an error number.
  init(_ answer: @escaping (_ write: Int, _ isOffloaded: Bool) -> CInt) { self.answer = answer }

  func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer {
    let frame = gather.flatMap { slice in
      Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
    }
    defer { writes += 1 }
    let code = answer(writes, frame[0] != 0)
    guard code == 0 else { return .failed(SystemError(code: code, call: .write)) }
    taken.append(frame)
    return .octets(frame.count)
  }
}

@Suite("Frames that the device refuses") struct RefusedFramesTests {
  private let payload = Payload((0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })

  /// A super-packet of seven segments, or with `segmentOctets` 0 one packet.
  private func frame(segmentOctets: Int = 1448, checksum: ChecksumMode = .offloaded) -> FrameQueue {
    var frames = FrameQueue()
    let memory = frames.reserve(headerOctets: 256)
    for slice in payload.slices(cuts: [4000]) { frames.append(slice) }
    let header = TCPHeader(
      sourcePort: 80, destinationPort: 40_000, sequence: SequenceNumber(7),
      acknowledgment: SequenceNumber(2), flags: [.ack, .psh], window: 3)
    frames.commit(
      headerOctets: PacketWriter.tcp(
        to: memory, source: IPAddress(v4: 0x0A4D_000A), destination: IPAddress(v4: 0xC000_0207),
        header: header, payload: frames.openPayload, payloadOctets: payload.octets.count,
        segmentOctets: segmentOctets, checksum: checksum))
    return frames
  }

  private func write(
    _ frames: borrowing FrameQueue, _ refused: inout RefusedFrames, _ code: CInt,
    to device: FakeDevice
  ) -> (written: Int, lost: Int) {
    refused.writeAgain(
      UnsafeBufferPointer(frames.slices(of: 0)), after: SystemError(code: code, call: .write),
      to: device)
  }

  @Test("a super-packet's octets go out as segments", arguments: [EINVAL, EIO, ENOBUFS, ENOMEM])
  func cuts(code: CInt) throws {
    let device = FakeDevice { _, isOffloaded in isOffloaded ? code : 0 }
    var refused = RefusedFrames()
    let (written, lost) = write(frame(), &refused, code, to: device)
    #expect(written == 7 && lost == 0 && device.writes == 7)
    let octets = device.taken.flatMap { $0[50...] }
    #expect(octets == payload.octets)
    for frame in device.taken {
      #expect(frame[..<10].allSatisfy { $0 == 0 })
      _ = try ParsedPacket(parsing: Array(frame[10...]).span.bytes)
    }
    #expect(refused.counts.rewritten == 1)
    // Short memory says nothing about what the device can do.
    #expect(refused.counts.refused == (code == EINVAL || code == EIO ? 1 : 0))
  }

  @Test("a packet whose checksum was left to the device goes out with it") func computes() {
    let device = FakeDevice { _, isOffloaded in isOffloaded ? EINVAL : 0 }
    var refused = RefusedFrames()
    let (written, lost) = write(frame(segmentOctets: 0), &refused, EINVAL, to: device)
    #expect(written == 1 && lost == 0)
    #expect(device.taken == [frameOctets(frame(segmentOctets: 0, checksum: .computed))])
    #expect(refused.counts.refused == 1)
  }

  @Test("a run of datagrams that is refused counts by itself") func runs() {
    let device = FakeDevice { _, isOffloaded in isOffloaded ? EINVAL : 0 }
    var refused = RefusedFrames()
    var frames = FrameQueue()
    let memory = frames.reserve(headerOctets: 256)
    for slice in payload.slices(cuts: [4000]) { frames.append(slice) }
    frames.commit(
      headerOctets: PacketWriter.udp(
        to: memory, source: IPAddress(v4: 0x0A4D_000A), destination: IPAddress(v4: 0xC000_0207),
        sourcePort: 53, destinationPort: 40_000, payload: frames.openPayload,
        payloadOctets: payload.octets.count, segmentOctets: 1000, checksum: .offloaded))
    let (written, lost) = write(frames, &refused, EINVAL, to: device)
    #expect(written == 10 && lost == 0)
    #expect(device.taken.flatMap { $0[38...] } == payload.octets)
    #expect(refused.counts.refusedRuns == 1 && refused.counts.refused == 0)
  }

  @Test("a plain packet is lost and not tried again", arguments: [EIO, ENOBUFS, ENOMEM])
  func losesPlain(code: CInt) {
    let device = FakeDevice { _, _ in code }
    var refused = RefusedFrames()
    let (written, lost) = write(
      frame(segmentOctets: 0, checksum: .computed), &refused, code, to: device)
    #expect(written == 0 && lost == 1 && device.writes == 0)
    #expect(refused.counts.rewritten == 0 && refused.counts.refused == 0)
  }

  @Test(
    "a device that takes nothing is asked once more, not for each segment",
    arguments: [EINVAL, EIO, ENOBUFS, ENOMEM])
  func takesNothing(code: CInt) {
    let device = FakeDevice { _, _ in code }
    var refused = RefusedFrames()
    let (written, lost) = write(frame(), &refused, code, to: device)
    #expect(written == 0 && lost == 7 && device.writes == 1)
    #expect(refused.counts.rewritten == 0 && refused.counts.refused == 0)
  }

  @Test("one segment that finds no memory takes none of the others with it") func losesOne() {
    let device = FakeDevice { write, _ in write == 3 ? ENOBUFS : 0 }
    var refused = RefusedFrames()
    let (written, lost) = write(frame(), &refused, ENOBUFS, to: device)
    #expect(written == 6 && lost == 1 && device.writes == 7)
  }
}
