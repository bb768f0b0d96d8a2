// Super-packets cut by ourselves: each packet is what our writer makes of its part.

import Primitives
import TestSupport
import Testing
import Wire

private let families = [
  ("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8:1::2"),
]

private func frame(
  _ payload: Payload, cuts: [Int] = [],
  _ write: (UnsafeMutableRawPointer, UnsafeBufferPointer<Slice>) -> Int
) -> FrameQueue {
  var frames = FrameQueue()
  let memory = frames.reserve(headerOctets: 256)
  for slice in payload.slices(cuts: cuts) { frames.append(slice) }
  frames.commit(headerOctets: write(memory, frames.openPayload))
  return frames
}

/// The packets that are made of a frame, nil where it is refused.
private func plain(_ frames: borrowing FrameQueue) -> [[UInt8]]? {
  plain(UnsafeBufferPointer(frames.slices(of: 0)))
}

private func plain(_ slices: UnsafeBufferPointer<Slice>) -> [[UInt8]]? {
  guard var packets = PlainPackets(of: slices) else { return nil }
  let headers = UnsafeMutableRawPointer.allocate(
    byteCount: PlainPackets.headerOctetsMax, alignment: 1)
  let gather = UnsafeMutableBufferPointer<Slice>.allocate(capacity: slices.count + 1)
  defer {
    headers.deallocate()
    gather.deallocate()
  }
  var result: [[UInt8]] = []
  while let count = packets.next(headers: headers, into: gather) {
    result.append(
      gather[..<count].flatMap { slice in
        Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
      })
  }
  #expect(result.count == packets.count)
  return result
}

@Suite("PlainPackets") struct PlainPacketsTests {
  private func header(flags: TCPFlags, options: TCPOptions = TCPOptions()) -> TCPHeader {
    TCPHeader(
      sourcePort: 80, destinationPort: 40_000, sequence: SequenceNumber(0xffff_f000),
      acknowledgment: SequenceNumber(2), flags: flags, window: 3, urgentPointer: 9, options: options
    )
  }

  @Test(
    "TCP: sequence, identification, FIN, PSH and CWR where they belong, seed 7",
    arguments: families)
  func tcp(source: String, destination: String) throws {
    let (source, destination) = (address(source), address(destination))
    var random = SeededGenerator(seed: 7)
    for round in 0..<200 {
      let segment = Int.random(in: 1...1448, using: &random)
      let total = Int.random(in: 0...min(60_000, segment * 45), using: &random)
      let payload = Payload(random.octets(total))
      let cuts = (0..<Int.random(in: 0...4, using: &random)).map { _ in
        Int.random(in: 0...total, using: &random)
      }.sorted()
      var options = TCPOptions()
      if round % 2 == 0 { options.timestamp = TCPTimestamp(value: 5, echo: 6) }
      let flags = TCPFlags(rawValue: UInt8.random(in: 0...255, using: &random) & ~0x02)
      let whole = header(flags: flags, options: options)
      let frames = frame(payload, cuts: cuts) { memory, slices in
        PacketWriter.tcp(
          to: memory, source: source, destination: destination, header: whole, payload: slices,
          payloadOctets: total, segmentOctets: segment, identification: 0xfffe, trafficClass: 0x2a,
          checksum: .offloaded)
      }
      let packets = plain(frames)
      let made = try #require(packets)
      #expect(made.count == max(1, (total + segment - 1) / segment))
      for (index, packet) in made.enumerated() {
        let start = index * segment
        let part = Payload(Array(payload.octets[start..<min(total, start + segment)]))
        var header = whole
        header.sequence = SequenceNumber(whole.sequence.rawValue &+ UInt32(start))
        if index > 0 { header.flags.remove(.cwr) }
        if index + 1 < made.count { header.flags.subtract([.fin, .psh]) }
        let expected = frameOctets(
          frame(part) { memory, slices in
            PacketWriter.tcp(
              to: memory, source: source, destination: destination, header: header,
              payload: slices, payloadOctets: part.octets.count, segmentOctets: 0,
              identification: 0xfffe &+ UInt16(index), trafficClass: 0x2a, checksum: .computed)
          })
        #expect(packet == expected)
      }
    }
  }

  @Test("UDP: a datagram each, of which none but the last is shorter, seed 8", arguments: families)
  func udp(source: String, destination: String) throws {
    let (source, destination) = (address(source), address(destination))
    var random = SeededGenerator(seed: 8)
    for _ in 0..<200 {
      let segment = Int.random(in: 1...1472, using: &random)
      let total = Int.random(in: 0...segment * 40, using: &random)
      let payload = Payload(random.octets(total))
      func write(_ payload: Payload, _ segment: Int, _ index: Int, _ mode: ChecksumMode) -> [UInt8]
      {
        frameOctets(datagrams(payload, segment, index, mode))
      }
      func datagrams(
        _ payload: Payload, _ segment: Int, _ index: Int, _ mode: ChecksumMode
      ) -> FrameQueue {
        frame(payload, cuts: [total / 3]) { memory, slices in
          PacketWriter.udp(
            to: memory, source: source, destination: destination, sourcePort: 53,
            destinationPort: 5353, payload: slices, payloadOctets: payload.octets.count,
            segmentOctets: segment, identification: UInt16(77 + index), checksum: mode)
        }
      }
      let packets = plain(datagrams(payload, segment, 0, .offloaded))
      let made = try #require(packets)
      #expect(made.count == max(1, (total + segment - 1) / segment))
      for (index, packet) in made.enumerated() {
        let start = index * segment
        let part = Payload(Array(payload.octets[start..<min(total, start + segment)]))
        #expect(packet == write(part, 0, index, .computed))
      }
    }
  }

  @Test("what leaves nothing to the device, or is not understood, is refused whole")
  func refused() {
    let payload = Payload([UInt8](repeating: 3, count: 3000))
    func frames(_ mode: ChecksumMode, _ segment: Int = 0) -> FrameQueue {
      frame(payload) { memory, slices in
        PacketWriter.tcp(
          to: memory, source: address("192.0.2.1"), destination: address("192.0.2.2"),
          header: header(flags: .ack), payload: slices, payloadOctets: 3000,
          segmentOctets: segment, checksum: mode)
      }
    }
    #expect(plain(frames(.computed)) == nil)
    #expect(plain(frames(.offloaded))?.count == 1)
    #expect(plain(UnsafeBufferPointer(start: nil, count: 0)) == nil)
    /// A super-packet whose headers say something else.
    func changed(_ change: (UnsafeMutableRawPointer) -> Void) -> [[UInt8]]? {
      let frames = frames(.offloaded, 1000)
      if let base = frames.slices(of: 0)[0].base { change(base) }
      return plain(frames)
    }
    #expect(changed { _ in }?.count == 3)
    #expect(changed { $0.put(3 as UInt8, at: 1) } == nil)  // IP fragments
    #expect(changed { $0.put(5 as UInt8, at: 1) } == nil)  // UDP's kind
    #expect(changed { $0.put(99 as UInt8, at: 1) } == nil)
    #expect(changed { $0.put(24 as UInt8, at: 6) } == nil)  // checksum start
    #expect(changed { $0.put(6 as UInt8, at: 8) } == nil)  // checksum offset
    #expect(changed { $0.put(0x55 as UInt8, at: 10) } == nil)  // version
    #expect(changed { $0.put(0x4f as UInt8, at: 10) } == nil)  // IP header's length
    #expect(changed { $0.put(1 as UInt8, at: 19) } == nil)  // protocol
    #expect(changed { $0.put(0x10 as UInt8, at: 42) } == nil)  // TCP header's length
    #expect(changed { $0.put(0xf0 as UInt8, at: 42) } == nil)
  }
}
