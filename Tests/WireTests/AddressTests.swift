// Addresses, prefixes, patterns as text and as sets.

import TestSupport
import Testing
import Wire

@Suite("IPAddress text (RFC 4291 §2.2, RFC 5952)") struct AddressTextTests {
  @Test(
    "RFC 4291's examples are read",
    arguments: [
      ("ABCD:EF01:2345:6789:ABCD:EF01:2345:6789", "abcd:ef01:2345:6789:abcd:ef01:2345:6789"),
      ("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"),
      ("FF01:0:0:0:0:0:0:101", "ff01::101"), ("0:0:0:0:0:0:0:1", "::1"),
      ("0:0:0:0:0:0:0:0", "::"), ("FF01::101", "ff01::101"), ("::1", "::1"), ("::", "::"),
      ("0:0:0:0:0:0:13.1.68.3", "::d01:4403"), ("::13.1.68.3", "::d01:4403"),
      ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ])
  func rfc4291(text: String, canonical: String) throws {
    #expect(try #require(IPAddress(text)).description == canonical)
  }

  @Test(
    "RFC 5952's rules shape the output",
    arguments: [
      ("2001:0db8::0001", "2001:db8::1"),  // §4.1
      ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),  // §4.2.1
      ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),  // §4.2.2
      ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),  // §4.2.3, the longer run
      ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),  // §4.2.3, the first of equals
      ("2001:DB8::AAAA", "2001:db8::aaaa"),  // §4.3
      ("1:0:0:0:0:0:0:0", "1::"), ("0:0:0:0:0:0:1:0", "::1:0"), ("192.0.2.255", "192.0.2.255"),
    ])
  func rfc5952(text: String, canonical: String) throws {
    #expect(try #require(IPAddress(text)).description == canonical)
  }

  @Test(
    "anything else is refused",
    arguments: [
      "", " ", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "1.2.3.", ".1.2.3", "1..2.3",
      "1.2.3.4 ", "+1.2.3.4", "0x1.2.3.4", "1.2.3.4444", ":", ":::", "1:::2", "::1::", "1::2::3",
      "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
      ":1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:", "12345::", "g::", "fe80::1%eth0", "[::1]", "1:2:3:4:5:6:7:1.2.3.4",
      "1.2.3.4::", "::1.2.3.4:5", "::1.2.3", "٣.1.1.1", "::1\0",
      // Mapped, in every spelling.
      "::ffff:1.2.3.4", "::FFFF:102:304", "0:0:0:0:0:ffff:0:0", "0::ffff:10.0.0.1",
    ])
  func refused(text: String) { #expect(IPAddress(text) == nil) }

  @Test("description and octets are read back, 20 000 random addresses, seed 1") func roundTrip() {
    var random = SeededGenerator(seed: 1)
    for _ in 0..<20_000 {
      let isIPv4 = Bool.random(using: &random)
      var octets = random.octets(isIPv4 ? 4 : 16)
      // Plenty of zero groups, or "::" would never be seen.
      for index in octets.indices where random.next() % 2 == 0 {
        octets[index & ~1] = 0
        octets[index | 1] = 0
      }
      let address = IPAddress(octets: octets)
      #expect(address?.octets == octets)
      #expect(address.flatMap { IPAddress($0.description) } == address)
    }
    #expect(IPAddress(octets: [1, 2, 3]) == nil)
  }

  @Test("substrings are text too") func substring() {
    #expect(IPAddress("x10.0.0.1".dropFirst()) == IPAddress(v4: 0x0a00_0001))
  }
}

@Suite("IPAddress kinds (RFC 1122 §3.2.1.3, RFC 4291 §2.4)") struct AddressKindTests {
  @Test func families() {
    #expect(address("10.0.0.1").isIPv4 && address("10.0.0.1").v4 == 0x0a00_0001)
    #expect(!address("::").isIPv4 && !address("::1.2.3.4").isIPv4)
  }

  @Test(
    arguments: [
      ("0.0.0.0", "unspecified this-network"), ("::", "unspecified"), ("127.0.0.1", "loopback"),
      ("127.255.255.255", "loopback"), ("::1", "loopback"), ("224.0.0.1", "multicast"),
      ("239.255.255.255", "multicast"), ("ff02::1", "multicast"), ("240.0.0.1", "reserved"),
      ("255.255.255.255", "broadcast reserved"), ("169.254.1.1", "link-local"),
      ("fe80::1", "link-local"),
      ("febf::1", "link-local"), ("fec0::1", ""), ("10.0.0.1", ""), ("128.0.0.1", ""),
      ("0.1.2.3", "this-network"), ("2001:db8::1", ""),
    ])
  func kinds(text: String, expected: String) {
    let a = address(text)
    var kinds: [String] = []
    if a.isUnspecified { kinds.append("unspecified") }
    if a.isLoopback { kinds.append("loopback") }
    if a.isMulticast { kinds.append("multicast") }
    if a.isLimitedBroadcast { kinds.append("broadcast") }
    if a.isReserved { kinds.append("reserved") }
    if a.isLinkLocalUnicast { kinds.append("link-local") }
    if a.isThisNetwork { kinds.append("this-network") }
    #expect(kinds.joined(separator: " ") == expected)
  }
}

@Suite("IPPrefix") struct PrefixTests {
  @Test(
    arguments: [
      ("10.0.0.0/8", "10.0.0.0/8", 8, false), ("10.1.2.3/8", "10.0.0.0/8", 8, true),
      ("10.1.2.3", "10.1.2.3/32", 32, false), ("0.0.0.0/0", "0.0.0.0/0", 0, false),
      ("fd00::/8", "fd00::/8", 8, false), ("fd00::1/64", "fd00::/64", 64, true),
      ("::/0", "::/0", 0, false), ("2001:db8::1", "2001:db8::1/128", 128, false),
      ("2001:db8::ff/127", "2001:db8::fe/127", 127, true),
    ])
  func text(text: String, canonical: String, length: Int, hostBits: Bool) throws {
    let prefix = try #require(IPPrefix(text))
    #expect(prefix.description == canonical)
    #expect(prefix.textLength == length)
    #expect(prefix.length == (prefix.isIPv4 ? 96 + length : length))
    #expect(IPPrefix.hasHostBits(text) == hostBits)
  }

  @Test(arguments: [
    "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/-1", "::/129", "10.0.0/8",
    "10.0.0.0/8/8", "::ffff:10.0.0.0/104", "10.0.0.0/8 ", "10.0.0.0/999",
  ])
  func refused(text: String) { #expect(IPPrefix(text) == nil) }

  @Test("membership agrees with a comparison bit by bit, seed 2") func contains() throws {
    var random = SeededGenerator(seed: 2)
    func bits(_ octets: [UInt8]) -> [Bool] {
      octets.flatMap { octet in (0..<8).map { octet >> (7 - $0) & 1 == 1 } }
    }
    for _ in 0..<2000 {
      let count = Bool.random(using: &random) ? 4 : 16
      let network = random.octets(count)
      let length = Int.random(in: 0...count * 8, using: &random)
      var other = network
      let flipped = Int.random(in: 0..<count * 8, using: &random)
      other[flipped / 8] ^= 0x80 >> (flipped % 8)
      let prefix = IPPrefix(
        try #require(IPAddress(octets: network)), length: length + (128 - count * 8))
      let candidate = try #require(IPAddress(octets: other))
      #expect(prefix.contains(candidate) == (flipped >= length))
      let translated = prefix.replacingPrefix(of: candidate)
      #expect(prefix.contains(translated))
      #expect(bits(translated.octets)[length...] == bits(other)[length...])
    }
  }

  @Test("no prefix holds addresses of both families") func families() {
    #expect(IPPrefix("::/0")?.contains(address("10.0.0.1")) == false)
    #expect(IPPrefix("::/0")?.contains(address("2001:db8::1")) == true)
    #expect(IPPrefix("0.0.0.0/0")?.contains(address("::1")) == false)
  }

  @Test("prefix translation keeps host bits") func translation() throws {
    let prefix = try #require(IPPrefix("192.168.9.0/24"))
    #expect(prefix.replacingPrefix(of: address("10.77.4.33")) == address("192.168.9.33"))
  }
}

@Suite("ListenPattern") struct ListenPatternTests {
  @Test func matches() throws {
    let lab = ListenPattern(
      addresses: .prefix(try #require(IPPrefix("10.77.4.0/24"))),
      ports: PortRange(first: 100, last: 200))
    #expect(lab.matches(address("10.77.4.9"), port: 100))
    #expect(lab.matches(address("10.77.4.9"), port: 200))
    #expect(!lab.matches(address("10.77.4.9"), port: 201))
    #expect(!lab.matches(address("10.77.5.9"), port: 100))
    let any = ListenPattern(addresses: .any, ports: .all)
    #expect(any.matches(address("::1"), port: 65535) && any.matches(address("10.0.0.1"), port: 1))
    #expect(!any.matches(address("::1"), port: 0))
    #expect(PortRange.all.count == 65535 && PortRange(7).count == 1)
  }

  @Test func text() throws {
    func pattern(_ prefix: String?, _ ports: PortRange) throws -> String {
      let addresses = try prefix.map { AddressPattern.prefix(try #require(IPPrefix($0))) } ?? .any
      return ListenPattern(addresses: addresses, ports: ports).description
    }
    #expect(try pattern(nil, PortRange(443)) == "*:443")
    #expect(try pattern("10.0.0.1", .all) == "10.0.0.1:*")
    #expect(try pattern("fd77::20", PortRange(first: 1, last: 9)) == "[fd77::20]:1-9")
    #expect(try pattern("fd77::/64", PortRange(80)) == "[fd77::/64]:80")
  }

  @Test func tupleText() {
    let tuple = FiveTuple(
      client: address("fd77::2"), virtual: address("fd77::1"), clientPort: 40000, virtualPort: 80,
      transport: .tcp)
    #expect(tuple.description == "tcp [fd77::2]:40000 -> [fd77::1]:80")
  }
}

@Suite("DropReason") struct DropReasonTests {
  @Test("words are distinct, kebab case, and explained") func words() {
    let words = DropReason.allCases.map(\.word)
    #expect(Set(words).count == words.count)
    for reason in DropReason.allCases {
      #expect(reason.word.utf8.allSatisfy { (97...122).contains($0) || $0 == 45 })
      #expect(!reason.explanation.isEmpty && reason.explanation.last != ".")
    }
  }

  @Test("every reason has a counter of its own") func counters() {
    #expect(DropReason.allCases.count <= DropCounters.reasonsMax)
    var counters = DropCounters()
    for (index, reason) in DropReason.allCases.enumerated() {
      counters.count(reason, by: UInt64(index))
      counters.count(reason)
    }
    for (index, reason) in DropReason.allCases.enumerated() {
      #expect(counters[reason] == UInt64(index) + 1)
    }
    let total = counters.total
    counters.add(counters)
    #expect(counters.total == total * 2)
  }
}
