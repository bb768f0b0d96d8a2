// Packets out: the virtio-net header, the IP header and what the transports share.
//
// Writers fill memory that `FrameQueue.reserve` gave and return how many octets they wrote; payload
// stays where it is, in slices behind that memory. The caller vouches for room: `…OctetsMax` say
// how much. A frame's lengths must fit their 16-bit fields; a caller that asks for more is wrong,
// and is stopped by a precondition.
//
// With `offloaded` checksums the device finishes what is begun: the field holds the folded
// pseudo-header sum, not inverted, and the virtio-net header says where. Super-packets need that;
// with `computed` checksums none is made.
// Everything leaves with hop limit 64 and without a flow label.

import Primitives

/// Who completes the transport checksum.
package enum ChecksumMode: Sendable, BitwiseCopyable {
  /// The device.
  case offloaded
  /// The writer, by walking the payload.
  case computed
}

package enum PacketWriter {
  /// Time to live and hop limit of every packet written.
  package static let hopLimit: UInt8 = 64
  /// The largest IP packet.
  package static let packetOctetsMax = 65_535

  /// Octets of virtio-net and IP header in front of the transport header.
  @inlinable package static func prefixOctets(isIPv4: Bool) -> Int {
    VirtioNetHeader.octets + (isIPv4 ? 20 : 40)
  }

  /// What an IP header says beside addresses and lengths.
  struct IPFields {
    var transport: UInt8
    var trafficClass: UInt8 = 0
    /// IPv4 only.
    var identification: UInt16 = 0
    /// IPv4's flags and fragment offset.
    var fragmentation: UInt16 = 0
  }

  static let dontFragment: UInt16 = 0x4000

  /// Stores an IP header and returns its octets: 20 or 40.
  ///
  /// - Parameter payloadOctets: everything behind the header, IPv6 extension headers included.
  static func ip(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
    fields: IPFields, payloadOctets: Int
  ) -> Int {
    guard source.isIPv4 else {
      precondition(payloadOctets <= 65_535, "IPv6 payload length")
      memory.put(big: 6 << 28 | UInt32(fields.trafficClass) << 20, at: 0)
      memory.put(big: UInt16(payloadOctets), at: 4)
      memory.put(fields.transport, at: 6)
      memory.put(hopLimit, at: 7)
      source.write(to: memory + 8)
      destination.write(to: memory + 24)
      return 40
    }
    precondition(payloadOctets + 20 <= 65_535, "IPv4 total length")
    memory.put(big: 0x4500 | UInt16(fields.trafficClass), at: 0)
    memory.put(big: UInt16(payloadOctets + 20), at: 2)
    memory.put(big: fields.identification, at: 4)
    memory.put(big: fields.fragmentation, at: 6)
    memory.put(hopLimit, at: 8)
    memory.put(fields.transport, at: 9)
    memory.put(big: 0 as UInt16, at: 10)
    memory.put(big: source.v4, at: 12)
    memory.put(big: destination.v4, at: 16)
    var checksum = Checksum()
    checksum.add(memory, octets: 20)
    memory.put(big: checksum.value, at: 10)
    return 20
  }

  /// Fills in the checksum field of the transport header at `transport`, which must hold zero, and
  /// returns the virtio-net header that goes with it (without segmentation).
  static func finishChecksum(
    at transport: UnsafeMutableRawPointer, headerOctets: Int, field: Int, protocolNumber: UInt8,
    source: IPAddress, destination: IPAddress, payload: UnsafeBufferPointer<Slice>,
    payloadOctets: Int, mode: ChecksumMode
  ) -> VirtioNetHeader {
    var checksum = Checksum()
    checksum.addPseudoHeader(
      source: source, destination: destination, transport: protocolNumber,
      octets: headerOctets + payloadOctets)
    switch mode {
    case .offloaded:
      transport.put(big: checksum.folded, at: field)
      let ipOctets = source.isIPv4 ? 20 : 40
      return VirtioNetHeader(
        flags: .needsChecksum, headerOctets: UInt16(ipOctets + headerOctets),
        checksumStart: UInt16(ipOctets), checksumOffset: UInt16(field))
    case .computed:
      checksum.add(transport, octets: headerOctets)
      checksum.add(payload)
      // Zero means "no checksum" to UDP, and TCP takes either form of zero.
      let value = checksum.value
      transport.put(big: value == 0 && protocolNumber == IPProtocol.udp ? 0xffff : value, at: field)
      return VirtioNetHeader()
    }
  }
}

extension PacketWriter {
  /// Octets of virtio-net, IP and fragment header of an IPv6 fragment; an IPv4 one takes less.
  package static let fragmentHeaderOctetsMax = VirtioNetHeader.octets + 40 + 8

  /// Stores the headers of one IP fragment, behind which the caller puts its payload; the first
  /// fragment's begins with the transport header (`udpHeader`), with its checksum computed over the
  /// whole datagram. Returns the octets stored.
  ///
  /// - Parameters:
  ///   - payloadOctets: of the datagram in this fragment; a multiple of 8 in all but the last.
  ///   - fragmentOffset: octets of the datagram before these; a multiple of 8.
  ///   - identification: the same in all fragments of a datagram; IPv4 uses the low 16 bits.
  package static func fragment(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
    transport: UInt8, payloadOctets: Int, fragmentOffset: Int, moreFragments: Bool,
    identification: UInt32
  ) -> Int {
    precondition(
      fragmentOffset % 8 == 0 && (!moreFragments || payloadOctets % 8 == 0)
        && fragmentOffset >= 0 && fragmentOffset + payloadOctets <= packetOctetsMax, "fragment")
    VirtioNetHeader().write(to: memory)
    let packet = memory + VirtioNetHeader.octets
    let more: UInt16 = moreFragments ? 1 : 0
    if source.isIPv4 {
      let fields = IPFields(
        transport: transport, identification: UInt16(truncatingIfNeeded: identification),
        fragmentation: more << 13 | UInt16(fragmentOffset / 8))
      return VirtioNetHeader.octets
        + ip(
          to: packet, source: source, destination: destination, fields: fields,
          payloadOctets: payloadOctets)
    }
    let octets = ip(
      to: packet, source: source, destination: destination,
      fields: IPFields(transport: IPProtocol.fragment), payloadOctets: payloadOctets + 8)
    let header = packet + octets
    header.put(big: UInt16(transport) << 8, at: 0)
    header.put(big: UInt16(fragmentOffset) | more, at: 2)
    header.put(big: identification, at: 4)
    return VirtioNetHeader.octets + octets + 8
  }

  /// Octets of a whole ICMP or ICMPv6 frame with a body of `bodyOctets`.
  package static func icmpFrameOctets(bodyOctets: Int, isIPv4: Bool) -> Int {
    prefixOctets(isIPv4: isIPv4) + 8 + bodyOctets
  }

  /// Stores a whole ICMP message, or ICMPv6 by the addresses' family, with its checksum computed.
  /// Returns its octets, `icmpFrameOctets`.
  ///
  /// - Parameters:
  ///   - rest: the second half of the ICMP header, octets 4 to 7, as a number in host order.
  ///   - body: what follows the header; copied.
  ///   - identification: for IPv4, which may fragment the message on its way.
  package static func icmp(
    to memory: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress, type: UInt8,
    code: UInt8, rest: UInt32, body: RawSpan, identification: UInt16 = 0
  ) -> Int {
    let isIPv4 = source.isIPv4
    let octets = 8 + body.byteCount
    VirtioNetHeader().write(to: memory)
    let prefix = prefixOctets(isIPv4: isIPv4)
    let transport = isIPv4 ? IPProtocol.icmp : IPProtocol.icmpV6
    _ = ip(
      to: memory + VirtioNetHeader.octets, source: source, destination: destination,
      fields: IPFields(transport: transport, identification: identification), payloadOctets: octets)

    let message = memory + prefix
    message.put(big: UInt16(type) << 8 | UInt16(code), at: 0)
    message.put(big: 0 as UInt16, at: 2)
    message.put(big: rest, at: 4)
    body.withUnsafeBytes { body in
      if let base = body.baseAddress {
        (message + 8).copyMemory(from: base, byteCount: body.count)
      }
    }
    var checksum = Checksum()
    if !isIPv4 {
      checksum.addPseudoHeader(
        source: source, destination: destination, transport: transport, octets: octets)
    }
    checksum.add(message, octets: octets)
    message.put(big: checksum.value, at: 2)
    return prefix + octets
  }
}
