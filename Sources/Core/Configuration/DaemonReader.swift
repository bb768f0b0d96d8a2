// [daemon], key by key.

import Primitives
import TOML
import Wire

extension SectionReader {
  static let daemonKeys = [
    "control", "status", "log", "drain_timeout", "max_flows", "unmatched", "user",
  ]
  /// sun_path less its NUL (unix(7)).
  static let socketPathOctetsMax = 107
  /// What login(1) and useradd(8) take as a name.
  static let userNameOctetsMax = 32

  mutating func daemon(_ section: Section) -> DaemonConfiguration {
    checkKeys(of: section, known: Self.daemonKeys)
    var daemon = DaemonConfiguration()
    daemon.control = control(section)
    daemon.status = status(section)
    daemon.log = logConfiguration(section)
    daemon.drainTimeout =
      duration("drain_timeout", in: section, .zero...Interval.seconds(7 * 86_400), example: "30s")
      ?? daemon.drainTimeout
    daemon.maxFlows =
      integer("max_flows", in: section, DaemonConfiguration.maxFlowsRange) ?? daemon.maxFlows
    daemon.unmatched =
      choice("unmatched", in: section, UnmatchedPolicy.self) ?? daemon.unmatched
    daemon.user = user(section)
    return daemon
  }

  private mutating func control(_ section: Section) -> String? {
    if case .string("off")? = section["control"]?.value.content { return nil }
    return path(
      "control", in: section, example: DaemonConfiguration.controlDefault,
      octetsMax: Self.socketPathOctetsMax) ?? DaemonConfiguration.controlDefault
  }

  private mutating func status(_ section: Section) -> SocketAddress? {
    let example = "127.0.0.1:9077"
    guard let spelled = string("status", in: section, example: example) else { return nil }
    return reading(spelled) { text throws(TextMistake) in
      let endpoint = try EndpointText(text, example: example)
      guard let prefix = try endpoint.prefix(), prefix.length == 128, !prefix.address.isMulticast,
        !prefix.address.isLimitedBroadcast
      else {
        throw TextMistake(
          message: "\(endpoint.host.text.quotedForMessage) is no address to serve a page at",
          octets: endpoint.host.octets, hint: "such as \"\(example)\"")
      }
      return SocketAddress(address: prefix.address, port: try EndpointText.port(endpoint.ports))
    }
  }

  private mutating func logConfiguration(_ section: Section) -> LogConfiguration {
    var result = LogConfiguration()
    guard let inner = self.section("log", in: section.table, place: "'log'") else { return result }
    checkKeys(of: inner, known: ["level", "format"])
    result.level = choice("level", in: inner, LogLevel.self) ?? result.level
    result.format = choice("format", in: inner, LogFormat.self) ?? result.format
    return result
  }

  private mutating func user(_ section: Section) -> String? {
    guard let spelled = string("user", in: section, example: "portferry") else { return nil }
    let octets = spelled.text.utf8
    let isName =
      (1...Self.userNameOctetsMax).contains(octets.count) && octets.first != UInt8(ascii: "-")
      && octets.allSatisfy {
        ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A)
          || "-_.".utf8.contains($0)
      }
    guard isName else {
      log.error(
        "\(spelled.text.quotedForMessage) is not a user's name", at: spelled.span,
        hint: "such as \"portferry\"")
      return nil
    }
    return spelled.text
  }
}
