// Files that are right, and what they come to.

import Configuration
import Primitives
import TOML
import Testing
import Wire

@Suite("Configuration") struct LoadTests {
  @Test("every key has its meaning") func everything() throws {
    let configuration = try load(
      """
      [device]
      name = "tun9"
      addresses = ["10.77.0.1/24", "fd77::1/64"]
      routes = ["198.51.100.0/24"]
      netns = "/run/netns/sandbox"
      mtu = 9000
      queues = 1
      offload = false
      keep = true
      [daemon]
      control = "/run/x.sock"
      status = "[::1]:9077"
      log = { level = "debug", format = "json" }
      drain_timeout = "250ms"
      max_flows = 1_000_000
      unmatched = "drop"
      user = "portferry"
      [defaults]
      protocol = "udp"
      connect_timeout = "3s"
      idle_timeout = "1d"
      udp_timeout = "5m"
      keepalive = "75s"
      max_connections = 7
      max_half_open = 5
      on_reload = "drain"
      congestion = "newreno"
      [[forward]]
      name = "a"
      listen = "10.77.0.10:80"
      target = "127.0.0.1:8080"
      [[forward]]
      name = "b"
      protocol = "tcp+udp"
      listen = ["*:443", "[fd77::20]:27000-27999"]
      target = "Host.Example.:*"
      connect_timeout = "1ms"
      idle_timeout = "2h"
      udp_timeout = "3m"
      keepalive = "9h"
      max_connections = 8
      max_half_open = 6
      on_reload = "reset"
      congestion = "cubic"
      """)
    #expect(
      configuration.device
        == DeviceConfiguration(
          name: "tun9",
          addresses: [
            InterfaceAddress(address: try address("10.77.0.1"), length: 24),
            InterfaceAddress(address: try address("fd77::1"), length: 64),
          ], routes: [try prefix("198.51.100.0/24")], netns: "/run/netns/sandbox", mtu: 9000,
          queues: 1, offload: false, keep: true))
    #expect(
      configuration.daemon
        == DaemonConfiguration(
          control: "/run/x.sock", status: SocketAddress(address: try address("::1"), port: 9077),
          log: LogConfiguration(level: .debug, format: .json), drainTimeout: .milliseconds(250),
          maxFlows: 1_000_000, unmatched: .drop, user: "portferry"))
    let a = ForwardRule(
      name: "a", protocols: .udp, listen: [try pattern("10.77.0.10", 80, 80)],
      target: Target(host: .address(try address("127.0.0.1")), port: .fixed(8080)),
      connectTimeout: .seconds(3), idleTimeout: .seconds(86_400), udpTimeout: .seconds(300),
      keepalive: .seconds(75), maxConnections: 7, maxHalfOpen: 5, onReload: .drain,
      congestion: .newReno)
    let b = ForwardRule(
      name: "b", protocols: [.tcp, .udp],
      listen: [try pattern("*", 443, 443), try pattern("fd77::20", 27000, 27999)],
      target: Target(host: .name("host.example"), port: .same), connectTimeout: .milliseconds(1),
      idleTimeout: .seconds(7200), udpTimeout: .seconds(180), keepalive: .seconds(9 * 3600),
      maxConnections: 8, maxHalfOpen: 6, onReload: .reset, congestion: .cubic)
    #expect(configuration.forwards == [a, b])
    #expect(configuration.forwards.map(\.line) == [28, 32])
  }

  @Test("keepalive is off unless a rule or the defaults name an interval; a rule may switch it off")
  func keepalive() throws {
    func interval(defaults: String, rule: String) throws -> Interval? {
      try load(
        """
        [defaults]
        \(defaults)
        [[forward]]
        name = "a"
        listen = "10.77.0.10:80"
        target = "127.0.0.1:8080"
        \(rule)
        """
      ).forwards.first?.keepalive
    }
    let on = "keepalive = \"75s\""
    let off = "keepalive = \"off\""
    #expect(try interval(defaults: "", rule: "") == nil)
    #expect(try interval(defaults: on, rule: "") == .seconds(75))
    #expect(try interval(defaults: on, rule: off) == nil)
    #expect(try interval(defaults: off, rule: "") == nil)
    #expect(try interval(defaults: off, rule: "keepalive = \"1500ms\"") == .milliseconds(1500))
    #expect(try interval(defaults: on, rule: "keepalive = \"2h\"") == .seconds(7200))
  }

  @Test("an empty file has defaults, and a warning that nothing is forwarded") func defaults()
    throws
  {
    let loaded = try Configuration.load([], file: "p.toml")
    #expect(loaded.configuration == Configuration())
    #expect(loaded.configuration.device.name == "ferry0")
    #expect(loaded.configuration.device.mtu == 1500)
    #expect(loaded.configuration.device.queues == nil)
    #expect(loaded.configuration.daemon.control == "/run/portferry/control.sock")
    #expect(loaded.configuration.daemon.log.level == .notice)
    #expect(loaded.configuration.daemon.drainTimeout == .seconds(30))
    #expect(loaded.configuration.daemon.maxFlows == 65536)
    #expect(
      loaded.warnings.map { $0.render() } == [
        "p.toml: warning: no rules: nothing is forwarded (a rule begins with [[forward]])"
      ])
    #expect(try load("daemon.control = \"off\"\n").daemon.control == nil)
    #expect(try load("device.queues = \"auto\"\n").device.queues == nil)
    #expect(try load("device.queues = 64\n").device.queues == 64)
  }

  @Test(
    "as many workers as the file says; else one for each core, and for each 1024 flows",
    arguments: [
      (nil, 65_536, 1, 1), (nil, 65_536, 2, 2), (nil, 65_536, 16, 16), (nil, 65_536, 128, 64),
      (nil, 4095, 16, 3), (nil, 1, 16, 1), (4, 65_536, 2, 4), (64, 65_536, 1, 64), (4, 3, 2, 3),
      (1, 65_536, 16, 1),
    ] as [(Int?, Int, Int, Int)])
  func workers(queues: Int?, maxFlows: Int, cores: Int, workers: Int) {
    let configuration = Configuration(
      device: DeviceConfiguration(queues: queues),
      daemon: DaemonConfiguration(maxFlows: maxFlows))
    #expect(configuration.workers(cores: cores) == workers)
  }

  @Test(
    "listen texts, and their canonical form",
    arguments: [
      ("10.77.0.10:80", "10.77.0.10:80"), ("10.77.0.10/32:80", "10.77.0.10:80"),
      ("[FD77:0::20]:27000-27999", "[fd77::20]:27000-27999"), ("*:443", "*:443"), ("*:*", "*:*"),
      ("10.77.4.0/24:*", "10.77.4.0/24:*"), ("[fd77::/64]:80", "[fd77::/64]:80"),
      ("10.0.0.1:1-65535", "10.0.0.1:*"),
      ("10.0.0.1:80,443,8000-8010", "10.0.0.1:80, 10.0.0.1:443, 10.0.0.1:8000-8010"),
    ])
  func listen(text: String, canonical: String) throws {
    let configuration = try load(rule("listen = \"\(text)\"", "target = \"original\""))
    #expect(configuration.forwards.first?.listenText == canonical)
  }

  @Test(
    "target texts, and their canonical form",
    arguments: [
      ("10.0.0.0/24:100-199", "127.0.0.1:8080", "127.0.0.1:8080"),
      ("10.0.0.0/24:100-199", "[::1]:8080-8080", "[::1]:8080"),
      ("10.0.0.0/24:100-199", "192.0.2.7:300-399", "192.0.2.7:300-399"),
      ("10.0.0.0/24:100-199", "192.0.2.7:100-199", "192.0.2.7:*"),
      ("10.0.0.0/24:100-199", "db.example:*", "db.example:*"),
      ("10.0.0.0/24:100-199", "192.168.9.0/24:*", "192.168.9.0/24:*"),
      ("10.0.0.0/24:100-199", "192.168.9.0/24:300-399", "192.168.9.0/24:300-399"),
      ("[fd77::/64]:1", "[fd99::/64]:*", "[fd99::/64]:*"),
      ("10.0.0.0/24:100-199", "original", "original"),
      ("10.0.0.0/24:100-199", "1.2.3.4/32:5", "1.2.3.4:5"),
    ])
  func target(listen: String, text: String, canonical: String) throws {
    let configuration = try load(rule("listen = \"\(listen)\"", "target = \"\(text)\""))
    #expect(configuration.forwards.first?.targetText == canonical)
  }

  @Test("a target's port follows from what the client named") func translation() {
    let range = PortRange(first: 100, last: 199)
    #expect(TargetPort.shifted(first: 300).number(for: 199, in: range) == 399)
    #expect(TargetPort.same.number(for: 150, in: range) == 150)
    #expect(TargetPort.fixed(1).number(for: 150, in: range) == 1)
  }

  @Test("routes are what rules listen on and the file names, less what is on the link")
  func routes()
    throws
  {
    let configuration = try load(
      """
      device.addresses = ["10.77.0.1/24", "fd77::1/64"]
      device.routes = ["198.51.100.0/24", "198.51.100.128/25", "10.77.0.0/25"]
      """ + "\n"
        + rule(
          #"listen = ["10.77.0.10:80", "10.9.9.9:1", "10.9.9.9:2", "198.51.100.7:1", "[fd77::1:1]:1","#,
          #""[fd78::/64]:1", "[fd78::5]:1", "192.0.2.0/25:1", "192.0.2.128/25:1", "*:9"]"#,
          "target = \"original\""))
    #expect(
      configuration.routedPrefixes.map(\.description) == [
        "10.9.9.9/32", "192.0.2.0/25", "192.0.2.128/25", "198.51.100.0/24", "fd78::/64",
      ])
    let both = Configuration(
      device: DeviceConfiguration(routes: [
        try prefix("::/0"), try prefix("10.0.0.0/8"), try prefix("fd00::/8"),
      ]))
    #expect(both.routedPrefixes.map(\.description) == ["10.0.0.0/8", "::/0"])
  }
}
