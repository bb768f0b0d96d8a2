import Primitives
import Wire

// Datagrams towards the client: one packet each, or IP fragments when the MTU is smaller.
//
// Fragments are made only where the target's datagram leaves no choice: UDP has no smaller unit, and
// a client's kernel reassembles. The first fragment's slice of payload is preceded by the UDP header
// with its checksum computed over all of it.

package enum DatagramWriter {
  /// Puts a datagram into `frames`.
  ///
  /// Throws `frameQueueFull` (drain and try again) or `datagramTooLarge`.
  /// - Parameter identification: of fragments; differs between datagrams of the same pair of hosts.
  /// - Returns: whether it was used.
  @discardableResult package static func write(
    _ payload: Slice, tuple: FiveTuple, mtu: Int, identification: UInt32, checksum: ChecksumMode,
    into frames: inout FrameQueue
  ) throws(DropReason) -> Bool {
    let ipOctets = tuple.virtual.isIPv4 ? 20 : 40
    // The length field of IPv4 counts the header, that of IPv6 does not (RFC 8200 §3).
    let counted = tuple.virtual.isIPv4 ? ipOctets : 0
    guard counted + UDPHeader.octets + payload.octets <= PacketWriter.packetOctetsMax else {
      throw .datagramTooLarge
    }
    if ipOctets + UDPHeader.octets + payload.octets <= mtu {
      guard frames.fits(headerOctets: PacketWriter.udpHeaderOctetsMax, payloadSlices: 1) else {
        throw .frameQueueFull
      }
      let memory = frames.reserve(headerOctets: PacketWriter.udpHeaderOctetsMax)
      if payload.octets > 0 { frames.append(payload) }
      let used = PacketWriter.udp(
        to: memory, source: tuple.virtual, destination: tuple.client,
        sourcePort: tuple.virtualPort, destinationPort: tuple.clientPort,
        payload: frames.openPayload, payloadOctets: payload.octets, checksum: checksum)
      frames.commit(headerOctets: used)
      return false
    }
    try writeFragments(
      payload, tuple: tuple, mtu: mtu, identification: identification, into: &frames)
    return true
  }

  /// Puts a run of datagrams into `frames` as one super-packet, whose segments fit the MTU.
  /// - Returns: false when there is no room: drain and try again.
  package static func write(
    _ run: DatagramRun, _ slices: UnsafeBufferPointer<Slice>, tuple: FiveTuple,
    into frames: inout FrameQueue
  ) -> Bool {
    let headerOctets = PacketWriter.udpHeaderOctetsMax
    guard frames.fits(headerOctets: headerOctets, payloadSlices: slices.count) else { return false }
    let memory = frames.reserve(headerOctets: headerOctets)
    for slice in slices { frames.append(slice) }
    let used = PacketWriter.udp(
      to: memory, source: tuple.virtual, destination: tuple.client, sourcePort: tuple.virtualPort,
      destinationPort: tuple.clientPort, payload: frames.openPayload, payloadOctets: run.octets,
      segmentOctets: run.datagrams > 1 ? run.segmentOctets : 0, checksum: .offloaded)
    frames.commit(headerOctets: used)
    return true
  }

  private static func writeFragments(
    _ payload: Slice, tuple: FiveTuple, mtu: Int, identification: UInt32,
    into frames: inout FrameQueue
  ) throws(DropReason) {
    let overhead = tuple.virtual.isIPv4 ? 20 : 48
    let fragmentMax = (mtu - overhead) & ~7
    let total = UDPHeader.octets + payload.octets
    let count = (total + fragmentMax - 1) / fragmentMax
    let headerMax = PacketWriter.fragmentHeaderOctetsMax + UDPHeader.octets
    guard
      frames.fits(headerOctets: (headerMax + 16) * count, payloadSlices: 2 * count),
      frames.count + count <= FrameQueue.framesMax
    else { throw .frameQueueFull }
    var offset = 0
    while offset < total {
      let octets = min(fragmentMax, total - offset)
      let memory = frames.reserve(headerOctets: headerMax)
      var used = PacketWriter.fragment(
        to: memory, source: tuple.virtual, destination: tuple.client,
        transport: TransportProtocol.udp.rawValue, payloadOctets: octets, fragmentOffset: offset,
        moreFragments: offset + octets < total, identification: identification)
      var from = offset - UDPHeader.octets
      var count = octets
      if offset == 0 {
        withUnsafePointer(to: payload) { whole in
          used += PacketWriter.udpHeader(
            to: memory + used, source: tuple.virtual, destination: tuple.client,
            sourcePort: tuple.virtualPort, destinationPort: tuple.clientPort,
            payload: UnsafeBufferPointer(start: whole, count: 1), payloadOctets: payload.octets)
        }
        from = 0
        count -= UDPHeader.octets
      }
      if let base = payload.base, count > 0 { frames.append(Slice(base + from, count)) }
      frames.commit(headerOctets: used)
      offset += octets
    }
  }
}
