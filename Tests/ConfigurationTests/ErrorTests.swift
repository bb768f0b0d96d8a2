// Files that are wrong: what is said, and where.

import Configuration
import Testing

@Suite("Configuration errors") struct ErrorTests {
  @Test("the text that an operator reads") func golden() {
    let text = """
      [device]
      adresses = ["10.77.0.1/24"]
      name = 5
      mtu = 100

      [daemon]
      unmatched = "rejct"
      drain_timeout = "30"

      [[forward]]
      listne = "10.77.0.10:80"
      	name = "wéb"
      target = "127.0.0.1:8080"

      [[forward]]
      name = "web"
      listen = ["10.77.0.20:80,99999", "fd77::1:80"]
      target = "unix:/run/x.sock"
      balance = "source-hash"
      oops
      """
    let expected = """
      p.toml:2:1: error: unknown key 'adresses' in [device]
          2 | adresses = ["10.77.0.1/24"]
            | ^~~~~~~~ did you mean 'addresses'?
      p.toml:3:8: error: expected a string such as "ferry0", found an integer
          3 | name = 5
            |        ^
      p.toml:4:7: error: 'mtu' is out of range
          4 | mtu = 100
            |       ^~~ expected 1280 to 65535
      p.toml:7:13: error: 'rejct' is no value of 'unmatched'
          7 | unmatched = "rejct"
            |             ^~~~~~~ did you mean 'reject'?
      p.toml:8:17: error: '30' is not a duration
          8 | drain_timeout = "30"
            |                 ^~~~ such as "30s"
      p.toml:11:1: error: unknown key 'listne' in [[forward]]
         11 | listne = "10.77.0.10:80"
            | ^~~~~~ did you mean 'listen'?
      p.toml:12:9: error: 'wéb' is not a rule's name
         12 | \tname = "wéb"
            | \t       ^~~~~ expected 1 to 64 letters, digits, '-', '_' or '.'
      p.toml:17:26: error: '99999' is not a port
         17 | listen = ["10.77.0.20:80,99999", "fd77::1:80"]
            |                          ^~~~~ expected a number from 1 to 65535
      p.toml:17:34: error: an IPv6 address stands in brackets
         17 | listen = ["10.77.0.20:80,99999", "fd77::1:80"]
            |                                  ^~~~~~~~~~~~ such as "[fd77::10]:80"
      p.toml:18:10: error: Unix socket targets are not supported by this version
         18 | target = "unix:/run/x.sock"
            |          ^~~~~~~~~~~~~~~~~~ expected address and port, such as "127.0.0.1:8080"
      p.toml:19:1: error: 'balance' is not supported by this version
         19 | balance = "source-hash"
            | ^~~~~~~
      p.toml:20:5: error: expected '=' after the key
         20 | oops
            |     ^
      """
    #expect(rendered(text) == expected)
  }

  @Test(
    "keys of later versions are refused by name",
    arguments: [
      "targets = []", "balance = \"x\"", "health = {}", "proxy_protocol = \"v2\"",
      "source = \"daemon\"", "bind = \"10.0.0.9\"", "interface = \"eth1\"", "mark = 1",
      "netns = \"/x\"", "accept = \"early\"", "allow = []", "deny = []", "connection_rate = {}",
    ])
  func laterKeys(line: String) throws {
    let key = String(line.prefix { $0 != " " })
    let text = rule("listen = \"10.0.0.1:1\"", "target = \"10.0.0.2:1\"", line)
    #expect(messages(text) == ["5: '\(key)' is not supported by this version"])
    if key != "targets" {
      #expect(
        messages("[defaults]\n\(line)\n")
          == [
            "0: warning: no rules: nothing is forwarded",
            "2: '\(key)' is not supported by this version",
          ].filter { !$0.contains("warning") })
    }
  }

  @Test(
    "sections of later versions and unknown ones",
    arguments: [
      ("[[publish]]\n", "1: [[publish]] is not supported by this version"),
      ("[dns]\n", "1: [dns] is not supported by this version"),
      ("[devise]\n", "1: unknown section '[devise]'"),
      ("[[forwards]]\n", "1: unknown section '[[forwards]]'"),
      ("mtu = 1500\n", "1: unknown key 'mtu'"),
      ("device = 1\n", "1: expected a table, found an integer"),
      ("[[device]]\n", "1: [device] stands once"),
      ("[forward]\n", "1: a rule begins with two brackets: [[forward]]"),
      ("forward = [1]\n", "1: expected a table, found an integer"),
      ("daemon.log = 3\n", "1: expected a table, found an integer"),
    ])
  func sections(text: String, message: String) { #expect(messages(text) == [message]) }

  @Test(
    "[device]",
    arguments: [
      (#"name = "0123456789abcdef""#, "a device name has 1 to 15 octets, this has 16"),
      (#"name = "a b""#, "'a b' is not a device name"),
      (#"name = "a/b""#, "'a/b' is not a device name"),
      (#"name = "..""#, "'..' is not a device name"),
      (#"name = "tun%d""#, "'tun%d' is not a device name"),
      (#"addresses = "10.0.0.1/33""#, "'10.0.0.1/33' is not an address with a prefix length"),
      (#"addresses = "10.0.0.0/24""#, "10.0.0.0 is the address of the network itself"),
      (#"addresses = "10.0.0.255/24""#, "10.0.0.255 is the broadcast address of its network"),
      (#"addresses = "fd00::/64""#, "fd00:: is the address of the network itself"),
      (#"addresses = "127.0.0.1/8""#, "the device cannot have a loopback address"),
      (#"addresses = "ff02::1/64""#, "the device cannot have a multicast address"),
      (#"addresses = ["10.0.0.1/24", "10.0.0.1/16"]"#, "10.0.0.1 is listed twice"),
      (#"addresses = "10.0.0.1/0""#, "a prefix length of 0 would put every address on the link"),
      (
        #"addresses = 1"#,
        "expected a string such as \"10.77.0.1/24\", or an array of such, found an integer"
      ),
      (#"routes = "10.0.0.1/8""#, "'10.0.0.1/8' has bits set beyond its prefix length"),
      (#"routes = "224.0.0.0/4""#, "a route cannot lead to a multicast address"),
      (#"mtu = 1279"#, "'mtu' is out of range"), (#"mtu = 65536"#, "'mtu' is out of range"),
      (#"queues = 65"#, "'queues' is out of range"), (#"queues = 0"#, "'queues' is out of range"),
      (#"queues = "two""#, "expected \"auto\" or an integer from 1 to 64, found a string"),
      (#"netns = "sandbox""#, "'sandbox' is not an absolute path"),
      (#"keep = "yes""#, "expected true or false, found a string"),
    ])
  func device(line: String, message: String) {
    #expect(messages("[device]\n\(line)\n") == ["2: \(message)"])
  }

  @Test(
    "addresses of point-to-point networks are hosts",
    arguments: ["10.0.0.0/31", "10.0.0.1/32", "fd00::/127"])
  func pointToPoint(text: String) throws {
    #expect(try load("device.addresses = \"\(text)\"\n").device.addresses.count == 1)
  }

  @Test(
    "[daemon] and [defaults]",
    arguments: [
      (#"daemon.max_flows = 0"#, "'max_flows' is out of range"),
      (#"daemon.max_flows = 1_000_001"#, "'max_flows' is out of range"),
      (#"daemon.max_flows = 1.0"#, "expected an integer from 1 to 1000000, found a float"),
      (#"daemon.status = "localhost:1""#, "'localhost' is no address to serve a page at"),
      (#"daemon.status = "127.0.0.1:0""#, "'0' is not a port"),
      (#"daemon.user = "-x""#, "'-x' is not a user's name"),
      (#"daemon.control = "x.sock""#, "'x.sock' is not an absolute path"),
      (#"daemon.log = { level = "infoo" }"#, "'infoo' is no value of 'level'"),
      (#"daemon.log = { colour = 1 }"#, "unknown key 'colour' in 'log'"),
      (#"daemon.drain_timeout = "8d""#, "'drain_timeout' is out of range"),
      (#"daemon.drain_timeout = "5w""#, "'w' is not a unit of time"),
      (#"defaults.udp_timeout = "99999999999999999999d""#, "'udp_timeout' is out of range"),
      (#"defaults.udp_timeout = "3 m""#, "'3 m' is not a duration"),
      (#"defaults.connect_timeout = 10"#, "expected a string such as \"10s\", found an integer"),
      (#"defaults.idle_timeout = "0s""#, "'idle_timeout' is out of range"),
      (#"defaults.keepalive = "0s""#, "'keepalive' is out of range"),
      (#"defaults.keepalive = "10h""#, "'keepalive' is out of range"),
      (#"defaults.keepalive = "on""#, "'on' is not a duration"),
      (#"defaults.keepalive = true"#, "expected a string such as \"75s\", found a boolean"),
      (#"defaults.name = "x""#, "'name' has no default: every rule has its own"),
      (#"defaults.protocol = "tpc""#, "'tpc' is no value of 'protocol'"),
      (#"defaults.congestion = "cubik""#, "'cubik' is no value of 'congestion'"),
    ])
  func daemon(line: String, message: String) { #expect(messages(line) == ["1: \(message)"]) }

  @Test(
    "listen",
    arguments: [
      ("10.0.0.1", "a port is missing"), ("", "empty text"), ("[fd77::1]", "a port is missing"),
      ("[fd77::1:80", "a bracket is not closed"), ("[fd77::]/64:80", "a port is missing"),
      ("fd77::1:80", "an IPv6 address stands in brackets"),
      ("[10.0.0.1]:80", "an IPv4 address does not stand in brackets"),
      ("host.example:80", "a rule listens on addresses, not on names"),
      ("10.0.0.256:80", "'10.0.0.256' is not an address"),
      ("10.0.0.0/33:1", "'10.0.0.0/33' is not an address prefix"),
      ("10.0.0.1/24:80", "'10.0.0.1/24' has bits set beyond its prefix length"),
      ("[::ffff:1.2.3.4]:80", "'::ffff:1.2.3.4' is not an address"),
      ("224.0.0.1:80", "a rule cannot listen on a multicast address"),
      ("127.0.0.1:80", "a rule cannot listen on a loopback address"),
      ("[::1]:80", "a rule cannot listen on a loopback address"),
      ("0.0.0.0:80", "a rule cannot listen on the unspecified address"),
      ("255.255.255.255:80", "a rule cannot listen on the broadcast address"),
      ("0.0.0.0/0:80", "a rule cannot listen on all of a family"),
      ("10.0.0.1:0", "'0' is not a port"), ("10.0.0.1:65536", "'65536' is not a port"),
      ("10.0.0.1:+1", "'+1' is not a port"), ("10.0.0.1:80,", "'' is not a port"),
      ("10.0.0.1:http", "'http' is not a port"),
      ("10.0.0.1:90-80", "the port range runs backwards"),
      ("10.0.0.1:1-2-3", "'2-3' is not a port"),
      ("10.0.0.1:80,80", "tcp 10.0.0.1:80 is listed twice in one rule (line 3)"),
      ("10.0.0.1:1-5,3-7", "tcp 10.0.0.1:3-7 overlaps 10.0.0.1:1-5 in one rule (line 3)"),
    ])
  func listen(text: String, message: String) {
    #expect(messages(rule("listen = \"\(text)\"", "target = \"10.0.0.2:1\"")) == ["3: \(message)"])
  }

  @Test(
    "target",
    arguments: [
      ("127.0.0.1", "a port is missing"),
      ("/run/x.sock", "Unix socket targets are not supported by this version"),
      ("http://x.example/", "a target is not a URL"), ("*:80", "a target needs one host"),
      ("original:80", "a target needs one host"),
      ("0.0.0.0:80", "'0.0.0.0' is no address to connect to"),
      ("224.1.2.3:80", "'224.1.2.3' is no address to connect to"),
      ("-x.example:80", "'-x.example' is neither an address nor a host name"),
      ("a..b:80", "'a..b' is neither an address nor a host name"),
      ("127.0.0.1:80,81", "a target has one port or one range, not a list"),
      ("127.0.0.1:0", "'0' is not a port"),
      ("127.0.0.1:300-398", "the target's range has 99 ports, 'listen' on line 3 has 100 ports"),
      (
        "192.168.9.0/25:*",
        "prefix translation does not fit 'listen' on line 3: 10.1.0.0/24 and 192.168.9.0/25 differ in length"
      ),
      (
        "[fd00::/120]:*",
        "prefix translation does not fit 'listen' on line 3: 10.1.0.0/24 and fd00::/120 are of different families"
      ),
    ])
  func target(text: String, message: String) {
    #expect(
      messages(rule("listen = \"10.1.0.0/24:100-199\"", "target = \"\(text)\"")) == [
        "4: \(message)"
      ])
  }

  @Test("what a rule must have is named, unless its loss was reported") func missing() {
    #expect(
      messages("[[forward]]\n") == [
        "1: [[forward]] lacks 'name'", "1: [[forward]] lacks 'listen'",
        "1: [[forward]] lacks 'target'",
      ])
    #expect(messages("[[forward]]\n= 1\n") == ["2: expected a key, found '='"])
    #expect(messages(rule("listen = []", "target = \"original\"")) == ["3: 'listen' is empty"])
  }
}
