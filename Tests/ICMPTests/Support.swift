// Packets made by hand for the tests of this target.

import ICMP
import TestSupport
import Wire

func address(_ text: String) -> IPAddress {
  guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
  return address
}

/// An IP packet by the family of its addresses, without options or extension headers.
func packet(
  from source: String, to destination: String, transport: Int, fragmentation: Int = 0,
  payload: [UInt8]
) -> [UInt8] {
  let addresses = address(source).octets + address(destination).octets
  if addresses.count == 32 {
    return [0x60, 0, 0, 0] + big16(payload.count) + [UInt8(transport), 63] + addresses + payload
  }
  var header =
    [0x45, 0] + big16(20 + payload.count) + big16(0x7788) + big16(fragmentation)
    + [63, UInt8(transport), 0, 0] + addresses
  header.replaceSubrange(10..<12, with: big16(Int(~onesComplementSum(header))))
  return header + payload
}

/// An ICMP or ICMPv6 message with a right checksum.
func icmp(
  from source: String, to destination: String, type: Int, code: Int = 0, rest: [UInt8],
  body: [UInt8] = []
) -> [UInt8] {
  let isIPv4 = address(source).isIPv4
  var message = [UInt8(type), UInt8(code), 0, 0] + rest + body
  let pseudo =
    isIPv4
    ? []
    : address(source).octets + address(destination).octets + big32(message.count) + big32(58)
  message.replaceSubrange(2..<4, with: big16(Int(~onesComplementSum(pseudo + message))))
  return packet(from: source, to: destination, transport: isIPv4 ? 1 : 58, payload: message)
}

let tcpSegment: [UInt8] =
  big16(40000) + big16(80) + big32(0x0102_0304) + big32(0) + [0x50, 2, 0xff, 0xff, 0, 0, 0, 0]

/// The only frame of a queue, read back and checked: its IP header and ICMP message.
struct Reply {
  var ip: IPHeader
  var packet: [UInt8]
  var message: [UInt8]
  var body: [UInt8] { Array(message[8...]) }

  init?(_ frames: borrowing FrameQueue) throws {
    guard frames.count == 1 else { return nil }
    let octets = frames.slices(of: 0).flatMap { slice in
      Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
    }
    let packet = Array(octets[VirtioNetHeader.octets...])
    let ip = try IPHeader(parsing: packet.span.bytes)
    let message = Array(packet[ip.headerOctets..<ip.totalOctets])
    let pseudo =
      ip.isIPv4
      ? [] : ip.source.octets + ip.destination.octets + big32(message.count) + big32(58)
    guard onesComplementSum(pseudo + message) == 0xffff, ip.transport == (ip.isIPv4 ? 1 : 58),
      ip.totalOctets == packet.count
    else { return nil }
    self.ip = ip
    self.packet = packet
    self.message = message
  }
}

/// Runs `write` on a fresh queue: the reply, or the reason for none.
func reply(
  to octets: [UInt8],
  _ write: (RawSpan, IPHeader, inout FrameQueue) throws(DropReason) -> Void
) throws -> Result<Reply, DropReason> {
  let header = try IPHeader(parsing: octets.span.bytes)
  var frames = FrameQueue()
  do throws(DropReason) {
    try write(octets.span.bytes, header, &frames)
  } catch {
    return frames.isEmpty ? .failure(error) : .failure(.unknownFlow)
  }
  guard let reply = try Reply(frames) else { return .failure(.icmpBadChecksum) }
  return .success(reply)
}
