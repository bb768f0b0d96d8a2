import Configuration
import Primitives
import Stack
import TCP
import TestSupport
import Testing
import Wire

// A client's packets and a small client that keeps count of its sequence numbers; rules by text.

func address(_ text: String) -> IPAddress {
  guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
  return address
}

let client4 = address("192.0.2.7")
let virtual4 = address("10.77.0.10")
let client6 = address("2001:db8::7")
let virtual6 = address("fd77::10")

/// A rule for a port range of everything that reaches the device.
func rule(
  _ name: String, _ protocols: ProtocolSet = .tcp, ports: PortRange = PortRange(80),
  to target: String = "203.0.113.5", port: UInt16 = 8080, maxConnections: Int? = nil,
  onReload: ReloadPolicy = .keep
) -> ForwardRule {
  ForwardRule(
    name: name, protocols: protocols, listen: [ListenPattern(addresses: .any, ports: ports)],
    target: Target(host: .address(address(target)), port: .fixed(port)), idleTimeout: .seconds(600),
    maxConnections: maxConnections, onReload: onReload)
}

private func packet(
  _ source: IPAddress, _ payload: [UInt8],
  write: (UnsafeMutableRawPointer, UnsafeBufferPointer<Slice>) -> Int
) -> [UInt8] {
  var payload = payload
  let octets = payload.withUnsafeMutableBytes { body in
    let slice = Slice(body.baseAddress, body.count)
    return withUnsafePointer(to: slice) { slices in
      var header = [UInt8](repeating: 0, count: 256)
      let used = header.withUnsafeMutableBytes { memory in
        memory.baseAddress.map { write($0, UnsafeBufferPointer(start: slices, count: 1)) } ?? 0
      }
      return Array(header[VirtioNetHeader.octets..<used])
    }
  }
  return octets + payload
}

func tcpPacket(
  from source: IPAddress = client4, to destination: IPAddress = virtual4, port: UInt16 = 40_000,
  virtualPort: UInt16 = 80, _ flags: TCPFlags, sequence: UInt32, acknowledgment: UInt32 = 0,
  window: UInt16 = 64_000, options: TCPOptions = TCPOptions(), payload: [UInt8] = [],
  trafficClass: UInt8 = 0
) -> [UInt8] {
  packet(source, payload) { memory, slices in
    PacketWriter.tcp(
      to: memory, source: source, destination: destination,
      header: TCPHeader(
        sourcePort: port, destinationPort: virtualPort, sequence: SequenceNumber(sequence),
        acknowledgment: SequenceNumber(acknowledgment), flags: flags, window: window,
        options: options),
      payload: slices, payloadOctets: payload.count, segmentOctets: 0,
      trafficClass: trafficClass, checksum: .computed)
  }
}

func udpPacket(
  from source: IPAddress = client4, to destination: IPAddress = virtual4, port: UInt16 = 40_000,
  virtualPort: UInt16 = 53, payload: [UInt8]
) -> [UInt8] {
  packet(source, payload) { memory, slices in
    PacketWriter.udp(
      to: memory, source: source, destination: destination, sourcePort: port,
      destinationPort: virtualPort, payload: slices, payloadOctets: payload.count,
      checksum: .computed)
  }
}

func echoPacket(
  from source: IPAddress = client4, to destination: IPAddress = virtual4, body: [UInt8]
) -> [UInt8] {
  var memory = [UInt8](repeating: 0, count: 128 + body.count)
  let used = memory.withUnsafeMutableBytes { buffer in
    buffer.baseAddress.map {
      PacketWriter.icmp(
        to: $0, source: source, destination: destination, type: source.isIPv4 ? 8 : 128, code: 0,
        rest: 0x0102_0003, body: body.span.bytes)
    } ?? 0
  }
  return Array(memory[VirtioNetHeader.octets..<used])
}

/// An ICMP error, or ICMPv6 by the addresses' family, from a router or the client itself.
func icmpError(
  from source: IPAddress = client4, to destination: IPAddress = virtual4, type: UInt8,
  code: UInt8 = 0, rest: UInt32 = 0, quoting quote: [UInt8]
) -> [UInt8] {
  var memory = [UInt8](repeating: 0, count: 128 + quote.count)
  let used = memory.withUnsafeMutableBytes { buffer in
    buffer.baseAddress.map {
      PacketWriter.icmp(
        to: $0, source: source, destination: destination, type: type, code: code, rest: rest,
        body: quote.span.bytes)
    } ?? 0
  }
  return Array(memory[VirtioNetHeader.octets..<used])
}

/// An IP packet without options in fragments of at most so many octets of payload.
func fragments(_ packet: [UInt8], of octets: Int, identification: Int = 7) -> [[UInt8]] {
  let isIPv4 = packet[0] >> 4 == 4
  let payload = Array(packet[(isIPv4 ? 20 : 40)...])
  return stride(from: 0, to: payload.count, by: octets).map { start in
    let part = Array(payload[start..<min(start + octets, payload.count)])
    let more = start + octets < payload.count
    var header = Array(packet[..<(isIPv4 ? 20 : 40)])
    guard isIPv4 else {
      header.replaceSubrange(4...6, with: big16(8 + part.count) + [44])
      return header + [packet[6], 0] + big16(start | (more ? 1 : 0)) + big32(identification)
        + part
    }
    header.replaceSubrange(2...3, with: big16(20 + part.count))
    let place = start / 8 | (more ? 0x2000 : 0)
    header.replaceSubrange(4...7, with: big16(identification) + big16(place))
    header.replaceSubrange(10...11, with: [0, 0])
    header.replaceSubrange(10...11, with: big16(Int(~onesComplementSum(header))))
    return header + part
  }
}

/// One TCP client.
struct Client {
  let world: World
  var port: UInt16 = 40_000
  var isIPv4 = true
  var sequence: UInt32 = 0xFFFF_FFF0
  var acknowledgment: UInt32 = 0

  init(_ world: World, port: UInt16 = 40_000, isIPv4: Bool = true) {
    self.world = world
    self.port = port
    self.isIPv4 = isIPv4
  }

  func packet(
    _ flags: TCPFlags, options: TCPOptions = TCPOptions(), payload: [UInt8] = [],
    window: UInt16 = 64_000
  ) -> [UInt8] {
    tcpPacket(
      from: isIPv4 ? client4 : client6, to: isIPv4 ? virtual4 : virtual6, port: port, flags,
      sequence: sequence, acknowledgment: flags.contains(.ack) ? acknowledgment : 0,
      window: window, options: options, payload: payload)
  }

  mutating func send(
    _ flags: TCPFlags, _ payload: [UInt8] = [], virtio: VirtioNetHeader = VirtioNetHeader()
  ) {
    world.send(packet(flags, payload: payload), virtio: virtio)
    sequence &+= UInt32(payload.count)
    if flags.contains(.syn) || flags.contains(.fin) { sequence &+= 1 }
  }

  /// Acknowledges everything that came in order; returns its payload.
  mutating func receive(window: UInt16 = 64_000) -> (octets: [UInt8], flags: TCPFlags) {
    var octets: [UInt8] = []
    var flags: TCPFlags = []
    for reply in world.take() {
      guard let header = reply.tcp else { continue }
      flags.formUnion(header.flags)
      guard header.sequence.rawValue == acknowledgment, !header.flags.contains(.rst) else {
        continue
      }
      octets += reply.payload
      acknowledgment &+= UInt32(reply.payload.count)
      if header.flags.contains(.fin) { acknowledgment &+= 1 }
    }
    if !octets.isEmpty || flags.contains(.fin) { world.send(packet(.ack, window: window)) }
    return (octets, flags)
  }

  /// The same, with windows that scale.
  /// - Returns: the stack's shift.
  mutating func connect(scaling options: TCPOptions) throws -> Int {
    world.send(packet(.syn, options: options))
    sequence &+= 1
    let answer = try #require(world.take().last?.tcp)
    acknowledgment = answer.sequence.rawValue &+ 1
    send(.ack)
    return Int(try #require(answer.options.windowScale))
  }

  /// SYN, SYN-ACK, ACK.
  mutating func connect(maximumSegmentSize: UInt16? = nil) throws {
    var options = TCPOptions()
    options.maximumSegmentSize = maximumSegmentSize
    world.send(packet(.syn, options: options))
    sequence &+= 1
    let answer = try #require(world.take().last?.tcp)
    #expect(answer.flags == [.syn, .ack])
    acknowledgment = answer.sequence.rawValue &+ 1
    send(.ack)
    #expect(world.take().isEmpty)
  }
}

/// What a world keeps when nobody is there: nothing.
func expectEmpty(_ world: World, sourceLocation: SourceLocation = #_sourceLocation) {
  let memory = (
    chunks: world.stack.memory.chunks.count, records: world.stack.memory.sent.count,
    stores: world.stack.memory.stores.count, slices: world.stack.memory.pending.count
  )
  #expect(memory == (0, 0, 0, 0), sourceLocation: sourceLocation)
  let endpoints = world.stack.endpoints.awakeCount
  #expect(endpoints == 0, sourceLocation: sourceLocation)
  let deadline = world.stack.nextDeadline()
  #expect(deadline == nil, sourceLocation: sourceLocation)
  let left = (world.stack.flowCount, world.stack.requestCount, world.sockets.count)
  #expect(left == (0, 0, 0), sourceLocation: sourceLocation)
}
