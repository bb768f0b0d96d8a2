import Configuration
import Testing
import Wire

// The URL at which people are told to look.

@Suite("The status page's URL follows from the configuration")
struct PageTests {
  private func url(
    status: String?, netns: String? = nil, listen: [ListenPattern] = [], target: Target? = nil,
    protocols: ProtocolSet = .tcp
  ) throws -> String? {
    var configuration = Configuration()
    configuration.device.netns = netns
    if let status {
      configuration.daemon.status = SocketAddress(address: try address(status), port: 9077)
    }
    if let target {
      configuration.forwards = [
        ForwardRule(name: "page", protocols: protocols, listen: listen, target: target)
      ]
    }
    return configuration.pageURL
  }

  private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

  private func pattern(_ text: String, _ ports: PortRange) throws -> ListenPattern {
    ListenPattern(addresses: .prefix(try #require(IPPrefix(text))), ports: ports)
  }

  private func target(_ text: String, _ port: UInt16 = 9077) throws -> Target {
    Target(host: .address(try address(text)), port: .fixed(port))
  }

  @Test("without daemon.status there is none") func none() throws {
    #expect(try url(status: nil) == nil)
  }

  @Test("a rule that leads to the page comes before the page's own address") func rule() throws {
    let web = try pattern("10.77.0.10", PortRange(80))
    let net = try pattern("10.77.4.0/24", .all)
    let high = try pattern("fd77::10", PortRange(first: 8080, last: 8089))
    let page = try target("127.0.0.1")
    #expect(try url(status: "127.0.0.1", listen: [web], target: page) == "http://10.77.0.10/")
    #expect(
      try url(status: "127.0.0.1", listen: [net, high], target: page) == "http://[fd77::10]:8080/")
    #expect(try url(status: "0.0.0.0", listen: [web], target: page) == "http://10.77.0.10/")
  }

  @Test(
    "rules that lead elsewhere, span networks, are for UDP or for another namespace do not count")
  func noRule() throws {
    let web = [try pattern("10.77.0.10", PortRange(80))]
    let net = [try pattern("10.77.4.0/24", .all)]
    let page = try target("127.0.0.1")
    let direct = "http://127.0.0.1:9077/"
    #expect(try url(status: "127.0.0.1") == direct)
    #expect(
      try url(status: "127.0.0.1", listen: web, target: try target("127.0.0.1", 80)) == direct)
    #expect(
      try url(status: "127.0.0.1", listen: web, target: try target("127.0.0.2")) == direct)
    #expect(try url(status: "127.0.0.1", listen: net, target: page) == direct)
    #expect(try url(status: "127.0.0.1", listen: web, target: page, protocols: .udp) == direct)
    #expect(
      try url(status: "127.0.0.1", netns: "/run/netns/x", listen: web, target: page) == direct)
  }

  @Test("all addresses are reached by loopback") func unspecified() throws {
    #expect(try url(status: "0.0.0.0") == "http://127.0.0.1:9077/")
    #expect(try url(status: "::") == "http://[::1]:9077/")
  }
}
