// Links, addresses and routes set over rtnetlink, each test in a network namespace of its own.

import Kernel
import Netlink
import Testing
import TunDevice
import Wire

@Suite("rtnetlink") struct NetlinkTests {
  private let v4 = IPAddress(v4: 0x0a4d_0001)
  private let v6 = IPAddress(high: 0xfd77_0000_0000_0000, low: 1)

  private func device(_ path: String, _ name: String = "ferry0") throws -> TunDevice {
    try TunDevice.open(name: name, namespace: path, queues: 1, offload: true, keep: false)
  }

  @Test("link state, MTU and queue length are set, as `ip` shows") func setsLink() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    var session = try NetlinkSession(namespace: namespace.path)
    try session.setLink(device.interfaceIndex, up: true, mtu: 9000, queueLength: 1000)
    let link = try #require(try session.link(device.interfaceIndex))
    #expect(link.isUp && link.mtu == 9000 && link.queueLength == 1000 && link.name == "ferry0")
    let shown = try namespace.output(of: "ip -j link show ferry0")
    #expect(shown.contains("\"mtu\":9000") && shown.contains("\"txqlen\":1000"))
    try session.setLink(device.interfaceIndex, up: false)
    #expect(try session.link(device.interfaceIndex)?.isUp == false)
    #expect(try session.link(device.interfaceIndex)?.mtu == 9000)
    withExtendedLifetime(device) {}
  }

  @Test("addresses of both families come and go, with their on-link routes") func setsAddresses()
    throws
  {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    try session.disableLinkLocalAddress(index)
    try session.setLink(index, up: true, mtu: 1500, queueLength: 1000)
    #expect(try session.addAddress(v4, length: 120, interfaceIndex: index))
    #expect(try session.addAddress(v6, length: 64, interfaceIndex: index))
    #expect(try session.addAddress(v6, length: 64, interfaceIndex: index) == false)
    #expect(try session.addAddress(v4, length: 120, interfaceIndex: index) == false)
    let held = try session.addresses(interfaceIndex: index)
    #expect(held.map(\.address) == [v4, v6])
    #expect(held.map(\.length) == [120, 64])
    let prefixes = try session.routes(interfaceIndex: index).map(\.prefix.description)
    #expect(prefixes.contains("10.77.0.0/24"))
    #expect(prefixes.contains("fd77::/64"))
    let shown = try namespace.output(of: "ip -j addr show ferry0")
    #expect(shown.contains("\"local\":\"10.77.0.1\",\"prefixlen\":24"))
    #expect(shown.contains("\"local\":\"fd77::1\",\"prefixlen\":64"))
    #expect(!shown.contains("tentative") && !shown.contains("fe80"))
    #expect(try session.removeAddress(v4, length: 120, interfaceIndex: index))
    #expect(try session.removeAddress(v6, length: 64, interfaceIndex: index))
    #expect(try session.removeAddress(v4, length: 120, interfaceIndex: index) == false)
    #expect(try session.removeAddress(v6, length: 64, interfaceIndex: index) == false)
    #expect(try session.addresses(interfaceIndex: index).isEmpty)
    withExtendedLifetime(device) {}
  }

  @Test("an address that another link has is refused, by that link's name")
  func refusesAddressInUse() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let other = try self.device(namespace.path, "other0")
    var session = try NetlinkSession(namespace: namespace.path)
    for address in [v4, v6] {
      let length = address.isIPv4 ? 120 : 64
      try session.addAddress(address, length: length, interfaceIndex: other.interfaceIndex)
      let index = device.interfaceIndex
      let error = #expect(throws: NetlinkError.self) {
        try session.addAddress(address, length: length, interfaceIndex: index)
      }
      #expect(error == .addressInUse(address, link: "other0"))
    }
    withExtendedLifetime(device) {}
    withExtendedLifetime(other) {}
  }

  @Test("routes of both families come and go, the default ones too") func setsRoutes() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    try session.setLink(index, up: true)
    try session.addAddress(v4, length: 120, interfaceIndex: index)
    let texts = ["198.18.0.0/15", "10.77.9.9/32", "0.0.0.0/0", "fd77:9::/48", "::/0"]
    let prefixes = texts.compactMap { IPPrefix($0) }
    for prefix in prefixes {
      #expect(try session.addRoute(prefix, interfaceIndex: index))
      #expect(try session.addRoute(prefix, interfaceIndex: index) == false)
    }
    let held = try session.routes(interfaceIndex: index).map(\.prefix)
    for prefix in prefixes { #expect(held.contains(prefix)) }
    #expect(try namespace.output(of: "ip -j route").contains("\"dst\":\"198.18.0.0/15\""))
    // The address's own prefix leads there already.
    let onLink = try #require(IPPrefix("10.77.0.0/24"))
    #expect(try session.addRoute(onLink, interfaceIndex: index) == false)
    for prefix in prefixes {
      #expect(try session.removeRoute(prefix, interfaceIndex: index))
      #expect(try session.removeRoute(prefix, interfaceIndex: index) == false)
    }
    withExtendedLifetime(device) {}
  }

  @Test("a prefix that leads elsewhere is refused, by that link's name") func refusesRouteInUse()
    throws
  {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let other = try self.device(namespace.path, "other0")
    var session = try NetlinkSession(namespace: namespace.path)
    let prefix = try #require(IPPrefix("198.18.0.0/15"))
    try session.setLink(device.interfaceIndex, up: true)
    try session.setLink(other.interfaceIndex, up: true)
    try session.addRoute(prefix, interfaceIndex: other.interfaceIndex)
    let index = device.interfaceIndex
    let error = #expect(throws: NetlinkError.self) {
      try session.addRoute(prefix, interfaceIndex: index)
    }
    #expect(error == .routeInUse(prefix, link: "other0"))
    withExtendedLifetime(device) {}
    withExtendedLifetime(other) {}
  }

  @Test("refusals carry the kernel's words; a device that is gone is told as such")
  func explainsRefusals() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    let error = #expect(throws: NetlinkError.self) { try session.setLink(index, mtu: 70000) }
    #expect(
      error?.description
        == "configuring the device failed: mtu greater than device maximum, Invalid argument (EINVAL)"
    )
    let v4 = v4
    let v6 = v6
    let gone = #expect(throws: NetlinkError.self) {
      try session.addAddress(v4, length: 120, interfaceIndex: 4242)
    }
    #expect(gone == .linkMissing(action: "adding address 10.77.0.1 to the device"))
    _ = try namespace.output(of: "sysctl -w net.ipv6.conf.ferry0.disable_ipv6=1")
    let off = #expect(throws: NetlinkError.self) {
      try session.addAddress(v6, length: 64, interfaceIndex: index)
    }
    #expect(off == .ipv6Unavailable(v6))
    withExtendedLifetime(device) {}
  }

  @Test("a link is found by name, and removed once") func removesLinks() throws {
    let namespace = try TestNamespace()
    _ = try namespace.output(of: "ip link add v0 type veth peer name v1")
    var session = try NetlinkSession(namespace: namespace.path)
    let link = try #require(try session.link(named: "v0"))
    #expect(link.kind == "veth")
    try session.removeLink(link.index)
    #expect(try session.link(named: "v0") == nil)
    try session.removeLink(link.index)
    #expect(try session.links().map(\.name) == ["lo"])
  }

  @Test("many addresses are listed whole") func listsMany() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    var session = try NetlinkSession(namespace: namespace.path)
    for host in 1...400 {
      try session.addAddress(
        IPAddress(v4: 0xc612_0000 + UInt32(host)), length: 128,
        interfaceIndex: device.interfaceIndex)
    }
    #expect(try session.addresses(interfaceIndex: device.interfaceIndex).count == 400)
    withExtendedLifetime(device) {}
  }

  @Test("a missing namespace is named") func namesMissingNamespace() {
    let error = #expect(throws: NetlinkError.self) {
      _ = try NetlinkSession(namespace: "/run/netns/no-such")
    }
    #expect(error == .namespace(.missing(path: "/run/netns/no-such")))
  }
}
