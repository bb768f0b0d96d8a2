// Headers in: every field, and every way in which a header can lie.

import Primitives
import TestSupport
import Testing
import Wire

@Suite("virtio-net header (virtio 1.2 §5.1.6)") struct VirtioNetHeaderTests {
  @Test func fields() throws {
    let header = VirtioNetHeader(
      flags: .needsChecksum, gsoType: 0x81, headerOctets: 54, segmentOctets: 1448,
      checksumStart: 20, checksumOffset: 16)
    var octets = [UInt8](repeating: 0xaa, count: 12)
    octets.withUnsafeMutableBytes { if let base = $0.baseAddress { header.write(to: base) } }
    let native = [54, 1448, 20, 16].flatMap { value in
      withUnsafeBytes(of: UInt16(value)) { Array($0) }
    }
    #expect(octets == [1, 0x81] + native + [0xaa, 0xaa])
    let parsed = try VirtioNetHeader(parsing: octets.span.bytes)
    #expect(parsed == header)
    #expect(parsed.segmentation == .tcpIPv4)
  }

  @Test func malformed() {
    for octets: [UInt8] in [
      [], Array(repeating: 0, count: 9), [0, 2, 0, 0, 1, 1, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
      #expect(throws: DropReason.badOffloadHeader) {
        try VirtioNetHeader(parsing: octets.span.bytes)
      }
    }
  }
}

@Suite("IPv4 header (RFC 791 §3.1)") struct IPv4HeaderTests {
  @Test func fields() throws {
    let packet = ipv4(transport: 17, payload: [1, 2, 3, 4])
    let ip = try IPHeader(parsing: (packet + [0, 0]).span.bytes)
    #expect(ip.source == address("192.0.2.1") && ip.destination == address("198.51.100.2"))
    #expect(ip.headerOctets == 20 && ip.totalOctets == 24 && ip.payloadOctets == 4)
    #expect(ip.transport == 17 && ip.hopLimit == 57 && ip.trafficClass == 0x2e)
    #expect(ip.identification == 0x1234 && ip.dontFragment && !ip.isFragment && ip.isIPv4)
  }

  @Test func optionsAreSkipped() throws {
    let packet = ipv4(options: Array(repeating: 1, count: 40), payload: [7])
    #expect(try IPHeader(parsing: packet.span.bytes).headerOctets == 60)
  }

  @Test func fragments() throws {
    let eight = [UInt8](repeating: 0, count: 8)
    let first = try IPHeader(parsing: ipv4(fragmentation: 0x2000, payload: eight).span.bytes)
    #expect(first.isFragment && first.moreFragments && first.fragmentOffset == 0)
    let last = try IPHeader(parsing: ipv4(fragmentation: 0x0007, payload: [1]).span.bytes)
    #expect(last.isFragment && !last.moreFragments && last.fragmentOffset == 56)
    for packet in [
      ipv4(fragmentation: 0x2001, payload: [1]), ipv4(fragmentation: 0x2001, payload: []),
      ipv4(fragmentation: 0x1fff, payload: eight),
    ] {
      #expect(throws: DropReason.badFragment) { try IPHeader(parsing: packet.span.bytes) }
    }
  }

  @Test func malformed() {
    func reason(_ change: (inout [UInt8]) -> Void) -> DropReason? {
      var packet = ipv4(payload: [1, 2, 3, 4])
      change(&packet)
      do throws(DropReason) { _ = try IPHeader(parsing: packet.span.bytes) } catch { return error }
      return nil
    }
    #expect(reason { _ in } == nil)
    #expect(reason { $0 = Array($0[..<19]) } == .truncatedHeader)
    #expect(reason { $0 = [] } == .truncatedHeader)
    #expect(reason { $0[0] = 0x55 } == .badVersion)
    #expect(reason { $0[0] = 0x44 } == .badHeaderLength)
    #expect(reason { $0[0] = 0x4f } == .truncatedHeader)
    #expect(reason { $0[3] = 19 } == .badTotalLength)
    #expect(reason { $0[3] = 25 } == .badTotalLength)
    #expect(reason { $0[8] ^= 1 } == .badHeaderChecksum)
  }

  @Test("options fill their header, and name no way (RFC 7126)")
  func options() {
    func reason(_ options: [UInt8]) -> DropReason? {
      let packet = ipv4(options: options, payload: [1])
      do throws(DropReason) { _ = try IPHeader(parsing: packet.span.bytes) } catch { return error }
      return nil
    }
    #expect(reason([7, 7, 4, 0, 0, 0, 0, 0]) == nil)  // record route
    #expect(reason([0x94, 4, 0, 0]) == nil)  // router alert
    #expect(reason([1, 1, 1, 0]) == nil)
    #expect(reason([0, 131, 0, 255]) == nil)  // behind the end of the list
    #expect(reason([131, 7, 4, 1, 2, 3, 4, 0]) == .sourceRouted)
    #expect(reason([1, 137, 7, 8, 1, 2, 3, 4]) == .sourceRouted)  // its way used up
    #expect(reason([1, 1, 1, 7]) == .badIPOptions)
    #expect(reason([7, 1, 0, 0]) == .badIPOptions)
    #expect(reason([7, 0, 0, 0]) == .badIPOptions)
    #expect(reason([1, 7, 4, 0]) == .badIPOptions)
  }

  @Test("a time to live below two is no reason to discard (RFC 1122 §3.2.1.7)", arguments: [0, 1])
  func timeToLive(_ value: Int) throws {
    var packet = ipv4(payload: [1])
    packet[8] = UInt8(value)
    packet.replaceSubrange(10..<12, with: [0, 0])
    packet.replaceSubrange(10..<12, with: big16(Int(~onesComplementSum(Array(packet[..<20])))))
    #expect(try IPHeader(parsing: packet.span.bytes).hopLimit == UInt8(value))
  }

  @Test(
    "martian addresses (RFC 1122 §3.2.1.3)",
    arguments: [
      ("192.0.2.1", "198.51.100.2", nil), ("127.0.0.1", "198.51.100.2", .martianSource),
      ("0.0.0.0", "198.51.100.2", .martianSource), ("0.1.2.3", "198.51.100.2", .martianSource),
      ("224.0.0.1", "198.51.100.2", .martianSource),
      ("255.255.255.255", "198.51.100.2", .martianSource),
      ("240.0.0.1", "198.51.100.2", .martianSource),
      ("192.0.2.1", "127.0.0.1", .martianDestination),
      ("192.0.2.1", "0.0.0.0", .martianDestination),
      ("192.0.2.1", "0.9.0.0", .martianDestination),
      ("192.0.2.1", "224.0.0.1", .multicastDestination),
      ("192.0.2.1", "255.255.255.255", .multicastDestination),
      ("192.0.2.1", "192.0.2.1", .landAttack),
    ] as [(String, String, DropReason?)])
  func martians(source: String, destination: String, reason: DropReason?) throws {
    let packet = ipv4(from: source, to: destination, payload: [])
    #expect(try IPHeader(parsing: packet.span.bytes).martianReason() == reason)
  }
}

@Suite("IPv6 header (RFC 8200 §3, §4)") struct IPv6HeaderTests {
  let hopByHop: [UInt8] = [60, 0, 5, 2, 0, 0, 1, 0]  // router alert, PadN; then destination options
  let destinationOptions: [UInt8] = [6, 0, 1, 4, 0, 0, 0, 0]

  private func reason(_ packet: [UInt8]) -> DropReason? {
    do throws(DropReason) { _ = try IPHeader(parsing: packet.span.bytes) } catch { return error }
    return nil
  }

  @Test func fields() throws {
    let ip = try IPHeader(parsing: (ipv6(next: 17, payload: [1, 2]) + [9]).span.bytes)
    #expect(ip.source == address("2001:db8::1") && ip.destination == address("2001:db8:1::2"))
    #expect(ip.headerOctets == 40 && ip.totalOctets == 42 && !ip.isIPv4)
    #expect(ip.transport == 17 && ip.hopLimit == 61 && ip.trafficClass == 0x2e)
    #expect(!ip.isFragment && ip.identification == 0)
  }

  @Test func extensionHeadersAreWalked() throws {
    let packet = ipv6(next: 0, payload: hopByHop + destinationOptions + tcp())
    let ip = try IPHeader(parsing: packet.span.bytes)
    #expect(ip.headerOctets == 56 && ip.transport == 6)
    let routed = ipv6(next: 43, payload: [17, 0, 0, 0, 0, 0, 0, 0] + udp(payload: []))
    #expect(try IPHeader(parsing: routed.span.bytes).transport == 17)
    let none = ipv6(next: 59, payload: [])
    #expect(try IPHeader(parsing: none.span.bytes).transport == 59)
  }

  @Test func fragments() throws {
    let fragment: [UInt8] = [17, 0, 0x00, 0x11, 0xde, 0xad, 0xbe, 0xef]
    let packet = ipv6(next: 44, payload: fragment + [UInt8](repeating: 1, count: 8))
    let ip = try IPHeader(parsing: packet.span.bytes)
    #expect(ip.isFragment && ip.moreFragments && ip.fragmentOffset == 16)
    #expect(ip.identification == 0xdead_beef && ip.transport == 17 && ip.headerOctets == 48)
    #expect(reason(ipv6(next: 44, payload: fragment + [1])) == .badFragment)
    #expect(
      reason(ipv6(next: 44, payload: [17, 0, 0xff, 0xf8, 0, 0, 0, 0] + hopByHop)) == .badFragment)
  }

  @Test("an atomic fragment is a whole packet (RFC 6946)") func atomic() throws {
    let packet = ipv6(next: 44, payload: [6, 0, 0, 0, 0, 0, 0, 7] + tcp())
    let ip = try IPHeader(parsing: packet.span.bytes)
    #expect(!ip.isFragment && ip.transport == 6 && ip.headerOctets == 48)
  }

  @Test func malformed() {
    let good = ipv6(payload: [1, 2])
    #expect(reason(Array(good[..<39])) == .truncatedHeader)
    #expect(reason(Array(good[..<41])) == .badTotalLength)
    #expect(reason(ipv6(next: 0, payload: [6, 0, 0])) == .truncatedHeader)
    #expect(reason(ipv6(next: 60, payload: [6, 1, 1, 4, 0, 0, 0, 0])) == .badExtensionHeader)
    // Hop-by-hop anywhere but first.
    #expect(
      reason(ipv6(next: 60, payload: [0, 0, 1, 4, 0, 0, 0, 0] + hopByHop)) == .badExtensionHeader)
    // Segments left.
    #expect(reason(ipv6(next: 43, payload: [6, 0, 0, 1, 0, 0, 0, 0])) == .sourceRouted)
    // "Discard when unknown" (§4.2), and options that overrun their header.
    #expect(reason(ipv6(next: 60, payload: [6, 0, 0xc9, 4, 0, 0, 0, 0])) == .badExtensionHeader)
    #expect(reason(ipv6(next: 60, payload: [6, 0, 1, 5, 0, 0, 0, 0])) == .badExtensionHeader)
    #expect(reason(ipv6(next: 60, payload: [6, 0, 1, 3, 0, 0, 0, 1])) == .badExtensionHeader)
    let chain = (0..<9).flatMap { _ in [60, 0, 1, 4, 0, 0, 0, 0] as [UInt8] }
    #expect(reason(ipv6(next: 60, payload: chain)) == .badExtensionHeader)
  }

  @Test("a jumbogram is none here (RFC 2675)") func jumbogram() {
    let jumbo: [UInt8] = [6, 0, 0xc2, 4, 0, 1, 0, 0]
    #expect(reason(ipv6(next: 0, payload: jumbo + tcp())) == .badExtensionHeader)
    var packet = ipv6(next: 0, payload: jumbo + tcp())
    packet[4] = 0
    packet[5] = 0  // its payload length
    #expect(reason(packet) == .truncatedHeader)
  }

  @Test("a hop limit of zero does not matter at the end of the way (RFC 8200 §3)")
  func hopLimit() throws {
    var packet = ipv6(payload: tcp())
    packet[7] = 0
    #expect(try IPHeader(parsing: packet.span.bytes).hopLimit == 0)
  }

  @Test("mapped IPv4 addresses are refused") func mapped() {
    #expect(reason(ipv6(from: "10.0.0.1", payload: [])) == .martianSource)
    #expect(reason(ipv6(to: "10.0.0.1", payload: [])) == .martianDestination)
  }

  @Test(
    arguments: [
      ("2001:db8::1", "2001:db8::2", nil), ("::1", "2001:db8::2", .martianSource),
      ("::", "2001:db8::2", .martianSource), ("ff02::1", "2001:db8::2", .martianSource),
      ("2001:db8::1", "::1", .martianDestination), ("2001:db8::1", "::", .martianDestination),
      ("fe80::1", "ff02::2", .multicastDestination), ("fd00::1", "fd00::1", .landAttack),
    ] as [(String, String, DropReason?)])
  func martians(source: String, destination: String, reason: DropReason?) throws {
    let packet = ipv6(from: source, to: destination, payload: [])
    #expect(try IPHeader(parsing: packet.span.bytes).martianReason() == reason)
  }
}

@Suite("TCP header (RFC 9293 §3.1)") struct TCPHeaderTests {
  private func reason(_ segment: [UInt8]) -> DropReason? {
    do throws(DropReason) { _ = try TCPHeader(parsing: segment.span.bytes) } catch { return error }
    return nil
  }

  @Test func fields() throws {
    let header = try TCPHeader(parsing: tcp(flags: 0x39, payload: [1, 2]).span.bytes)
    #expect(header.sourcePort == 40000 && header.destinationPort == 80)
    #expect(header.sequence.rawValue == 0x0102_0304)
    #expect(header.acknowledgment.rawValue == 0xa0b0_c0d0)
    #expect(header.flags == [.fin, .psh, .ack, .urg])
    #expect(header.window == 0xfedc && header.urgentPointer == 7 && header.headerOctets == 20)
    #expect(header.options == TCPOptions())
  }

  @Test func malformed() {
    #expect(reason(Array(tcp()[..<19])) == .truncatedHeader)
    var short = tcp()
    short[12] = 0x40
    #expect(reason(short) == .badHeaderLength)
    short[12] = 0x60
    #expect(reason(short) == .badHeaderLength)
    #expect(reason(tcp(source: 0)) == .zeroPort)
    #expect(reason(tcp(destination: 0)) == .zeroPort)
    #expect(reason(tcp(flags: 0x03)) == .badTCPFlags)
    #expect(reason(tcp(flags: 0x06)) == .badTCPFlags)
    for flags in [0x00, 0x02, 0x12, 0x04, 0x11, 0x29] { #expect(reason(tcp(flags: flags)) == nil) }
  }

  @Test("options of a SYN as kernels send them") func synOptions() throws {
    let options: [UInt8] =
      [2, 4, 5, 0xb4, 4, 2, 8, 10] + big32(0x1122_3344) + big32(0) + [1, 3, 3, 7]
    let parsed = try TCPHeader(parsing: tcp(flags: 2, options: options).span.bytes).options
    #expect(parsed.maximumSegmentSize == 1460 && parsed.windowScale == 7 && parsed.sackPermitted)
    #expect(parsed.timestamp == TCPTimestamp(value: 0x1122_3344, echo: 0))
    #expect(parsed.sackBlocks.isEmpty)
  }

  @Test("a timestamp alone, and one with SACK blocks") func timestamps() throws {
    let timestamp: [UInt8] = [1, 1, 8, 10] + big32(7) + big32(9)
    let alone = try TCPHeader(parsing: tcp(options: timestamp).span.bytes).options
    #expect(alone.timestamp == TCPTimestamp(value: 7, echo: 9))
    let sack: [UInt8] = [1, 1, 5, 26] + (1...6).flatMap { big32($0 * 1000) }
    let both = try TCPHeader(parsing: tcp(options: timestamp + sack).span.bytes).options
    #expect(both.timestamp == alone.timestamp && both.sackBlocks.count == 3)
    #expect(
      both.sackBlocks[2] == SACKBlock(start: SequenceNumber(5000), end: SequenceNumber(6000)))
  }

  @Test("unknown options are skipped, the end ends, a scale over 14 is 14 (RFC 7323 §2.3)")
  func tolerance() throws {
    let unknown: [UInt8] = [254, 6, 1, 2, 3, 4, 3, 3, 15, 0, 9, 9]
    let parsed = try TCPHeader(parsing: tcp(options: unknown).span.bytes).options
    #expect(parsed.windowScale == 14)
  }

  @Test(
    "lengths that lie",
    arguments: [
      [2, 0, 0, 0], [2, 1, 0, 0], [2, 3, 0, 0], [2, 5, 0, 0], [3, 4, 0, 0], [4, 3, 0, 0],
      [1, 1, 1, 2], [8, 4, 0, 0], [5, 2, 0, 0], [5, 4, 0, 0], [99, 1, 0, 0], [99, 0, 0, 0],
    ] as [[UInt8]])
  func lyingLengths(options: [UInt8]) {
    #expect(reason(tcp(options: options)) == .badTCPOptions)
  }
}

@Suite("UDP header (RFC 768)") struct UDPHeaderTests {
  private func reason(_ segment: [UInt8]) -> DropReason? {
    do throws(DropReason) { _ = try UDPHeader(parsing: segment.span.bytes) } catch { return error }
    return nil
  }

  @Test func fields() throws {
    var segment = udp(payload: [1, 2, 3]) + [0]
    segment[6] = 0xab
    let header = try UDPHeader(parsing: segment.span.bytes)
    #expect(
      header == UDPHeader(sourcePort: 5353, destinationPort: 53, length: 11, checksum: 0xab00))
    #expect(header.payloadOctets == 3)
  }

  @Test func malformed() {
    #expect(reason([1, 2, 3, 4, 5, 6, 7]) == .truncatedHeader)
    #expect(reason(udp(length: 7, payload: [])) == .badTransportLength)
    #expect(reason(udp(length: 12, payload: [1, 2, 3])) == .badTransportLength)
    #expect(reason(udp(source: 0, payload: [])) == .zeroPort)
    #expect(reason(udp(destination: 0, payload: [])) == .zeroPort)
    #expect(reason(udp(payload: [])) == nil)
  }
}
