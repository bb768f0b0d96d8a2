// No packet traps: every prefix of good packets, and good packets with octets changed at random.

import TestSupport
import Testing
import Wire

@Suite("Hostile packets") struct HostilePacketTests {
  static let seeds: [[UInt8]] = [
    ipv4(payload: tcp(flags: 2, options: [2, 4, 5, 0xb4, 1, 3, 3, 7], payload: [1, 2, 3])),
    ipv4(options: [1, 1, 1, 0], payload: tcp(options: [1, 1, 5, 10] + big32(1) + big32(9))),
    ipv4(transport: 17, payload: udp(payload: [1, 2, 3, 4, 5])),
    ipv4(transport: 1, payload: [8, 0, 0, 0, 0, 1, 0, 2, 9, 9]),
    ipv4(transport: 17, fragmentation: 0x2003, payload: [UInt8](repeating: 1, count: 16)),
    ipv6(payload: tcp(options: [1, 1, 8, 10] + big32(7) + big32(9), payload: [1])),
    ipv6(next: 17, payload: udp(payload: [1, 2, 3, 4, 5])),
    ipv6(next: 58, payload: [128, 0, 0, 0, 0, 1, 0, 2, 9, 9]),
    ipv6(
      next: 0,
      payload: [60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0]
        + [6, 0, 0, 0, 0, 0, 0, 7] + tcp(payload: [1, 2])),
    ipv6(next: 44, payload: [17, 0, 0, 0x11, 0, 0, 0, 7] + [UInt8](repeating: 1, count: 16)),
  ]

  /// Reads everything there is to read; returns whether the packet was sound.
  @discardableResult private func read(_ octets: [UInt8]) -> Bool {
    do throws(DropReason) {
      _ = try VirtioNetHeader(parsing: octets.span.bytes)
    } catch {}
    do throws(DropReason) {
      let parsed = try ParsedPacket(parsing: octets.span.bytes)
      let ip = parsed.ip
      _ = ip.martianReason()
      _ = transportChecksumIsValid(
        ip, segment: octets.span.bytes.extracting(ip.headerOctets..<ip.totalOctets))
      #expect(ip.headerOctets <= ip.totalOctets && ip.totalOctets <= octets.count)
      #expect(parsed.payloadOffset + parsed.payloadOctets <= ip.totalOctets)
      #expect(parsed.payloadOctets >= 0)
      return true
    } catch {
      return false
    }
  }

  @Test("the seeds are sound") func sound() {
    for (index, packet) in Self.seeds.enumerated() { #expect(read(packet), "seed packet \(index)") }
  }

  @Test("every prefix is refused, at every layer") func prefixes() {
    for packet in Self.seeds {
      for count in 0..<packet.count {
        #expect(!read(Array(packet[..<count])), "\(count) octets of \(packet)")
        // The same cut, told truthfully by the IP header, reaches the parsers behind it.
        read(truncated(packet, to: count))
      }
    }
  }

  @Test("100 000 mutations are read or refused, seed 9") func mutations() {
    var random = SeededGenerator(seed: 9)
    var sound = 0
    for _ in 0..<100_000 {
      var packet = Self.seeds[Int(random.next() % UInt64(Self.seeds.count))]
      for _ in 0...Int(random.next() % 4) {
        let index = Int(random.next() % UInt64(packet.count))
        packet[index] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.next() % 4 == 0 { packet.removeLast(Int(random.next() % UInt64(packet.count))) }
      if random.next() % 2 == 0 { packet = repaired(packet) }
      if read(packet) { sound += 1 }
    }
    // Mutations that only ever met the first check would show nothing.
    #expect(sound > 5_000 && sound < 95_000, "\(sound) sound")
  }

  /// The first `count` octets of a packet, with its length field and IPv4 checksum made right.
  private func truncated(_ packet: [UInt8], to count: Int) -> [UInt8] {
    var cut = Array(packet[..<count])
    if packet[0] >> 4 == 4, count >= 20 {
      cut.replaceSubrange(2..<4, with: big16(count))
    } else if packet[0] >> 4 == 6, count >= 40 {
      cut.replaceSubrange(4..<6, with: big16(count - 40))
    }
    return repaired(cut)
  }

  /// A right IPv4 header checksum, where there is a header.
  private func repaired(_ packet: [UInt8]) -> [UInt8] {
    guard let first = packet.first, first >> 4 == 4, first & 15 >= 5,
      packet.count >= Int(first & 15) * 4
    else { return packet }
    var packet = packet
    packet.replaceSubrange(10..<12, with: [0, 0])
    let sum = onesComplementSum(Array(packet[..<(Int(first & 15) * 4)]))
    packet.replaceSubrange(10..<12, with: big16(Int(~sum)))
    return packet
  }
}
