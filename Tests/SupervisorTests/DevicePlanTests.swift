// What of a configuration the device follows, and what it does not.

import Configuration
import Supervisor
import Testing
import Wire

@Suite("Device plan") struct DevicePlanTests {
  static func configuration(listen: String..., target: String = "192.0.2.7") throws
    -> Configuration
  {
    let patterns = try listen.map { text in
      ListenPattern(addresses: .prefix(try #require(IPPrefix(text))), ports: PortRange(80))
    }
    let host = TargetHost.address(try #require(IPAddress(target)))
    return Configuration(
      device: DeviceConfiguration(
        addresses: [InterfaceAddress(address: try #require(IPAddress("10.77.0.1")), length: 24)],
        routes: [try #require(IPPrefix("198.51.100.0/24"))], mtu: 9000),
      forwards: patterns.isEmpty
        ? []
        : [ForwardRule(name: "r", listen: patterns, target: Target(host: host, port: .same))])
  }

  @Test("addresses and MTU are the file's; routes are its own and those that rules need")
  func content() throws {
    let plan = DevicePlan(
      try Self.configuration(listen: "10.77.0.10", "203.0.113.0/25", "198.51.100.9", "fd00::10"))
    #expect(plan.addresses.map(\.description) == ["10.77.0.1/24"])
    #expect(
      plan.routes.map(\.description) == ["198.51.100.0/24", "203.0.113.0/25", "fd00::10/128"])
    #expect(plan.mtu == 9000)
  }

  @Test("a rule that needs no new route, or leads elsewhere, changes nothing at the device")
  func unchanged() throws {
    let plan = DevicePlan(try Self.configuration(listen: "10.77.0.10"))
    #expect(plan == DevicePlan(try Self.configuration(listen: "10.77.0.11")))
    #expect(plan == DevicePlan(try Self.configuration(listen: "10.77.0.10", target: "192.0.2.8")))
    #expect(plan == DevicePlan(try Self.configuration()))
    #expect(plan != DevicePlan(try Self.configuration(listen: "10.78.0.10")))
  }

  @Test("what a rule that leaves had stays routed, and * had everything") func leaving() throws {
    let old = try Self.configuration(listen: "10.77.0.10", "203.0.113.9")
    let new = try Self.configuration()
    let rule = try #require(old.forwards.first)
    let plan = DevicePlan(new, leaving: [LeavingRule(rule, of: old)])
    #expect(plan.routes == DevicePlan(old).routes)
    #expect(plan != DevicePlan(new))
    var any = rule
    any.listen = [ListenPattern(addresses: .any, ports: PortRange(80))]
    #expect(DevicePlan(new, leaving: [LeavingRule(any, of: old)]).routes == DevicePlan(old).routes)
    var bare = new
    bare.device.addresses = []
    #expect(
      DevicePlan(bare, leaving: [LeavingRule(any, of: old)]).routes.map(\.description)
        == ["10.77.0.0/24", "198.51.100.0/24", "203.0.113.9/32"])
  }

  @Test("what leads back into the device is what is routed there, without a default route")
  func ownPrefixes() throws {
    var configuration = try Self.configuration(listen: "10.77.0.10", "fd00::10")
    configuration.device.routes.append(try #require(IPPrefix("0.0.0.0/0")))
    #expect(
      DevicePlan(configuration).ownPrefixes.map(\.description)
        == ["10.77.0.0/24", "198.51.100.0/24", "fd00::10/128"])
    configuration.device.netns = "/run/netns/sandbox"
    #expect(DevicePlan(configuration).ownPrefixes.isEmpty)
  }

  @Test("what leads into the device is the routes and the on-link prefixes, each once")
  func prefixes() throws {
    var configuration = try Self.configuration(listen: "203.0.113.9")
    for (text, length) in [("10.77.0.2", 24), ("192.0.2.1", 32), ("fd77::1", 64), ("fd77::2", 128)]
    {
      configuration.device.addresses.append(
        InterfaceAddress(address: try #require(IPAddress(text)), length: length))
    }
    #expect(
      DevicePlan(configuration).prefixes.map(\.description)
        == ["198.51.100.0/24", "203.0.113.9/32", "10.77.0.0/24", "fd77::/64"])
  }

  @Test("what a device lacks is what is planned and not there, whatever else is") func missing()
    throws
  {
    let plan = DevicePlan(try Self.configuration(listen: "203.0.113.9"))
    #expect(plan.missingAddresses(from: plan.addresses).isEmpty)
    let stranger = InterfaceAddress(address: try #require(IPAddress("10.77.0.1")), length: 16)
    #expect(plan.missingAddresses(from: [stranger]) == plan.addresses)
    #expect(plan.missingPrefixes { _ in true }.isEmpty)
    #expect(
      plan.missingPrefixes { $0.description == "203.0.113.9/32" }.map(\.description)
        == ["198.51.100.0/24", "10.77.0.0/24"])
  }

  @Test("another MTU or address is another plan") func changed() throws {
    let configuration = try Self.configuration()
    var mtu = configuration
    mtu.device.mtu = 1500
    var addresses = configuration
    addresses.device.addresses = []
    #expect(DevicePlan(configuration) != DevicePlan(mtu))
    #expect(DevicePlan(configuration) != DevicePlan(addresses))
  }
}
