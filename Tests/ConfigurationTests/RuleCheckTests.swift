// What rules mean to one another, and how a reload tells them apart.

import Configuration
import Glibc
import Primitives
import TOML
import Testing
import Wire

@Suite("Rules among each other") struct RuleCheckTests {
  func two(_ first: String, _ second: String, protocols: (String, String) = ("tcp", "tcp"))
    -> String
  {
    rule(
      "listen = \"\(first)\"", "protocol = \"\(protocols.0)\"", "target = \"original\"", name: "a")
      + rule(
        "listen = \"\(second)\"", "protocol = \"\(protocols.1)\"", "target = \"original\"",
        name: "b")
  }

  @Test("names are unique, and both lines are told") func names() {
    let text =
      rule("listen = \"10.0.0.1:1\"", "target = \"original\"")
      + rule("listen = \"10.0.0.1:2\"", "target = \"bad\"")
    #expect(
      messages(text) == ["6: the name 'r' is taken by the rule on line 2", "8: a port is missing"])
  }

  @Test(
    "rules that tie are refused",
    arguments: [
      ("10.0.0.1:80", "10.0.0.1:80", "tcp 10.0.0.1:80 is taken by rule 'a' on line 3"),
      ("*:*", "*:1-65535", "tcp *:* is taken by rule 'a' on line 3"),
      (
        "10.0.0.0/24:80-89", "10.0.0.0/24:85-94",
        "tcp 10.0.0.0/24:85-94 overlaps 10.0.0.0/24:80-89 of rule 'a' on line 3, which is as specific"
      ),
    ])
  func ties(first: String, second: String, message: String) {
    #expect(messages(two(first, second)) == ["8: \(message)"])
    #expect(messages(two(first, second, protocols: ("tcp+udp", "tcp+udp"))) == ["8: \(message)"])
    #expect(messages(two(first, second, protocols: ("tcp", "udp"))).isEmpty)
  }

  @Test(
    "rules of different specificity stand beside each other",
    arguments: [
      ("10.0.0.1:80", "10.0.0.0/24:80"), ("10.0.0.1:80", "10.0.0.1:*"), ("10.0.0.1:80", "*:80"),
      ("10.0.0.1:80-89", "10.0.0.1:85-95"), ("10.0.0.1:80-89", "10.0.0.1:90-99"),
      ("10.0.0.0/24:1", "10.0.0.0/25:1"),
    ])
  func specific(first: String, second: String) { #expect(messages(two(first, second)).isEmpty) }

  @Test(
    "a target that is routed into the device is warned about",
    arguments: [
      ("10.0.0.9:80", true), ("10.0.0.1:80", false), ("10.0.1.9:80", false), ("10.7.0.1:80", true),
    ])
  func ownTarget(target: String, isOwn: Bool) {
    let rules = rule("listen = \"10.7.0.1:80\"", "target = \"\(target)\"")
    let addresses = "device.addresses = \"10.0.0.1/24\"\n"
    let warning = "5: warning: the target is routed into the device itself, and refused"
    #expect(messages(addresses + rules) == (isOwn ? [warning] : []))
    #expect(messages("device.netns = \"/run/netns/x\"\n" + addresses + rules).isEmpty)
  }

  @Test("a rule on the device's own address is warned about") func ownAddress() {
    #expect(
      messages(
        "device.addresses = \"10.0.0.1/24\"\n"
          + rule("listen = \"10.0.0.1:80\"", "target = \"original\""))
        == ["4: warning: 10.0.0.1 is the device's own address, this rule never sees a packet"])
  }

  @Test(
    "a rule on the broadcast address of a network of the device's is warned about",
    arguments: [
      ("10.0.0.1/24", "10.0.0.255", true), ("10.0.0.1/30", "10.0.0.3", true),
      ("10.0.0.0/31", "10.0.0.1", false), ("10.0.0.1/24", "10.0.1.255", false),
      ("10.0.0.1/24", "10.0.0.255/32", true), ("10.0.0.1/24", "10.0.0.128/25", false),
    ])
  func broadcast(device: String, listen: String, isWarned: Bool) {
    let text =
      "device.addresses = \"\(device)\"\n"
      + rule("listen = \"\(listen):80\"", "target = \"original\"")
    let address = listen.prefix { $0 != "/" }
    let warning =
      "4: warning: \(address) is a broadcast address of the device's network, this rule never sees a packet"
    #expect(messages(text) == (isWarned ? [warning] : []))
  }

  @Test("many rules cost a sort, not a square") func manyRules() throws {
    let small = try cost(ruleCount: 1_000)
    let large = try cost(ruleCount: 8_000)
    #expect(large < 24 * small + 0.1, "\(small) s for 1 000 rules, \(large) s for 8 000")
  }

  /// CPU seconds of this thread for loading rules of which each ties with its neighbours.
  private func cost(ruleCount: Int) throws -> Double {
    let text = (0..<ruleCount).map { index in
      "[[forward]]\nname=\"r\(index)\"\nlisten=\"10.1.1.1:\(index + 1)-\(index + 10)\"\n"
        + "target=\"original\"\n"
    }
    let bytes = Array(text.joined().utf8)
    let start = cpuSeconds()
    #expect(throws: ConfigurationErrors.self) { try Configuration.load(bytes, file: "p.toml") }
    return cpuSeconds() - start
  }

  private func cpuSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
  }

  @Test("too many rules are refused, at the first that is too many") func tooManyRules() {
    // What the elements are is of no matter, and these are quick to read.
    func text(_ count: Int) -> String {
      "forward = [\n" + String(repeating: "0,\n", count: count) + "]\n"
    }
    let count = Configuration.forwardCountMax
    let error = "\(count + 2): more than \(count) rules"
    #expect(messages(text(count + 1)).contains(error))
    #expect(!messages(text(count)).contains(error))
  }

  @Test("too many patterns in one rule are refused") func manyPatterns() {
    let ports = (1...4097).map(String.init).joined(separator: ",")
    #expect(
      messages(rule("listen = \"10.0.0.1:\(ports)\"", "target = \"original\""))
        == ["3: more than 4096 ports in a list"])
  }
}

@Suite("Reload difference") struct ReloadDifferenceTests {
  func configuration(_ rules: ForwardRule...) -> Configuration { Configuration(forwards: rules) }

  func rule(_ name: String, _ listen: String = "10.0.0.1", port: UInt16 = 80, line: Int = 1) throws
    -> ForwardRule
  {
    ForwardRule(
      name: name, listen: [try pattern(listen, port, port)],
      target: Target(host: .original, port: .same), line: line)
  }

  @Test("nothing changes when only lines move") func lines() throws {
    let difference = ReloadDifference(
      from: configuration(try rule("a", line: 1), try rule("b", line: 5)),
      to: configuration(try rule("b", line: 1), try rule("a", line: 9)))
    #expect(difference.isEmpty)
    #expect(difference.unchangedRules.map(\.line) == [1, 9])
  }

  @Test("rules are followed by name, and their routes with them") func rules() throws {
    let difference = ReloadDifference(
      from: configuration(
        try rule("kept"), try rule("gone", "10.0.0.2"), try rule("moved", "10.0.0.3")),
      to: configuration(
        try rule("kept"), try rule("moved", "10.0.0.4"), try rule("new", "10.0.0.5")))
    #expect(difference.addedRules.map(\.name) == ["new"])
    #expect(difference.removedRules.map(\.name) == ["gone"])
    #expect(difference.changedRules.map(\.new.name) == ["moved"])
    #expect(difference.changedRules.map(\.old.listenText) == ["10.0.0.3:80"])
    #expect(difference.unchangedRules.map(\.name) == ["kept"])
    #expect(difference.addedRoutes.map(\.description) == ["10.0.0.4/32", "10.0.0.5/32"])
    #expect(difference.removedRoutes.map(\.description) == ["10.0.0.2/32", "10.0.0.3/32"])
    #expect(!difference.needsRestart && !difference.isEmpty)
  }

  @Test("addresses, routes and MTU follow live") func device() throws {
    var old = Configuration()
    old.device.addresses = [InterfaceAddress(address: try address("10.0.0.1"), length: 24)]
    old.device.routes = [try prefix("192.0.2.0/24")]
    var new = Configuration()
    new.device.addresses = [InterfaceAddress(address: try address("10.0.0.1"), length: 25)]
    new.device.mtu = 9000
    let difference = ReloadDifference(from: old, to: new)
    #expect(difference.addedAddresses.map(\.description) == ["10.0.0.1/25"])
    #expect(difference.removedAddresses.map(\.description) == ["10.0.0.1/24"])
    #expect(difference.removedRoutes.map(\.description) == ["192.0.2.0/24"])
    #expect(difference.mtu == 9000)
    #expect(!difference.needsRestart)
  }

  @Test("every other key is named, live or not") func keys() throws {
    var new = Configuration()
    new.device.name = "x"
    new.device.queues = 2
    new.device.netns = "/x"
    new.device.offload = false
    new.device.keep = true
    new.daemon = DaemonConfiguration(
      control: nil, status: SocketAddress(address: try address("127.0.0.1"), port: 1),
      log: LogConfiguration(level: .trace), drainTimeout: .zero, maxFlows: 1, unmatched: .drop,
      user: "x")
    let difference = ReloadDifference(from: Configuration(), to: new)
    #expect(difference.liveKeys == ["daemon.log", "daemon.drain_timeout", "daemon.unmatched"])
    #expect(
      difference.restartKeys == [
        "device.name", "device.queues", "device.netns", "device.offload", "device.keep",
        "daemon.control", "daemon.status", "daemon.max_flows", "daemon.user",
      ])
    #expect(difference.needsRestart)
  }
}
