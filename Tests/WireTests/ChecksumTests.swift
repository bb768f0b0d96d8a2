// The wide sum against the definition.

import TestSupport
import Testing
import Wire

@Suite("Internet checksum (RFC 1071)") struct ChecksumTests {
  @Test("RFC 1071 §3's example") func example() {
    var checksum = Checksum()
    let octets: [UInt8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]
    checksum.add(octets.span.bytes)
    #expect(checksum.folded == 0xddf2 && checksum.value == 0x220d)
  }

  @Test("nothing sums to zero") func empty() { #expect(Checksum().folded == 0) }

  @Test("all lengths to 300 at all alignments agree with the definition") func lengths() {
    var random = SeededGenerator(seed: 3)
    let octets = random.octets(320)
    for start in 0..<16 {
      for count in 0...300 {
        var checksum = Checksum()
        octets.withUnsafeBytes { buffer in
          if let base = buffer.baseAddress { checksum.add(base + start, octets: count) }
        }
        #expect(checksum.folded == onesComplementSum(Array(octets[start..<start + count])))
      }
    }
  }

  @Test("random lengths to 64 KiB, cut anywhere, octets of any size, seed 4") func splits() {
    var random = SeededGenerator(seed: 4)
    for round in 0..<300 {
      let count = Int.random(in: 0...(round % 10 == 0 ? 65_536 : 600), using: &random)
      var octets = random.octets(count)
      if round % 3 == 0 { octets = octets.map { _ in 255 } }
      let payload = Payload(octets)
      let cuts = (0..<Int.random(in: 0...6, using: &random)).map { _ in
        Int.random(in: 0...count, using: &random)
      }
      var checksum = Checksum()
      payload.slices(cuts: cuts).withUnsafeBufferPointer { checksum.add($0) }
      #expect(checksum.folded == onesComplementSum(octets), "round \(round), cuts \(cuts)")
    }
  }

  @Test("pseudo-headers of both families (RFC 9293 §3.1, RFC 8200 §8.1), seed 5")
  func pseudoHeaders() throws {
    var random = SeededGenerator(seed: 5)
    for _ in 0..<500 {
      let count = Bool.random(using: &random) ? 4 : 16
      let source = try #require(IPAddress(octets: random.octets(count)))
      let destination = try #require(IPAddress(octets: random.octets(count)))
      let octets = Int.random(in: 0...65_535, using: &random)
      let transport = UInt8.random(in: 0...255, using: &random)
      var checksum = Checksum()
      checksum.addPseudoHeader(
        source: source, destination: destination, transport: transport, octets: octets)
      #expect(
        checksum.folded
          == onesComplementSum(pseudoHeader(source, destination, Int(transport), octets)))
    }
  }
}

@Suite("Transport checksums") struct TransportChecksumTests {
  @Test(
    "a flipped bit anywhere is noticed",
    arguments: [
      (false, 6, 16), (true, 6, 16), (false, 17, 6), (true, 17, 6), (false, 1, 2), (true, 58, 2),
    ])
  func flips(isIPv6: Bool, transport: Int, field: Int) throws {
    let body = Array("an odd number of octets".utf8)
    let segment =
      transport == 6
      ? tcp(payload: body) : transport == 17 ? udp(payload: body) : [8, 0, 0, 0, 1, 2, 3, 4] + body
    let packet = try withChecksum(
      isIPv6
        ? ipv6(next: transport, payload: segment) : ipv4(transport: transport, payload: segment),
      at: field)
    #expect(try checksumIsValid(packet))
    for bit in (packet.count - segment.count) * 8..<packet.count * 8 {
      if transport == 17, (4..<6).contains(bit / 8 - (packet.count - segment.count)) { continue }
      var broken = packet
      broken[bit / 8] ^= 0x80 >> UInt8(bit % 8)
      #expect(try !checksumIsValid(broken), "bit \(bit)")
    }
  }

  @Test("UDP without a checksum: fine over IPv4, wrong over IPv6 (RFC 8200 §8.1)") func zero()
    throws
  {
    #expect(try checksumIsValid(ipv4(transport: 17, payload: udp(payload: [1, 2, 3]))))
    #expect(try !checksumIsValid(ipv6(next: 17, payload: udp(payload: [1, 2, 3]))))
  }

  @Test("octets behind the UDP length do not count") func udpTrailer() throws {
    let datagram = try withChecksum(ipv4(transport: 17, payload: udp(payload: [1, 2, 3])), at: 6)
    let padded = ipv4(transport: 17, payload: Array(datagram[20...]) + [9, 9, 9])
    #expect(try checksumIsValid(padded))
    for length in [7, 60] {
      var segment = udp(length: length, payload: [1, 2, 3])
      segment[7] = 1
      #expect(try !checksumIsValid(ipv4(transport: 17, payload: segment)))
    }
    #expect(try !checksumIsValid(ipv4(transport: 17, payload: [1, 2, 3])))
  }

  @Test("other transports pass") func others() throws {
    #expect(try checksumIsValid(ipv4(transport: 47, payload: [1, 2, 3])))
  }
}
