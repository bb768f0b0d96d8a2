// Which rule wins: the precedence of PRODUCT.md case by case, and random rules against a plain scan.

import SocketTable
import TestSupport
import Testing
import Wire

@Suite("Passive socket table") struct PassiveSocketTableTests {
  /// An entry from text such as "10.0.0.0/8" or "*".
  static func entry(
    _ addresses: String, _ ports: ClosedRange<UInt16>, _ rule: UInt32,
    _ transport: TransportProtocol = .tcp
  ) throws -> PassiveSocketTable.Entry {
    let pattern: AddressPattern =
      addresses == "*" ? .any : .prefix(try #require(IPPrefix(addresses)))
    let range = PortRange(first: ports.lowerBound, last: ports.upperBound)
    return (ListenPattern(addresses: pattern, ports: range), transport, rule)
  }

  static func rule(_ table: PassiveSocketTable, _ address: String, _ port: UInt16) throws -> UInt32?
  {
    table.rule(for: try #require(IPAddress(address)), port: port, transport: .tcp)
  }

  @Test("an empty table has no rule and covers nothing") func empty() throws {
    let table = PassiveSocketTable([])
    #expect(try Self.rule(table, "10.0.0.1", 80) == nil)
    #expect(try table.covers(#require(IPAddress("10.0.0.1"))) == false)
    #expect(try table.covers(#require(IPAddress("fd00::1"))) == false)
  }

  @Test("an exact address before the longest prefix before any") func addressPrecedence() throws {
    let table = PassiveSocketTable([
      try Self.entry("*", 80...80, 0),
      try Self.entry("10.0.0.0/8", 80...80, 1),
      try Self.entry("10.1.0.0/16", 80...80, 2),
      try Self.entry("10.1.2.3", 80...80, 3),
      try Self.entry("0.0.0.0/0", 80...80, 4),
    ])
    #expect(try Self.rule(table, "10.1.2.3", 80) == 3)
    #expect(try Self.rule(table, "10.1.2.4", 80) == 2)
    #expect(try Self.rule(table, "10.2.2.3", 80) == 1)
    #expect(try Self.rule(table, "11.0.0.1", 80) == 4)
    #expect(try Self.rule(table, "fd00::1", 80) == 0)
    #expect(try Self.rule(table, "10.1.2.3", 81) == nil)
  }

  @Test("an exact port before the narrowest range before all") func portPrecedence() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 1...65_535, 0),
      try Self.entry("10.0.0.1", 1_000...2_000, 1),
      try Self.entry("10.0.0.1", 1_500...1_600, 2),
      try Self.entry("10.0.0.1", 1_550...1_550, 3),
    ])
    for (port, rule) in [
      (1, 0), (999, 0), (1_000, 1), (1_499, 1), (1_500, 2), (1_549, 2), (1_550, 3), (1_551, 2),
      (1_600, 2), (1_601, 1), (2_000, 1), (2_001, 0), (65_535, 0),
    ] as [(UInt16, UInt32)] {
      #expect(try Self.rule(table, "10.0.0.1", port) == rule, "port \(port)")
    }
  }

  @Test("the address decides before the port does") func addressBeforePort() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 1...65_535, 0),
      try Self.entry("10.0.0.0/24", 80...80, 1),
    ])
    #expect(try Self.rule(table, "10.0.0.1", 80) == 0)
    #expect(try Self.rule(table, "10.0.0.2", 80) == 1)
  }

  @Test("a port without a rule at the address is looked for at the next less specific one")
  func fallsThrough() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 80...80, 0),
      try Self.entry("10.0.0.0/24", 90...91, 1),
      try Self.entry("10.0.0.0/24", 95...95, 2),
      try Self.entry("10.0.0.0/8", 90...99, 3),
      try Self.entry("*", 443...443, 4),
    ])
    #expect(try Self.rule(table, "10.0.0.1", 80) == 0)
    #expect(try Self.rule(table, "10.0.0.1", 90) == 1)
    #expect(try Self.rule(table, "10.0.0.1", 92) == 3)
    #expect(try Self.rule(table, "10.0.0.1", 95) == 2)
    #expect(try Self.rule(table, "10.0.0.1", 443) == 4)
    #expect(try Self.rule(table, "10.0.0.1", 81) == nil)
  }

  @Test("ranges that overlap without nesting: the narrower one takes what both want")
  func overlap() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 10...30, 0),
      try Self.entry("10.0.0.1", 25...35, 1),
      try Self.entry("10.0.0.1", 5...12, 2),
    ])
    #expect(try Self.rule(table, "10.0.0.1", 5) == 2)
    #expect(try Self.rule(table, "10.0.0.1", 12) == 2)
    #expect(try Self.rule(table, "10.0.0.1", 13) == 0)
    #expect(try Self.rule(table, "10.0.0.1", 24) == 0)
    #expect(try Self.rule(table, "10.0.0.1", 25) == 1)
    #expect(try Self.rule(table, "10.0.0.1", 35) == 1)
    #expect(try Self.rule(table, "10.0.0.1", 36) == nil)
  }

  @Test("of two entries of equal specificity the first is kept") func firstWins() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 80...80, 7), try Self.entry("10.0.0.1", 80...80, 8),
      try Self.entry("*", 80...80, 9), try Self.entry("*", 80...80, 10),
    ])
    #expect(try Self.rule(table, "10.0.0.1", 80) == 7)
    #expect(try Self.rule(table, "10.0.0.2", 80) == 9)
  }

  @Test("protocols and families do not mix") func separate() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.1", 53...53, 0, .udp), try Self.entry("::/0", 80...80, 1),
    ])
    #expect(try Self.rule(table, "10.0.0.1", 53) == nil)
    #expect(try Self.rule(table, "10.0.0.1", 80) == nil)
    #expect(try Self.rule(table, "2001:db8::1", 80) == 1)
    let address = try #require(IPAddress("10.0.0.1"))
    #expect(table.rule(for: address, port: 53, transport: .udp) == 0)
  }

  @Test("an address is covered by a rule of any protocol and port") func covers() throws {
    let table = PassiveSocketTable([
      try Self.entry("10.0.0.0/24", 53...53, 0, .udp), try Self.entry("fd00::1", 80...80, 1),
    ])
    for (text, covered) in [
      ("10.0.0.9", true), ("10.0.1.9", false), ("fd00::1", true), ("fd00::2", false),
    ] {
      #expect(try table.covers(#require(IPAddress(text))) == covered, "\(text)")
    }
    let everywhere = PassiveSocketTable([try Self.entry("*", 443...443, 0, .udp)])
    #expect(try everywhere.covers(#require(IPAddress("203.0.113.5"))))
    #expect(try everywhere.covers(#require(IPAddress("2001:db8::5"))))
  }

  @Test("a table of many addresses finds each of them") func many() {
    let entries: [PassiveSocketTable.Entry] = (UInt32(0)..<20_000).map { n in
      let prefix = IPPrefix(IPAddress(v4: 0x0a00_0000 + n * 3))
      return (ListenPattern(addresses: .prefix(prefix), ports: .all), .tcp, n)
    }
    let table = PassiveSocketTable(entries)
    for n in UInt32(0)..<60_000 {
      let rule = table.rule(for: IPAddress(v4: 0x0a00_0000 + n), port: 9, transport: .tcp)
      #expect(rule == (n % 3 == 0 ? n / 3 : nil))
    }
  }

  @Test("random rules: the table answers as a scan of all of them does", arguments: UInt64(0)..<64)
  func model(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let entries = (0..<UInt32.random(in: 0...120, using: &random)).map { rule in
      Self.randomEntry(rule, &random)
    }
    let table = PassiveSocketTable(entries)
    for query in 0..<600 {
      let address = Self.randomAddress(&random)
      let port = UInt16.random(in: 0...70, using: &random) * (query % 9 == 0 ? 900 : 1)
      let transport: TransportProtocol = Bool.random(using: &random) ? .tcp : .udp
      let expected = Self.scan(entries, address, port, transport)
      let found = table.rule(for: address, port: port, transport: transport)
      #expect(found == expected, "seed \(seed): \(transport) \(address) port \(port)")
      let covered = entries.contains { $0.pattern.addresses.contains(address) }
      #expect(table.covers(address) == covered, "seed \(seed): \(address)")
    }
  }

  /// PRODUCT.md's order said once more, slowly.
  static func scan(
    _ entries: [PassiveSocketTable.Entry], _ address: IPAddress, _ port: UInt16,
    _ transport: TransportProtocol
  ) -> UInt32? {
    func rank(_ entry: PassiveSocketTable.Entry) -> (Int, Int) {
      switch entry.pattern.addresses {
      case .any: (-1, -entry.pattern.ports.count)
      case .prefix(let prefix): (prefix.length, -entry.pattern.ports.count)
      }
    }
    var best: PassiveSocketTable.Entry?
    for entry in entries
    where entry.transport == transport && entry.pattern.matches(address, port: port) {
      if let standing = best, rank(standing) >= rank(entry) { continue }
      best = entry
    }
    return best?.rule
  }

  static func randomEntry(
    _ rule: UInt32, _ random: inout SeededGenerator
  ) -> PassiveSocketTable.Entry {
    let address = randomAddress(&random)
    let shortest = address.isIPv4 ? 96 : 0
    let length =
      Bool.random(using: &random)
      ? 128 : Int.random(in: shortest...128, using: &random)
    let pattern: AddressPattern =
      Int.random(in: 0..<8, using: &random) == 0
      ? .any : .prefix(IPPrefix(address, length: length))
    let first = UInt16.random(in: 1...70, using: &random)
    let ports =
      switch Int.random(in: 0..<4, using: &random) {
      case 0: PortRange.all
      case 1: PortRange(first: first, last: UInt16.random(in: first...80, using: &random))
      case 2: PortRange(first: first, last: 65_535)
      default: PortRange(first)
      }
    let transport: TransportProtocol = Bool.random(using: &random) ? .tcp : .udp
    return (ListenPattern(addresses: pattern, ports: ports), transport, rule)
  }

  /// Few addresses, so that patterns meet them and one another.
  static func randomAddress(_ random: inout SeededGenerator) -> IPAddress {
    let host = UInt32.random(in: 0..<8, using: &random)
    let network = UInt32.random(in: 0..<3, using: &random)
    return Bool.random(using: &random)
      ? IPAddress(v4: 0x0a00_0000 | network << 16 | host)
      : IPAddress(
        high: 0xfd77_0000_0000_0000 | UInt64(network) << 8,
        low: UInt64(host) << 60 | UInt64(network))
  }
}
