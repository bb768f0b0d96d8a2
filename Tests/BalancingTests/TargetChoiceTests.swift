// Where a flow dials: every kind of host with every kind of port, and a name's addresses in turn.

import Balancing
import Configuration
import Testing
import Wire

@Suite("Target choice") struct TargetChoiceTests {
  static func rule(
    listen: [ListenPattern] = [ListenPattern(addresses: .any, ports: .all)], host: TargetHost,
    port: TargetPort
  ) -> ForwardRule {
    ForwardRule(name: "r", listen: listen, target: Target(host: host, port: port))
  }

  /// The destination as text, or nil.
  static func dialled(
    _ rule: ForwardRule, _ virtual: String, _ port: UInt16, resolved: [String] = [],
    attempt: Int = 0
  ) throws -> String? {
    let range = try #require(rule.listen.first).ports
    let choice = TargetChoice(rule.target)
    let virtual = try #require(IPAddress(virtual))
    return try resolved.map { try #require(IPAddress($0)) }.withUnsafeBufferPointer {
      choice.address(for: virtual, resolved: $0, attempt: attempt)
    }.map { $0.endpoint(port: choice.port(for: port, in: range)) }
  }

  @Test("a literal address is tried once, whatever the client named") func address() throws {
    let rule = Self.rule(
      host: .address(try #require(IPAddress("192.0.2.7"))), port: .fixed(8080))
    #expect(try Self.dialled(rule, "10.0.0.1", 80) == "192.0.2.7:8080")
    #expect(try Self.dialled(rule, "fd00::1", 443) == "192.0.2.7:8080")
    #expect(try Self.dialled(rule, "10.0.0.1", 80, attempt: 1) == nil)
  }

  @Test("a literal address takes no notice of resolved names") func addressBeforeNames() throws {
    let rule = Self.rule(host: .address(try #require(IPAddress("fd00::9"))), port: .same)
    #expect(
      try Self.dialled(rule, "10.0.0.1", 53, resolved: ["192.0.2.1"]) == "[fd00::9]:53")
    #expect(try Self.dialled(rule, "10.0.0.1", 53, resolved: ["192.0.2.1"], attempt: 1) == nil)
  }

  @Test("the original target is what the client named, address and port") func original() throws {
    let rule = Self.rule(host: .original, port: .same)
    #expect(try Self.dialled(rule, "198.51.100.4", 22) == "198.51.100.4:22")
    #expect(try Self.dialled(rule, "2001:db8::4", 22) == "[2001:db8::4]:22")
    #expect(try Self.dialled(rule, "198.51.100.4", 22, attempt: 1) == nil)
  }

  @Test(
    "a prefix keeps the client's host bits",
    arguments: [
      ("192.168.9.0/24", "10.77.1.42", "192.168.9.42:80"),
      ("192.168.0.0/16", "10.77.1.42", "192.168.1.42:80"),
      ("203.0.113.5/32", "10.77.1.42", "203.0.113.5:80"),
      ("2001:db8:1::/64", "fd00::1:2", "[2001:db8:1::1:2]:80"),
      ("2001:db8::/32", "fd00:1:2:3::4", "[2001:db8:2:3::4]:80"),
    ])
  func prefix(target: String, virtual: String, expected: String) throws {
    let rule = Self.rule(host: .prefix(try #require(IPPrefix(target))), port: .same)
    #expect(try Self.dialled(rule, virtual, 80) == expected)
    #expect(try Self.dialled(rule, virtual, 80, attempt: 1) == nil)
  }

  @Test("a name's addresses are tried in their order, each once") func name() throws {
    let rule = Self.rule(host: .name("db.example"), port: .fixed(5432))
    let resolved = ["192.0.2.2", "2001:db8::2", "192.0.2.1"]
    let tried = try (0...4).map {
      try Self.dialled(rule, "10.0.0.1", 1, resolved: resolved, attempt: $0)
    }
    #expect(
      tried == ["192.0.2.2:5432", "[2001:db8::2]:5432", "192.0.2.1:5432", nil, nil])
  }

  @Test("a name has as many addresses as its answer, every other target one") func counts() throws {
    let addresses = try ["192.0.2.1", "192.0.2.2"].map { try #require(IPAddress($0)) }
    func count(_ host: TargetHost, _ resolved: [IPAddress]) -> Int {
      resolved.withUnsafeBufferPointer {
        TargetChoice(Target(host: host, port: .same)).addressCount(resolved: $0)
      }
    }
    #expect(count(.name("db.example"), addresses) == 2)
    #expect(count(.name("db.example"), []) == 0)
    #expect(count(.original, addresses) == 1)
    #expect(count(.address(addresses[0]), []) == 1)
  }

  @Test("a name without an address leads nowhere") func unresolved() throws {
    let rule = Self.rule(host: .name("db.example"), port: .same)
    #expect(try Self.dialled(rule, "10.0.0.1", 80) == nil)
    #expect(try Self.dialled(rule, "10.0.0.1", 80, attempt: .max) == nil)
  }

  @Test("a shifted range moves by the distance between the ranges' first ports") func shifted()
    throws
  {
    let listen = [
      ListenPattern(addresses: .any, ports: PortRange(first: 8000, last: 8099))
    ]
    let rule = Self.rule(
      listen: listen, host: .address(try #require(IPAddress("192.0.2.7"))),
      port: .shifted(first: 37_000))
    #expect(try Self.dialled(rule, "10.0.0.1", 8000) == "192.0.2.7:37000")
    #expect(try Self.dialled(rule, "10.0.0.1", 8042) == "192.0.2.7:37042")
    #expect(try Self.dialled(rule, "10.0.0.1", 8099) == "192.0.2.7:37099")
  }

  @Test("a shifted range ends at port 65535, both ways") func shiftedToTheEnd() throws {
    let target = TargetHost.address(try #require(IPAddress("192.0.2.7")))
    let up = Self.rule(
      listen: [ListenPattern(addresses: .any, ports: PortRange(first: 1, last: 10))],
      host: target, port: .shifted(first: 65_526))
    #expect(try Self.dialled(up, "10.0.0.1", 10) == "192.0.2.7:65535")
    let down = Self.rule(
      listen: [ListenPattern(addresses: .any, ports: PortRange(first: 65_526, last: 65_535))],
      host: target, port: .shifted(first: 1))
    #expect(try Self.dialled(down, "10.0.0.1", 65_535) == "192.0.2.7:10")
  }
}
