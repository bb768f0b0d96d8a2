import Primitives
import Wire

// The client's own way with packets: written and read apart from `Wire`, so that the code under test
// meets another reading of the RFCs (RFC 791, RFC 8200, RFC 9293 §3.1, RFC 7323, RFC 2018).
//
// Packets are byte arrays without the virtio-net header. Numbers are plain integers here.

/// One end's names.
struct Addressing {
  var isIPv4: Bool
  var client: [UInt8]
  var virtual: [UInt8]
  var clientPort: UInt16
  var virtualPort: UInt16

  var headerOctets: Int { isIPv4 ? 20 : 40 }
  var clientAddress: IPAddress { IPAddress(octets: client) ?? .anyIPv6 }
  var virtualAddress: IPAddress { IPAddress(octets: virtual) ?? .anyIPv6 }
  var tuple: FiveTuple {
    FiveTuple(
      client: clientAddress, virtual: virtualAddress, clientPort: clientPort,
      virtualPort: virtualPort, transport: .tcp)
  }
}

enum Flag {
  static let fin: UInt8 = 1
  static let syn: UInt8 = 2
  static let rst: UInt8 = 4
  static let psh: UInt8 = 8
  static let ack: UInt8 = 16
  static let urg: UInt8 = 32
  static let ece: UInt8 = 64
  static let cwr: UInt8 = 128
}

/// Low bits of the traffic class (RFC 3168 §5).
enum Codepoint {
  static let none: UInt8 = 0
  static let capable1: UInt8 = 1
  static let capable: UInt8 = 2
  static let marked: UInt8 = 3
}

/// A TCP header as the client sees it.
struct Segment {
  /// Of the packet that it comes in: see `Codepoint`.
  var codepoint: UInt8 = 0
  var sequence: UInt32 = 0
  var acknowledgment: UInt32 = 0
  var flags: UInt8 = 0
  var window: UInt16 = 0
  var urgentPointer: UInt16 = 0
  var maximumSegment: Int?
  var scale: Int?
  var permitsSACK = false
  var timestamp: (value: UInt32, echo: UInt32)?
  var blocks: [(start: UInt32, end: UInt32)] = []
  /// Where the payload lies in the packet.
  var payload = 0..<0

  func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}

extension [UInt8] {
  func big16(_ i: Int) -> UInt16 { UInt16(self[i]) << 8 | UInt16(self[i + 1]) }
  func big32(_ i: Int) -> UInt32 { UInt32(big16(i)) << 16 | UInt32(big16(i + 2)) }
  mutating func put16(_ value: UInt16, _ i: Int) {
    self[i] = UInt8(value >> 8)
    self[i + 1] = UInt8(truncatingIfNeeded: value)
  }
  mutating func put32(_ value: UInt32, _ i: Int) {
    put16(UInt16(value >> 16), i)
    put16(UInt16(truncatingIfNeeded: value), i + 2)
  }
  mutating func add16(_ value: UInt16) {
    append(contentsOf: [UInt8(value >> 8), UInt8(value & 255)])
  }
  mutating func add32(_ value: UInt32) {
    add16(UInt16(value >> 16))
    add16(UInt16(truncatingIfNeeded: value))
  }
}

enum Packets {
  /// The ones-complement sum of an array's part that begins at a multiple of four.
  static func sum(_ octets: [UInt8], _ range: Range<Int>) -> UInt64 {
    octets.withUnsafeBytes { all in
      var total: UInt64 = 0
      let whole = range.count / 4
      if whole > 0, let base = all.baseAddress {
        let words = (base + range.lowerBound).assumingMemoryBound(to: UInt32.self)
        var i = 0
        while i < whole {
          total &+= UInt64(words[i])
          i &+= 1
        }
      }
      var tail: UInt32 = 0
      var shift: UInt32 = 0
      for i in range.lowerBound + whole * 4..<range.upperBound {
        tail |= UInt32(all[i]) << shift
        shift += 8
      }
      return total + UInt64(tail)
    }
  }

  static func fold(_ total: UInt64) -> UInt16 {
    var total = total
    while total >> 16 != 0 { total = (total & 0xffff) + (total >> 16) }
    return UInt16(total).byteSwapped
  }

  /// The sum of addresses, protocol and length (RFC 9293 §3.1, RFC 8200 §8.1).
  static func pseudoSum(
    _ packet: [UInt8], isIPv4: Bool, octets: Int, protocolNumber: UInt32 = 6
  ) -> UInt64 {
    let addresses = isIPv4 ? sum(packet, 12..<20) : sum(packet, 8..<40)
    return addresses + UInt64(UInt32(octets).byteSwapped)
      + UInt64(protocolNumber.byteSwapped)
  }

  /// What a device does with NEEDS_CSUM: the field holds the pseudo-header's sum.
  static func complete(_ packet: inout [UInt8]) {
    let start = packet[0] >> 4 == 4 ? 20 : 40
    packet.put16(~fold(sum(packet, start..<packet.count)), start + 16)
  }

  /// Computes and stores the checksums of an IP packet with a TCP segment.
  static func seal(_ packet: inout [UInt8], isIPv4: Bool) {
    let start = isIPv4 ? 20 : 40
    if isIPv4 {
      packet.put16(0, 10)
      packet.put16(~fold(sum(packet, 0..<20)), 10)
    }
    packet.put16(0, start + 16)
    let octets = packet.count - start
    let total =
      pseudoSum(packet, isIPv4: isIPv4, octets: octets) + sum(packet, start..<packet.count)
    packet.put16(~fold(total), start + 16)
  }

  static func isSound(_ packet: [UInt8], isIPv4: Bool) -> Bool {
    let start = isIPv4 ? 20 : 40
    if isIPv4, fold(sum(packet, 0..<20)) != 0xffff { return false }
    let octets = packet.count - start
    return fold(
      pseudoSum(packet, isIPv4: isIPv4, octets: octets) + sum(packet, start..<packet.count))
      == 0xffff
  }

  /// A client's packet, its checksums computed.
  static func build(
    _ addressing: Addressing, _ segment: Segment, key: Int, offset: Int, octets: Int
  ) -> [UInt8] {
    var options: [UInt8] = []
    if let mss = segment.maximumSegment {
      options += [2, 4]
      options.add16(UInt16(mss))
    }
    if segment.permitsSACK { options += [4, 2] }
    if let stamp = segment.timestamp {
      options += [8, 10]
      options.add32(stamp.value)
      options.add32(stamp.echo)
    }
    if let scale = segment.scale { options += [3, 3, UInt8(scale)] }
    let blocks = min(segment.blocks.count, (38 - options.count) / 8)
    if blocks > 0 {
      options += [5, UInt8(2 + 8 * blocks)]
      for block in segment.blocks[..<blocks] {
        options.add32(block.start)
        options.add32(block.end)
      }
    }
    while options.count % 4 != 0 { options.append(1) }
    let transport = 20 + options.count + octets
    var packet: [UInt8] = []
    packet.reserveCapacity(addressing.headerOctets + transport)
    if addressing.isIPv4 {
      packet += [0x45, segment.codepoint]
      packet.add16(UInt16(20 + transport))
      packet += [0, 0, 0x40, 0, 64, 6, 0, 0]
    } else {
      packet += [0x60, segment.codepoint << 4, 0, 0]
      packet.add16(UInt16(transport))
      packet += [6, 64]
    }
    packet += addressing.client + addressing.virtual
    packet.add16(addressing.clientPort)
    packet.add16(addressing.virtualPort)
    packet.add32(segment.sequence)
    packet.add32(segment.acknowledgment)
    packet += [UInt8((20 + options.count) / 4) << 4, segment.flags]
    packet.add16(segment.window)
    packet += [0, 0]
    packet.add16(segment.urgentPointer)
    packet += options
    if octets > 0 {
      let start = packet.count
      packet += [UInt8](unsafeUninitializedCapacity: octets) { memory, count in
        if let base = memory.baseAddress {
          Pattern.fill(base, key: key, offset: offset, count: octets)
        }
        count = octets
      }
      precondition(packet.count == start + octets)
    }
    seal(&packet, isIPv4: addressing.isIPv4)
    return packet
  }

  /// What a router says about a packet that is longer than the path behind it takes (RFC 1191 §4,
  /// RFC 8201 §4).
  static func tooBig(_ packet: [UInt8], mtu: Int, _ addressing: Addressing) -> [UInt8] {
    let quoted = packet.prefix(addressing.isIPv4 ? 60 : 576)
    var message: [UInt8] = addressing.isIPv4 ? [3, 4, 0, 0, 0, 0] : [2, 0, 0, 0]
    if addressing.isIPv4 { message.add16(UInt16(mtu)) } else { message.add32(UInt32(mtu)) }
    message += quoted
    var answer: [UInt8]
    if addressing.isIPv4 {
      answer = [0x45, 0]
      answer.add16(UInt16(20 + message.count))
      answer += [0, 0, 0, 0, 64, 1, 0, 0, 10, 77, 0, 1] + addressing.virtual
      answer.put16(~fold(sum(answer, 0..<20)), 10)
    } else {
      answer = [0x60, 0, 0, 0]
      answer.add16(UInt16(message.count))
      answer += [58, 64, 0xfd, 0x77] + [UInt8](repeating: 0, count: 13) + [1] + addressing.virtual
    }
    let start = answer.count
    answer += message
    var total = sum(answer, start..<answer.count)
    if !addressing.isIPv4 {
      total += pseudoSum(answer, isIPv4: false, octets: message.count, protocolNumber: 58)
    }
    answer.put16(~fold(total), start + 2)
    return answer
  }

  /// Reads a TCP packet; nil when it is no TCP packet.
  static func parse(_ packet: [UInt8]) -> Segment? {
    guard let first = packet.first else { return nil }
    let isIPv4 = first >> 4 == 4
    let start = isIPv4 ? 20 : 40
    guard packet.count >= start + 20, packet[isIPv4 ? 9 : 6] == 6 else { return nil }
    var segment = Segment()
    segment.codepoint = codepoint(packet)
    segment.sequence = packet.big32(start + 4)
    segment.acknowledgment = packet.big32(start + 8)
    segment.flags = packet[start + 13]
    segment.window = packet.big16(start + 14)
    let end = start + Int(packet[start + 12] >> 4) * 4
    guard end >= start + 20, end <= packet.count else { return nil }
    segment.payload = end..<packet.count
    var at = start + 20
    while at < end {
      let kind = packet[at]
      if kind == 0 { break }
      if kind == 1 {
        at += 1
        continue
      }
      guard at + 1 < end, packet[at + 1] >= 2, at + Int(packet[at + 1]) <= end else { return nil }
      switch kind {
      case 2: segment.maximumSegment = Int(packet.big16(at + 2))
      case 3: segment.scale = Int(packet[at + 2])
      case 4: segment.permitsSACK = true
      case 5:
        for i in stride(from: at + 2, to: at + Int(packet[at + 1]), by: 8) {
          segment.blocks.append((packet.big32(i), packet.big32(i + 4)))
        }
      case 8: segment.timestamp = (packet.big32(at + 2), packet.big32(at + 6))
      default: return nil
      }
      at += Int(packet[at + 1])
    }
    return segment
  }

  static func codepoint(_ packet: [UInt8]) -> UInt8 {
    packet[0] >> 4 == 4 ? packet[1] & 3 : packet[1] >> 4 & 3
  }

  /// What a congested queue does to a packet whose ends know of ECN.
  static func mark(_ packet: inout [UInt8]) {
    guard packet[0] >> 4 == 4 else {
      packet[1] |= Codepoint.marked << 4
      return
    }
    packet[1] |= Codepoint.marked
    packet.put16(0, 10)
    packet.put16(~fold(sum(packet, 0..<20)), 10)
  }

  /// What a device does to a super-packet: cuts it, one packet for each `segmentOctets` of payload. CWR
  /// stays with the first (virtio 1.2 §5.1.6.2, VIRTIO_NET_HDR_GSO_ECN).
  static func cut(_ packet: [UInt8], segmentOctets: Int) -> [[UInt8]] {
    guard segmentOctets > 0, let segment = parse(packet), segment.payload.count > segmentOctets
    else { return [packet] }
    let isIPv4 = packet[0] >> 4 == 4
    let start = isIPv4 ? 20 : 40
    let headers = segment.payload.lowerBound
    var pieces: [[UInt8]] = []
    var offset = headers
    while offset < packet.count {
      let end = min(packet.count, offset + segmentOctets)
      var piece = Array(packet[..<headers])
      piece += packet[offset..<end]
      if isIPv4 {
        piece.put16(UInt16(piece.count), 2)
      } else {
        piece.put16(UInt16(piece.count - 40), 4)
      }
      piece.put32(segment.sequence &+ UInt32(offset - headers), start + 4)
      if end < packet.count { piece[start + 13] &= ~(Flag.fin | Flag.psh) }
      if offset > headers { piece[start + 13] &= ~Flag.cwr }
      seal(&piece, isIPv4: isIPv4)
      pieces.append(piece)
      offset = end
    }
    return pieces
  }
}
