// What a client's kernel does with the frames that carry one datagram: join fragments, check the
// checksum, hand over the payload. Strict: fragments must come in order, without gap or overlap.

import Primitives
import TestSupport
import Testing
import UDP
import Wire

/// The packets of a queue, and the datagram that they carry.
struct Received {
  var packets: [IPHeader] = []
  /// Octets of each packet.
  var packetOctets: [Int] = []
  /// UDP header and payload.
  var datagram: [UInt8] = []

  var payload: [UInt8] { Array(datagram.dropFirst(UDPHeader.octets)) }

  init(_ frames: borrowing FrameQueue, from first: Int = 0) throws {
    for index in first..<frames.count {
      let frame = frameOctets(frames, index)
      let virtio = try VirtioNetHeader(parsing: frame.span.bytes)
      let packet = Array(frame[VirtioNetHeader.octets...])
      let ip = try IPHeader(parsing: packet.span.bytes)
      #expect(virtio.segmentation == VirtioNetHeader.Segmentation.none)
      #expect(virtio.flags.isEmpty)
      #expect(ip.totalOctets == packet.count)
      #expect(ip.transport == TransportProtocol.udp.rawValue)
      #expect(ip.fragmentOffset == datagram.count)
      packets.append(ip)
      packetOctets.append(packet.count)
      datagram += packet[ip.headerOctets...]
    }
  }

  /// The sum over pseudo-header and datagram, 0xffff when the checksum is right (RFC 768).
  var checksumSum: UInt16 {
    let ip = packets[0]
    return onesComplementSum(
      ip.source.octets + ip.destination.octets + big32(datagram.count) + big32(17) + datagram)
  }
}

func tuple(isIPv4: Bool) throws -> FiveTuple {
  FiveTuple(
    client: try #require(IPAddress(isIPv4 ? "10.77.0.2" : "fd00:77::2")),
    virtual: try #require(IPAddress(isIPv4 ? "10.77.0.10" : "fd00:77::10")),
    clientPort: 40_000, virtualPort: 53, transport: .udp)
}

/// Octets of the IP header, and of all headers in front of a fragment's data.
func headers(isIPv4: Bool) -> (whole: Int, fragment: Int) { isIPv4 ? (20, 20) : (40, 48) }

/// Writes one datagram into a fresh queue and receives it, checked but for its checksum.
func delivered(
  _ payload: Payload, isIPv4: Bool, mtu: Int, identification: UInt32 = 0xABCD_1234,
  checksum: ChecksumMode = .computed
) throws -> Received {
  var frames = FrameQueue()
  try DatagramWriter.write(
    payload.slice, tuple: tuple(isIPv4: isIPv4), mtu: mtu, identification: identification,
    checksum: checksum, into: &frames)
  return try Received(frames)
}
