import Wire

// The IP header of a packet whose fragments were joined: the first fragment's, as if it had never
// been cut.

enum RebuiltHeader {
  /// Stores 20 or 40 octets, the checksum of an IPv4 header among them.
  static func write(
    to memory: UnsafeMutableRawPointer, of datagram: WaitingDatagram, source: IPAddress,
    trafficClass: UInt8
  ) {
    let octets = datagram.totalOctets
    guard datagram.isIPv4 else {
      memory.put(big: 6 << 28 | UInt32(trafficClass) << 20, at: 0)
      memory.put(big: UInt16(octets), at: 4)
      memory.put(datagram.transport, at: 6)
      memory.put(datagram.hopLimit, at: 7)
      source.write(to: memory + 8)
      datagram.name.destination.write(to: memory + 24)
      return
    }
    memory.put(big: 0x4500 | UInt16(trafficClass), at: 0)
    memory.put(big: UInt16(20 + octets), at: 2)
    memory.put(big: UInt16(truncatingIfNeeded: datagram.name.identification), at: 4)
    memory.put(big: 0 as UInt16, at: 6)
    memory.put(datagram.hopLimit, at: 8)
    memory.put(datagram.transport, at: 9)
    memory.put(big: 0 as UInt16, at: 10)
    source.write(to: memory + 12)
    datagram.name.destination.write(to: memory + 16)
    var checksum = Checksum()
    checksum.add(memory, octets: 20)
    memory.put(big: checksum.value, at: 10)
  }
}
