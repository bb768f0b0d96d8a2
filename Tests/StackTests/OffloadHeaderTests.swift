// What the device may say in front of a packet, and need not mean: hints that are wrong cost nothing.

import Configuration
import Primitives
import Stack
import TCP
import Testing
import Wire

@Suite("virtio-net headers that are odd, but true") struct OffloadHeaderTests {
  private func header(
    _ kind: VirtioNetHeader.Segmentation, headerOctets: UInt16, segmentOctets: UInt16,
    isIPv4: Bool = true, ecn: Bool = false
  ) -> VirtioNetHeader {
    VirtioNetHeader(
      flags: .needsChecksum, gsoType: kind.rawValue | (ecn ? VirtioNetHeader.ecnBit : 0),
      headerOctets: headerOctets, segmentOctets: segmentOctets, checksumStart: isIPv4 ? 20 : 40,
      checksumOffset: kind == .udp ? 6 : 16)
  }

  @Test("TCP: header length and segment size are hints", arguments: [true, false])
  func tcp(isIPv4: Bool) throws {
    let world = World(rules: [rule("web")])
    var client = Client(world, isIPv4: isIPv4)
    try client.connect()
    let kind: VirtioNetHeader.Segmentation = isIPv4 ? .tcpIPv4 : .tcpIPv6
    var expected: [UInt8] = []
    for (number, virtio) in [
      header(kind, headerOctets: 0, segmentOctets: 1, isIPv4: isIPv4),
      header(kind, headerOctets: 65_535, segmentOctets: 65_535, isIPv4: isIPv4),
      header(kind, headerOctets: 7, segmentOctets: 333, isIPv4: isIPv4, ecn: true),
      header(.none, headerOctets: 65_535, segmentOctets: 9, isIPv4: isIPv4),
    ].enumerated() {
      let payload = [UInt8](repeating: UInt8(number), count: 1000)
      expected += payload
      client.send([.ack, .psh], payload, virtio: virtio)
    }
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.received == expected)
    #expect(world.stack.drops.total == 0)
  }

  @Test("UDP: a segment size beyond the payload cuts nothing")
  func udp() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))])
    let payload = [UInt8](repeating: 3, count: 700)
    for (headerOctets, segmentOctets) in [(0, 65_535), (65_535, 700), (28, 701)]
      as [(UInt16, UInt16)]
    {
      world.send(
        udpPacket(payload: payload),
        virtio: header(.udp, headerOctets: headerOctets, segmentOctets: segmentOctets))
    }
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.receivedDatagrams == [payload, payload, payload])
    #expect(world.stack.drops.total == 0)
  }

  @Test("UDP: a packet is at most 1024 datagrams, however small those are")
  func udpCount() throws {
    let world = World(rules: [rule("dns", .udp, ports: PortRange(53))])
    let offload = header(.udp, headerOctets: 0, segmentOctets: 1)
    for octets in [1024, 1025] {
      world.send(udpPacket(payload: [UInt8](repeating: 3, count: octets)), virtio: offload)
    }
    let slot = try #require(world.flow)
    #expect(world.sockets[slot]?.receivedDatagrams.count == 1024)
    #expect(world.stack.drops[.badOffloadHeader] == 1)
  }
}
