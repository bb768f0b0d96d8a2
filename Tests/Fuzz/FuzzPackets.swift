import Primitives
import Wire

// Frames as a device gives them, made by our own writer and cut up by hand.

enum FuzzPackets {
  /// A frame whose headers `write` stores in front of a payload.
  static func frame(
    _ payload: [UInt8],
    write: (UnsafeMutableRawPointer, UnsafeBufferPointer<Slice>) -> Int
  ) -> [UInt8] {
    var payload = payload
    let header = payload.withUnsafeMutableBytes { body in
      withUnsafePointer(to: Slice(body.baseAddress, body.count)) { slice in
        [UInt8](unsafeUninitializedCapacity: 256) { memory, count in
          if let base = UnsafeMutableRawPointer(memory.baseAddress) {
            count = write(base, UnsafeBufferPointer(start: slice, count: 1))
          }
        }
      }
    }
    return header + payload
  }

  static func icmp(
    from source: IPAddress, to destination: IPAddress, type: UInt8, code: UInt8, rest: UInt32,
    body: [UInt8]
  ) -> [UInt8] {
    let octets = PacketWriter.icmpFrameOctets(bodyOctets: body.count, isIPv4: source.isIPv4)
    return [UInt8](unsafeUninitializedCapacity: octets) { memory, count in
      if let base = UnsafeMutableRawPointer(memory.baseAddress) {
        count = PacketWriter.icmp(
          to: base, source: source, destination: destination, type: type, code: code, rest: rest,
          body: body.span.bytes)
      }
    }
  }

  /// The beginning of a packet as an ICMP error quotes it.
  static func quotation(
    from source: IPAddress, _ sourcePort: UInt16, to destination: IPAddress,
    _ destinationPort: UInt16, isTCP: Bool, sequence: UInt32
  ) -> [UInt8] {
    let whole = frame([]) { memory, slices in
      guard isTCP else {
        return PacketWriter.udp(
          to: memory, source: source, destination: destination, sourcePort: sourcePort,
          destinationPort: destinationPort, payload: slices, payloadOctets: 0, checksum: .computed)
      }
      let header = TCPHeader(
        sourcePort: sourcePort, destinationPort: destinationPort,
        sequence: SequenceNumber(sequence), acknowledgment: SequenceNumber(0), flags: .ack,
        window: 0)
      return PacketWriter.tcp(
        to: memory, source: source, destination: destination, header: header, payload: slices,
        payloadOctets: 0, segmentOctets: 0, checksum: .computed)
    }
    return Array(whole[VirtioNetHeader.octets...].prefix((source.isIPv4 ? 20 : 40) + 8))
  }

  /// The packet of a frame in two fragments, the second of which may overlap the first, come first, or
  /// not at all.
  /// - Parameter cut: where, in units of eight octets; its two highest bits say what goes wrong.
  static func fragments(
    of frame: [UInt8], from source: IPAddress, to destination: IPAddress, isTCP: Bool, cut: Int
  ) -> [[UInt8]] {
    let body = Array(frame[(VirtioNetHeader.octets + (source.isIPv4 ? 20 : 40))...])
    let border = min(body.count, (cut & 63) * 8) & ~7
    guard border > 0, border < body.count else { return [frame] }
    func fragment(_ range: Range<Int>) -> [UInt8] {
      self.frame(Array(body[range])) { memory, _ in
        PacketWriter.fragment(
          to: memory, source: source, destination: destination, transport: isTCP ? 6 : 17,
          payloadOctets: range.count, fragmentOffset: range.lowerBound,
          moreFragments: range.upperBound < body.count, identification: UInt32(body.count))
      }
    }
    let first = fragment(0..<border)
    switch cut >> 6 {
    case 0: return [first, fragment(border..<body.count)]
    case 1: return [fragment(border..<body.count), first]
    case 2: return [first, fragment(max(0, border - 8)..<body.count)]
    default: return [first]
    }
  }
}
