// One packet, all of its headers read: what the stack asks for per packet.
//
// The parts stand on their own (`IPHeader`, `TCPHeader`, `UDPHeader`); this joins them for the two
// transports that are forwarded and names their payload. ICMP is parsed by its own module;
// fragments have no transport header to speak of.

package struct ParsedPacket: Sendable, BitwiseCopyable {
  package enum Transport: Sendable, BitwiseCopyable {
    case tcp(TCPHeader)
    case udp(UDPHeader)
    /// ICMP of the packet's own family.
    case icmp
    case fragment
    case unsupported
  }

  package var ip: IPHeader
  package var transport: Transport
  /// Where the payload begins: behind the TCP or UDP header, else behind the IP headers.
  package var payloadOffset: Int
  package var payloadOctets: Int

  /// Reads and checks all headers of an IP packet; does not look at the transport checksum.
  ///
  /// Throws what the headers' initialisers throw.
  package init(parsing packet: RawSpan) throws(DropReason) {
    ip = try IPHeader(parsing: packet)
    payloadOffset = ip.headerOctets
    payloadOctets = ip.payloadOctets
    if ip.isFragment {
      transport = .fragment
      return
    }
    switch ip.transport {
    case IPProtocol.tcp:
      let header = try TCPHeader(parsing: packet.extracting(ip.headerOctets..<ip.totalOctets))
      payloadOffset += header.headerOctets
      payloadOctets -= header.headerOctets
      transport = .tcp(header)
    case IPProtocol.udp:
      let header = try UDPHeader(parsing: packet.extracting(ip.headerOctets..<ip.totalOctets))
      payloadOffset += UDPHeader.octets
      payloadOctets = header.payloadOctets
      transport = .udp(header)
    case IPProtocol.icmp where ip.isIPv4, IPProtocol.icmpV6 where !ip.isIPv4:
      transport = .icmp
    default:
      transport = .unsupported
    }
  }

  /// As of a client's packet; nil without ports.
  @inlinable package var tuple: FiveTuple? {
    switch transport {
    case .tcp(let header):
      FiveTuple(
        client: ip.source, virtual: ip.destination, clientPort: header.sourcePort,
        virtualPort: header.destinationPort, transport: .tcp)
    case .udp(let header):
      FiveTuple(
        client: ip.source, virtual: ip.destination, clientPort: header.sourcePort,
        virtualPort: header.destinationPort, transport: .udp)
    case .fragment, .icmp, .unsupported: nil
    }
  }
}
