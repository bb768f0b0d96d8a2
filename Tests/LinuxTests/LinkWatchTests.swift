// What a watch of a link hears, each test in a network namespace of its own. What it must not hear is
// looked for behind the call that makes it: the kernel announces a change before that returns.

import Kernel
import Netlink
import Testing
import TunDevice
import Wire

@Suite("Watching a link") struct LinkWatchTests {
  private let v4 = IPAddress(v4: 0x0a4d_0001)
  private let v6 = IPAddress(high: 0xfd77_0000_0000_0000, low: 1)

  private func device(_ path: String, _ name: String = "ferry0") throws -> TunDevice {
    try TunDevice.open(name: name, namespace: path, queues: 1, offload: true, keep: false)
  }

  @Test("every kind of change of the link is heard")
  func hearsChanges() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    try session.disableLinkLocalAddress(index)
    let watch = try LinkWatch(namespace: namespace.path, interfaceIndex: index)
    let atFirst = try watch.drain()
    #expect(!atFirst)
    let route4 = try #require(IPPrefix("198.18.0.0/15"))
    let route6 = try #require(IPPrefix("fd78::/64"))
    let changes: [(String, (inout NetlinkSession) throws -> Void)] = [
      ("up", { try $0.setLink(index, up: true) }),
      ("MTU", { try $0.setLink(index, mtu: 1400) }),
      ("IPv4 address", { try $0.addAddress(v4, length: 120, interfaceIndex: index) }),
      ("IPv6 address", { try $0.addAddress(v6, length: 64, interfaceIndex: index) }),
      ("IPv4 route", { try $0.addRoute(route4, interfaceIndex: index) }),
      ("IPv6 route", { try $0.addRoute(route6, interfaceIndex: index) }),
      ("no IPv4 route", { try $0.removeRoute(route4, interfaceIndex: index) }),
      ("no IPv6 route", { try $0.removeRoute(route6, interfaceIndex: index) }),
      ("no IPv4 address", { try $0.removeAddress(v4, length: 120, interfaceIndex: index) }),
      ("no IPv6 address", { try $0.removeAddress(v6, length: 64, interfaceIndex: index) }),
      ("down", { try $0.setLink(index, up: false) }),
      ("gone", { try $0.removeLink(index) }),
    ]
    for (name, change) in changes {
      try change(&session)
      let number = watch.number
      #expect(try waitUntil(.readable, number) == .readable, "\(name)")
      let hasChanged = try watch.drain()
      #expect(hasChanged, "\(name)")
    }
    withExtendedLifetime(device) {}
  }

  @Test("other links are none of its business, but for a route that may have taken its place")
  func ignoresOthers() throws {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let other = try self.device(namespace.path, "other0")
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    try session.setLink(index, up: true)
    let prefix = try #require(IPPrefix("198.18.0.0/15"))
    try session.addRoute(prefix, interfaceIndex: index)
    let watch = try LinkWatch(namespace: namespace.path, interfaceIndex: index)
    let elsewhere = other.interfaceIndex
    try session.setLink(elsewhere, up: true, mtu: 1400)
    let foreign = try #require(IPPrefix("203.0.113.0/24"))
    // The link's own last announcements (its carrier, its link-local address) come some time after it
    // went up: they spoil the first rounds at most, a watch that hears others spoils every one.
    var heardOthers = true
    for _ in 0..<100 where heardOthers {
      try session.addAddress(v4, length: 120, interfaceIndex: elsewhere)
      try session.addRoute(foreign, interfaceIndex: elsewhere)
      try session.removeRoute(foreign, interfaceIndex: elsewhere)
      try session.removeAddress(v4, length: 120, interfaceIndex: elsewhere)
      heardOthers = try watch.drain()
    }
    #expect(!heardOthers)
    #expect(try namespace.output(of: "ip route replace 198.18.0.0/15 dev other0") == "")
    let ofReplacement = try watch.drain()
    #expect(ofReplacement)
    #expect(try session.routes(interfaceIndex: index).allSatisfy { $0.prefix != prefix })
    withExtendedLifetime(device) {}
    withExtendedLifetime(other) {}
  }

  @Test("announcements that were lost count as a change, and hearing goes on")
  func survivesOverrun()
    throws
  {
    let namespace = try TestNamespace()
    let device = try device(namespace.path)
    let other = try self.device(namespace.path, "other0")
    let index = device.interfaceIndex
    var session = try NetlinkSession(namespace: namespace.path)
    let watch = try LinkWatch(namespace: namespace.path, interfaceIndex: index)
    // All of another link: what is heard below is the loss itself.
    for host in 1...1500 {
      let address = IPAddress(v4: 0xc612_0000 + UInt32(host))
      try session.removeAddress(address, length: 128, interfaceIndex: other.interfaceIndex)
      if host <= 600 {
        try session.addAddress(address, length: 128, interfaceIndex: other.interfaceIndex)
      }
    }
    var changed = false
    while try waitIsReadable(watch.number) { changed = try watch.drain() || changed }
    #expect(changed)
    try session.setLink(index, up: true)
    let afterwards = try watch.drain()
    #expect(afterwards)
    withExtendedLifetime(device) {}
    withExtendedLifetime(other) {}
  }

  /// Whether there is something to read at this moment.
  private func waitIsReadable(_ number: CInt) throws -> Bool {
    var epoll = try Epoll()
    try epoll.add(number, token: 1, interests: .readable)
    let now = MonotonicClock.now()
    return try epoll.wait(until: now, now: now) == 1
  }

  @Test("a missing namespace is named") func namesMissingNamespace() {
    let error = #expect(throws: NetlinkError.self) {
      _ = try LinkWatch(namespace: "/run/netns/no-such", interfaceIndex: 1)
    }
    #expect(error == .namespace(.missing(path: "/run/netns/no-such")))
  }
}
