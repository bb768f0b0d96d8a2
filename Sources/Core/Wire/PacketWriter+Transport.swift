// TCP segments and UDP datagrams out, alone or as super-packets.
//
// A super-packet is one frame whose payload the device cuts: the headers are written once, for the
// whole, and `segmentOctets` says how much payload each piece gets (virtio 1.2 §5.1.6.2). Its
// length fields span all of it.

import Primitives

extension PacketWriter {
  /// Octets of virtio-net, IPv6 and the longest TCP header.
  package static let tcpHeaderOctetsMax =
    VirtioNetHeader.octets + 40 + TCPHeader.octetsMin + TCPOptions.octetsMax
  /// Octets of virtio-net, IPv6 and UDP header.
  package static let udpHeaderOctetsMax = VirtioNetHeader.octets + 40 + UDPHeader.octets

  /// Stores the headers of a TCP segment and returns their octets, at most `tcpHeaderOctetsMax`.
  /// IPv4 segments have DF set.
  ///
  /// - Parameters:
  ///   - header: everything but the checksum; `headerOctets` is ignored.
  ///   - payload: the slices behind the headers; walked for `computed` checksums only.
  ///   - payloadOctets: of all slices together.
  ///   - segmentOctets: payload of each segment when there is more payload than that, which takes
  ///     an `offloaded` checksum; else without effect, and may be 0.
  package static func tcp(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
    header: TCPHeader, payload: UnsafeBufferPointer<Slice>, payloadOctets: Int,
    segmentOctets: Int, identification: UInt16 = 0, trafficClass: UInt8 = 0,
    checksum: ChecksumMode
  ) -> Int {
    let prefix = prefixOctets(isIPv4: source.isIPv4)
    let segment = memory + prefix
    let headerOctets = TCPHeader.octetsMin + header.options.write(to: segment + TCPHeader.octetsMin)
    segment.put(big: header.sourcePort, at: 0)
    segment.put(big: header.destinationPort, at: 2)
    segment.put(big: header.sequence.rawValue, at: 4)
    segment.put(big: header.acknowledgment.rawValue, at: 8)
    segment.put(big: UInt16(headerOctets / 4) << 12 | UInt16(header.flags.rawValue), at: 12)
    segment.put(big: header.window, at: 14)
    segment.put(big: 0 as UInt16, at: 16)
    segment.put(big: header.urgentPointer, at: 18)

    _ = ip(
      to: memory + VirtioNetHeader.octets, source: source, destination: destination,
      fields: IPFields(
        transport: IPProtocol.tcp, trafficClass: trafficClass, identification: identification,
        fragmentation: dontFragment),
      payloadOctets: headerOctets + payloadOctets)
    var virtio = finishChecksum(
      at: segment, headerOctets: headerOctets, field: 16, protocolNumber: IPProtocol.tcp,
      source: source, destination: destination, payload: payload, payloadOctets: payloadOctets,
      mode: checksum)
    if segmentOctets > 0 && payloadOctets > segmentOctets {
      precondition(checksum == .offloaded, "a super-packet needs an offloaded checksum")
      let kind: VirtioNetHeader.Segmentation = source.isIPv4 ? .tcpIPv4 : .tcpIPv6
      virtio.gsoType =
        kind.rawValue | (header.flags.contains(.cwr) ? VirtioNetHeader.ecnBit : 0)
      virtio.segmentOctets = UInt16(segmentOctets)
    }
    virtio.write(to: memory)
    return prefix + headerOctets
  }

  /// Stores the headers of a UDP datagram, or of a super-packet of datagrams, and returns their
  /// octets, at most `udpHeaderOctetsMax`. IPv4 datagrams have DF set.
  ///
  /// - Parameters:
  ///   - payload: the slices behind the headers; walked for `computed` checksums only.
  ///   - payloadOctets: of all slices together.
  ///   - segmentOctets: payload of each datagram when there is more than that, which takes an
  ///     `offloaded` checksum; 0 makes one datagram.
  package static func udp(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
    sourcePort: UInt16, destinationPort: UInt16, payload: UnsafeBufferPointer<Slice>,
    payloadOctets: Int, segmentOctets: Int = 0, identification: UInt16 = 0,
    trafficClass: UInt8 = 0, checksum: ChecksumMode
  ) -> Int {
    let prefix = prefixOctets(isIPv4: source.isIPv4)
    let octets = UDPHeader.octets + payloadOctets
    _ = ip(
      to: memory + VirtioNetHeader.octets, source: source, destination: destination,
      fields: IPFields(
        transport: IPProtocol.udp, trafficClass: trafficClass, identification: identification,
        fragmentation: dontFragment),
      payloadOctets: octets)
    let header = memory + prefix
    putUDPHeader(header, sourcePort, destinationPort, octets)
    var virtio = finishChecksum(
      at: header, headerOctets: UDPHeader.octets, field: 6, protocolNumber: IPProtocol.udp,
      source: source, destination: destination, payload: payload, payloadOctets: payloadOctets,
      mode: checksum)
    if segmentOctets > 0 && payloadOctets > segmentOctets {
      precondition(checksum == .offloaded, "a super-packet needs an offloaded checksum")
      virtio.gsoType = VirtioNetHeader.Segmentation.udp.rawValue
      virtio.segmentOctets = UInt16(segmentOctets)
    }
    virtio.write(to: memory)
    return prefix + UDPHeader.octets
  }

  /// Stores a UDP header by itself, its checksum computed over the whole datagram, for a datagram
  /// that leaves in fragments. Returns 8.
  package static func udpHeader(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
    sourcePort: UInt16, destinationPort: UInt16, payload: UnsafeBufferPointer<Slice>,
    payloadOctets: Int
  ) -> Int {
    precondition(payloadOctets + UDPHeader.octets <= 65_535, "UDP length")
    putUDPHeader(memory, sourcePort, destinationPort, UDPHeader.octets + payloadOctets)
    _ = finishChecksum(
      at: memory, headerOctets: UDPHeader.octets, field: 6, protocolNumber: IPProtocol.udp,
      source: source, destination: destination, payload: payload, payloadOctets: payloadOctets,
      mode: .computed)
    return UDPHeader.octets
  }

  private static func putUDPHeader(
    _ header: UnsafeMutableRawPointer, _ sourcePort: UInt16, _ destinationPort: UInt16,
    _ octets: Int
  ) {
    header.put(big: sourcePort, at: 0)
    header.put(big: destinationPort, at: 2)
    header.put(big: UInt16(octets), at: 4)
    header.put(big: 0 as UInt16, at: 6)
  }
}
