// A frame of ours that leaves something to the device, made into packets that leave it nothing.
//
// That is what a device does with a super-packet (virtio 1.2 §5.1.6.2, and Linux' segmentation), for the
// case that it does not: each packet has the headers of the whole, with what makes it one of several.
// - IPv4: its length, the next identification, the header's checksum; IPv6: its payload length.
// - TCP: its sequence number; FIN and PSH only in the last, CWR only in the first (RFC 3168 §6.1.2:
//   a receiver stops to echo congestion at the first).
// - UDP: its length.
// - the transport's checksum, computed.
// A frame that leaves only its checksum to the device becomes one packet. Payload stays where it is.
// Frames are our own writer's or like them: headers lie in the first slice, without IPv6 extension
// headers. What is not so is refused whole.

import Primitives

package struct PlainPackets {
  /// Octets of headers that a packet takes at most, the virtio-net header included.
  package static let headerOctetsMax = PacketWriter.tcpHeaderOctetsMax

  /// The IP packet's beginning.
  private let whole: UnsafeRawPointer
  private let isIPv4: Bool
  private let transport: UInt8
  private let transportOffset: Int
  /// Of IP and transport.
  private let headerOctets: Int
  /// In the transport's header.
  private let checksumField: Int
  private let partOctets: Int
  private let payloadOctets: Int
  private let slices: UnsafeBufferPointer<Slice>

  // What comes next.
  private var index = 0
  private var octetsDone = 0
  private var slice = 0
  private var offset: Int

  /// - Parameter frame: with its virtio-net header. Its memory must stay.
  /// - Returns: nil for a frame that leaves nothing to the device, and one that is not understood.
  package init?(of frame: UnsafeBufferPointer<Slice>) {
    guard let first = frame.first, let base = first.base,
      first.octets >= VirtioNetHeader.octets + 20 + UDPHeader.octets,
      let virtio = try? VirtioNetHeader(
        parsing: UnsafeRawBufferPointer(start: base, count: first.octets).bytes),
      virtio.flags.contains(.needsChecksum), let kind = virtio.segmentation
    else { return nil }
    whole = UnsafeRawPointer(base + VirtioNetHeader.octets)
    let octets = first.octets - VirtioNetHeader.octets
    let version = Self.octet(whole, 0) >> 4
    isIPv4 = version == 4
    transportOffset = Int(virtio.checksumStart)
    checksumField = Int(virtio.checksumOffset)
    guard isIPv4 || version == 6 else { return nil }
    let ipOctets = isIPv4 ? Int(Self.octet(whole, 0) & 15) * 4 : 40
    transport = Self.octet(whole, isIPv4 ? 9 : 6)
    guard ipOctets == transportOffset, ipOctets >= 20 else { return nil }
    switch (transport, checksumField) {
    case (IPProtocol.tcp, 16):
      guard octets >= ipOctets + TCPHeader.octetsMin, kind != .udp else { return nil }
      headerOctets = ipOctets + Int(Self.octet(whole, ipOctets + 12) >> 4) * 4
      guard headerOctets >= ipOctets + TCPHeader.octetsMin else { return nil }
    case (IPProtocol.udp, 6):
      guard kind == .udp || kind == .none else { return nil }
      headerOctets = ipOctets + UDPHeader.octets
    default: return nil
    }
    guard kind != .udpFragments, headerOctets <= octets,
      headerOctets + VirtioNetHeader.octets <= Self.headerOctetsMax
    else { return nil }
    payloadOctets = frame.reduce(-VirtioNetHeader.octets - headerOctets) { $0 + $1.octets }
    partOctets = kind == .none ? payloadOctets : Int(virtio.segmentOctets)
    slices = frame
    offset = VirtioNetHeader.octets + headerOctets
  }

  /// Whether the frame is several datagrams.
  package var areDatagrams: Bool { transport == IPProtocol.udp && partOctets < payloadOctets }

  /// Packets in all.
  package var count: Int {
    payloadOctets == 0 ? 1 : (payloadOctets + partOctets - 1) / partOctets
  }

  /// The next packet.
  ///
  /// - Parameters:
  ///   - memory: for its headers; `headerOctetsMax`.
  ///   - gather: gets them and the slices behind; room for as many slices as the frame has, and one.
  /// - Returns: how many slices it has; nil behind the last packet.
  package mutating func next(
    headers memory: UnsafeMutableRawPointer, into gather: UnsafeMutableBufferPointer<Slice>
  ) -> Int? {
    guard index < count else { return nil }
    let octets = min(partOctets, payloadOctets - octetsDone)
    VirtioNetHeader().write(to: memory)
    let packet = memory + VirtioNetHeader.octets
    packet.copyMemory(from: whole, byteCount: headerOctets)
    gather[0] = Slice(memory, VirtioNetHeader.octets + headerOctets)
    let sliceCount = 1 + take(octets, into: gather)
    putIP(packet, octets: headerOctets - transportOffset + octets)
    putTransport(
      packet + transportOffset, octets: octets,
      payload: UnsafeBufferPointer(rebasing: gather[1..<sliceCount]))
    index += 1
    octetsDone += octets
    return sliceCount
  }

  /// Lays the next octets of payload behind the headers.
  private mutating func take(
    _ octets: Int, into gather: UnsafeMutableBufferPointer<Slice>
  ) -> Int {
    var left = octets
    var count = 0
    while left > 0 {
      let part = min(left, slices[slice].octets - offset)
      if part > 0 {
        count += 1
        gather[count] = Slice(slices[slice].base.map { $0 + offset }, part)
        left -= part
        offset += part
      } else {
        slice += 1
        offset = 0
      }
    }
    return count
  }

  /// - Parameter octets: behind the IP header.
  private func putIP(_ packet: UnsafeMutableRawPointer, octets: Int) {
    guard isIPv4 else {
      packet.put(big: UInt16(octets), at: 4)
      return
    }
    packet.put(big: UInt16(transportOffset + octets), at: 2)
    let identification = Self.big16(packet, 4)
    packet.put(big: identification &+ UInt16(truncatingIfNeeded: index), at: 4)
    packet.put(big: 0 as UInt16, at: 10)
    var checksum = Checksum()
    checksum.add(packet, octets: transportOffset)
    packet.put(big: checksum.value, at: 10)
  }

  private func putTransport(
    _ header: UnsafeMutableRawPointer, octets: Int, payload: UnsafeBufferPointer<Slice>
  ) {
    if transport == IPProtocol.tcp {
      let sequence = UInt32(Self.big16(header, 4)) << 16 | UInt32(Self.big16(header, 6))
      header.put(big: sequence &+ UInt32(octetsDone), at: 4)
      var flags = TCPFlags(rawValue: Self.octet(header, 13))
      if index + 1 < count { flags.subtract([.fin, .psh]) }
      if index > 0 { flags.remove(.cwr) }
      header.put(flags.rawValue, at: 13)
    } else {
      header.put(big: UInt16(UDPHeader.octets + octets), at: 4)
    }
    header.put(big: 0 as UInt16, at: checksumField)
    let addresses = addresses
    let transportOctets = headerOctets - transportOffset
    var checksum = Checksum()
    checksum.addPseudoHeader(
      source: addresses.source, destination: addresses.destination, transport: transport,
      octets: transportOctets + octets)
    checksum.add(header, octets: transportOctets)
    checksum.add(payload)
    // Zero means "no checksum" to UDP.
    let value = checksum.value
    header.put(
      big: value == 0 && transport == IPProtocol.udp ? 0xffff : value, at: checksumField)
  }

  private var addresses: (source: IPAddress, destination: IPAddress) {
    let bytes = UnsafeRawBufferPointer(start: whole, count: headerOctets).bytes
    guard isIPv4 else {
      return (
        IPAddress(high: bytes.big64(8), low: bytes.big64(16)),
        IPAddress(high: bytes.big64(24), low: bytes.big64(32))
      )
    }
    return (IPAddress(v4: bytes.big32(12)), IPAddress(v4: bytes.big32(16)))
  }

  private static func octet(_ memory: UnsafeRawPointer, _ offset: Int) -> UInt8 {
    memory.load(fromByteOffset: offset, as: UInt8.self)
  }

  private static func big16(_ memory: UnsafeRawPointer, _ offset: Int) -> UInt16 {
    UInt16(bigEndian: memory.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }
}
