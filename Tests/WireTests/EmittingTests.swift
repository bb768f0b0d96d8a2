// Packets out, read back, with every checksum recomputed by its definition.

import Primitives
import TestSupport
import Testing
import Wire

/// What a written frame turns out to be.
private struct Written {
  var virtio: VirtioNetHeader
  var packet: [UInt8]
  var ip: IPHeader
  var segment: [UInt8]

  init(_ frame: [UInt8]) throws {
    virtio = try VirtioNetHeader(parsing: frame.span.bytes)
    let packet = Array(frame[VirtioNetHeader.octets...])
    let ip = try IPHeader(parsing: packet.span.bytes)
    self.packet = packet
    self.ip = ip
    segment = Array(packet[ip.headerOctets...])
    checkIP()
  }

  private func checkIP() {
    #expect(ip.totalOctets == packet.count && ip.hopLimit == 64)
    if ip.isIPv4 { #expect(onesComplementSum(Array(packet[..<20])) == 0xffff) }
  }

  /// The sum over pseudo-header and segment: 0xffff when the checksum is right.
  var sum: UInt16 {
    onesComplementSum(
      pseudoHeader(ip.source, ip.destination, Int(ip.transport), segment.count) + segment)
  }
}

private let families = [
  ("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8:1::2"),
]

private func frame(
  _ payload: Payload, cuts: [Int] = [],
  _ write: (UnsafeMutableRawPointer, UnsafeBufferPointer<Slice>) -> Int
) -> [UInt8] {
  var frames = FrameQueue()
  let memory = frames.reserve(headerOctets: 256)
  for slice in payload.slices(cuts: cuts) { frames.append(slice) }
  frames.commit(headerOctets: write(memory, frames.openPayload))
  return frameOctets(frames)
}

@Suite("PacketWriter") struct EmittingTests {
  private func randomHeader(_ random: inout SeededGenerator) -> TCPHeader {
    var options = TCPOptions()
    if Bool.random(using: &random) { options.maximumSegmentSize = 1460 }
    if Bool.random(using: &random) {
      options.windowScale = UInt8.random(in: 0...14, using: &random)
    }
    if Bool.random(using: &random) { options.sackPermitted = true }
    if Bool.random(using: &random) {
      options.timestamp = TCPTimestamp(
        value: UInt32.random(in: 0 ... .max, using: &random), echo: 77)
    }
    for _ in 0..<Int.random(in: 0...5, using: &random) {
      options.sackBlocks.append(
        SACKBlock(
          start: SequenceNumber(UInt32.random(in: 0 ... .max, using: &random)),
          end: SequenceNumber(UInt32.random(in: 0 ... .max, using: &random))))
    }
    return TCPHeader(
      sourcePort: UInt16.random(in: 1 ... .max, using: &random),
      destinationPort: UInt16.random(in: 1 ... .max, using: &random),
      sequence: SequenceNumber(UInt32.random(in: 0 ... .max, using: &random)),
      acknowledgment: SequenceNumber(UInt32.random(in: 0 ... .max, using: &random)),
      flags: TCPFlags(rawValue: UInt8.random(in: 0...255, using: &random) & ~0x02),
      window: UInt16.random(in: 0 ... .max, using: &random), urgentPointer: 3, options: options)
  }

  @Test("TCP comes back as it was, options and all, seed 6", arguments: families)
  func tcpRoundTrip(source: String, destination: String) throws {
    var random = SeededGenerator(seed: 6)
    for _ in 0..<500 {
      let payload = Payload(random.octets(Int.random(in: 0...200, using: &random)))
      let cuts = [Int.random(in: 0...200, using: &random), Int.random(in: 0...200, using: &random)]
      var header = randomHeader(&random)
      let octets = frame(payload, cuts: cuts) { memory, slices in
        let written = PacketWriter.tcp(
          to: memory, source: address(source), destination: address(destination), header: header,
          payload: slices, payloadOctets: payload.octets.count, segmentOctets: 0,
          identification: 0x4321, trafficClass: 0x2a, checksum: .computed)
        #expect(written <= PacketWriter.tcpHeaderOctetsMax)
        return written
      }
      let result = try Written(octets)
      #expect(result.virtio == VirtioNetHeader() && result.sum == 0xffff)
      #expect(try checksumIsValid(result.packet))
      #expect(result.ip.source == address(source) && result.ip.destination == address(destination))
      #expect(result.ip.trafficClass == 0x2a && result.ip.dontFragment && result.ip.transport == 6)
      if result.ip.isIPv4 { #expect(result.ip.identification == 0x4321) }
      let parsed = try TCPHeader(parsing: result.segment.span.bytes)
      header.headerOctets = parsed.headerOctets
      let room = 40 - (header.options.octetsBeforeSACK) - 4
      if header.options.sackBlocks.count > room / 8 {
        var fitting = SACKBlocks()
        for index in 0..<room / 8 { fitting.append(header.options.sackBlocks[index]) }
        header.options.sackBlocks = fitting
      }
      #expect(parsed == header)
      #expect(Array(result.segment[parsed.headerOctets...]) == payload.octets)
      let whole = try ParsedPacket(parsing: result.packet.span.bytes)
      #expect(whole.payloadOctets == payload.octets.count)
      #expect(whole.payloadOffset == result.ip.headerOctets + parsed.headerOctets)
    }
  }

  @Test("an offloaded TCP super-packet is what the device expects", arguments: families)
  func tcpSuperPacket(source: String, destination: String) throws {
    let payload = Payload([UInt8](repeating: 5, count: 60_000))
    let header = TCPHeader(
      sourcePort: 80, destinationPort: 40000, sequence: SequenceNumber(1),
      acknowledgment: SequenceNumber(2), flags: [.ack, .cwr], window: 3)
    let octets = frame(payload, cuts: [16_384, 32_768]) { memory, slices in
      PacketWriter.tcp(
        to: memory, source: address(source), destination: address(destination), header: header,
        payload: slices, payloadOctets: 60_000, segmentOctets: 1448, checksum: .offloaded)
    }
    let result = try Written(octets)
    let ipOctets = result.ip.headerOctets
    #expect(
      result.virtio
        == VirtioNetHeader(
          flags: .needsChecksum, gsoType: (result.ip.isIPv4 ? 1 : 4) | 0x80,
          headerOctets: UInt16(ipOctets + 20), segmentOctets: 1448,
          checksumStart: UInt16(ipOctets), checksumOffset: 16))
    let partial = onesComplementSum(
      pseudoHeader(address(source), address(destination), 6, 60_020))
    #expect(Array(result.segment[16..<18]) == big16(Int(partial)))
  }

  @Test("one segment's worth of payload is no super-packet") func tcpSingle() throws {
    let payload = Payload([UInt8](repeating: 5, count: 1448))
    let header = TCPHeader(
      sourcePort: 80, destinationPort: 40000, sequence: SequenceNumber(1),
      acknowledgment: SequenceNumber(2), flags: .ack, window: 3)
    let octets = frame(payload) { memory, slices in
      PacketWriter.tcp(
        to: memory, source: address("10.0.0.1"), destination: address("10.0.0.2"), header: header,
        payload: slices, payloadOctets: 1448, segmentOctets: 1448, checksum: .offloaded)
    }
    let virtio = try Written(octets).virtio
    #expect(virtio.gsoType == 0 && virtio.segmentOctets == 0 && virtio.flags == .needsChecksum)
  }

  @Test("UDP comes back as it was, seed 7", arguments: families)
  func udpRoundTrip(source: String, destination: String) throws {
    var random = SeededGenerator(seed: 7)
    for round in 0..<300 {
      let payload = Payload(
        random.octets(round < 3 ? round : Int.random(in: 0...99, using: &random)))
      let octets = frame(payload, cuts: [7]) { memory, slices in
        PacketWriter.udp(
          to: memory, source: address(source), destination: address(destination), sourcePort: 53,
          destinationPort: 5353, payload: slices, payloadOctets: payload.octets.count,
          checksum: .computed)
      }
      let result = try Written(octets)
      #expect(result.virtio == VirtioNetHeader() && result.sum == 0xffff)
      let header = try UDPHeader(parsing: result.segment.span.bytes)
      #expect(header.sourcePort == 53 && header.destinationPort == 5353)
      #expect(header.payloadOctets == payload.octets.count && header.checksum != 0)
      #expect(Array(result.segment[8...]) == payload.octets)
    }
  }

  @Test("a UDP checksum of zero is sent as ones (RFC 768)", arguments: families)
  func udpZeroChecksum(source: String, destination: String) throws {
    // Two octets that bring the sum to 0xffff.
    let rest = onesComplementSum(
      pseudoHeader(address(source), address(destination), 17, 10) + big16(53) + big16(5353)
        + big16(10))
    let payload = Payload(big16(Int(~rest)))
    let octets = frame(payload) { memory, slices in
      PacketWriter.udp(
        to: memory, source: address(source), destination: address(destination), sourcePort: 53,
        destinationPort: 5353, payload: slices, payloadOctets: 2, checksum: .computed)
    }
    let result = try Written(octets)
    #expect(Array(result.segment[6..<8]) == [0xff, 0xff])
    #expect(try checksumIsValid(result.packet))
  }

  @Test("an offloaded UDP super-packet", arguments: families)
  func udpSuperPacket(source: String, destination: String) throws {
    let payload = Payload([UInt8](repeating: 5, count: 6000))
    let octets = frame(payload) { memory, slices in
      PacketWriter.udp(
        to: memory, source: address(source), destination: address(destination), sourcePort: 53,
        destinationPort: 5353, payload: slices, payloadOctets: 6000, segmentOctets: 1200,
        checksum: .offloaded)
    }
    let result = try Written(octets)
    #expect(result.virtio.segmentation == .udp && result.virtio.segmentOctets == 1200)
    #expect(result.virtio.checksumOffset == 6 && result.virtio.flags == .needsChecksum)
    #expect(Int(result.virtio.headerOctets) == result.ip.headerOctets + 8)
  }

  @Test("fragments join to a datagram with a right checksum", arguments: families)
  func fragments(source: String, destination: String) throws {
    var random = SeededGenerator(seed: 8)
    let source = address(source)
    let destination = address(destination)
    let payload = Payload(random.octets(3001))
    var datagram: [UInt8] = []
    for start in stride(from: 0, to: 3009, by: 1448) {
      let end = min(start + 1448, 3009)
      var frames = FrameQueue()
      let memory = frames.reserve(headerOctets: PacketWriter.fragmentHeaderOctetsMax + 8)
      var used = PacketWriter.fragment(
        to: memory, source: source, destination: destination, transport: 17,
        payloadOctets: end - start, fragmentOffset: start, moreFragments: end < 3009,
        identification: 0x0001_0002)
      if start == 0 {
        payload.slices().withUnsafeBufferPointer { slices in
          used += PacketWriter.udpHeader(
            to: memory + used, source: source, destination: destination, sourcePort: 1,
            destinationPort: 2, payload: slices, payloadOctets: 3001)
        }
      }
      let from = max(start - 8, 0)
      frames.append(Slice(payload.memory + from, end - 8 - from))
      frames.commit(headerOctets: used)
      let result = try Written(frameOctets(frames))
      #expect(result.ip.isFragment && result.ip.fragmentOffset == start)
      #expect(result.ip.moreFragments == (end < 3009) && result.ip.transport == 17)
      #expect(result.ip.identification == (result.ip.isIPv4 ? 2 : 0x0001_0002))
      datagram += result.segment
    }
    #expect(Array(datagram[8...]) == payload.octets)
    #expect(
      onesComplementSum(pseudoHeader(source, destination, 17, datagram.count) + datagram) == 0xffff)
  }

  @Test("ICMP of both families", arguments: families)
  func icmp(source: String, destination: String) throws {
    for count in [0, 1, 56, 1001] {
      let body = [UInt8](repeating: 0xa5, count: count)
      var frames = FrameQueue()
      let isIPv4 = address(source).isIPv4
      let octets = PacketWriter.icmpFrameOctets(bodyOctets: count, isIPv4: isIPv4)
      let written = PacketWriter.icmp(
        to: frames.reserve(headerOctets: octets), source: address(source),
        destination: address(destination), type: 3, code: 4, rest: 0x0102_0304,
        body: body.span.bytes)
      #expect(written == octets)
      frames.commit(headerOctets: written)
      let result = try Written(frameOctets(frames))
      #expect(result.ip.transport == (isIPv4 ? 1 : 58))
      #expect(result.segment[..<2] == [3, 4] && result.segment[4..<8] == [1, 2, 3, 4])
      #expect(Array(result.segment[8...]) == body)
      #expect((isIPv4 ? onesComplementSum(result.segment) : result.sum) == 0xffff)
    }
  }
}

extension TCPOptions {
  /// Octets that the options take which stand before SACK blocks.
  fileprivate var octetsBeforeSACK: Int {
    (maximumSegmentSize == nil ? 0 : 4) + (windowScale == nil ? 0 : 4)
      + (timestamp != nil ? 12 : sackPermitted ? 4 : 0)
  }
}
