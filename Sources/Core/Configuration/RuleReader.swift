// [defaults] and [[forward]]: options, and one rule at a time.
//
// A rule is read with the place of each of its listen strings, for `RuleChecks` compares rules with
// one another and points at both.

import Primitives
import TOML
import Wire

/// The options that both a rule and [defaults] may set.
struct RuleOptions {
  var protocols: ProtocolSet?
  var connectTimeout: Interval?
  var idleTimeout: Interval?
  var udpTimeout: Interval?
  /// Zero: switched off.
  var keepalive: Interval?
  var maxConnections: Int?
  var maxHalfOpen: Int?
  var onReload: ReloadPolicy?
  var congestion: CongestionAlgorithm?

  static let keys = [
    "protocol", "connect_timeout", "idle_timeout", "udp_timeout", "keepalive", "max_connections",
    "max_half_open", "on_reload", "congestion",
  ]
  /// Options that later versions know.
  static let laterKeys = [
    "balance", "health", "proxy_protocol", "source", "bind", "interface", "mark", "netns", "accept",
    "allow", "deny", "connection_rate",
  ]
}

/// What could be read of a rule, and where it stands. What is compared between rules is there even
/// when the rule as a whole is not, so that one mistake hides no other.
struct RuleReading {
  var name: Spelled?
  /// Empty when `protocol` could not be read.
  var protocols: ProtocolSet
  var listen: [ListenPattern]
  /// One for each of `listen`: the string that it was read from.
  var listenSpans: [SourceSpan]
  var targetSpan: SourceSpan?
  var rule: ForwardRule?
}

extension SectionReader {
  /// What every rule has of its own.
  static let ownKeys = ["name", "listen", "target"]
  static let forwardKeys = ownKeys + RuleOptions.keys
  static let laterForwardKeys = ["targets"] + RuleOptions.laterKeys

  mutating func defaults(_ section: Section) -> RuleOptions {
    checkKeys(
      of: section, known: RuleOptions.keys, later: RuleOptions.laterKeys,
      withoutDefault: Self.ownKeys + ["targets"])
    return options(section)
  }

  private mutating func options(_ section: Section) -> RuleOptions {
    var options = RuleOptions()
    options.protocols = protocols(section)
    options.connectTimeout = duration(
      "connect_timeout", in: section, Interval.milliseconds(1)...Interval.seconds(3600),
      example: "10s")
    options.idleTimeout = duration(
      "idle_timeout", in: section, Interval.seconds(1)...Interval.seconds(365 * 86_400),
      example: "2h")
    options.udpTimeout = duration(
      "udp_timeout", in: section, Interval.seconds(1)...Interval.seconds(7 * 86_400), example: "3m")
    options.keepalive = keepalive(section)
    options.maxConnections = integer(
      "max_connections", in: section, ForwardRule.maxConnectionsRange)
    options.maxHalfOpen = integer("max_half_open", in: section, ForwardRule.maxHalfOpenRange)
    options.onReload = choice("on_reload", in: section, ReloadPolicy.self)
    options.congestion = choice("congestion", in: section, CongestionAlgorithm.self)
    return options
  }

  /// A duration, or "off", which is zero.
  private mutating func keepalive(_ section: Section) -> Interval? {
    if case .string("off")? = section["keepalive"]?.value.content { return .zero }
    return duration("keepalive", in: section, ForwardRule.keepaliveRange, example: "75s")
  }

  private mutating func protocols(_ section: Section) -> ProtocolSet? {
    guard let spelled = string("protocol", in: section, example: "tcp") else { return nil }
    switch spelled.text {
    case "tcp": return .tcp
    case "udp": return .udp
    case "tcp+udp", "udp+tcp": return [.tcp, .udp]
    default:
      unknownWord(spelled, for: "protocol", among: ["tcp", "udp", "tcp+udp"])
      return nil
    }
  }

  mutating func forward(_ section: Section, defaults: RuleOptions) -> RuleReading {
    checkKeys(of: section, known: Self.forwardKeys, later: Self.laterForwardKeys)
    let examples = ["web", EndpointReader.listenExample, EndpointReader.targetExample]
    for (key, example) in zip(Self.ownKeys, examples)
    where key != "target" || section["targets"] == nil {
      missing(key, in: section, known: Self.forwardKeys, example: "\"\(example)\"")
    }
    let options = options(section)
    let inherited: ProtocolSet = section["protocol"] == nil ? defaults.protocols ?? .tcp : []
    var reading = RuleReading(
      name: ruleName(section), protocols: options.protocols ?? inherited, listen: [],
      listenSpans: [])
    for spelled in strings("listen", in: section, example: EndpointReader.listenExample) {
      guard let patterns = self.reading(spelled, EndpointReader.listen) else { continue }
      reading.listen += patterns
      reading.listenSpans += Array(repeating: spelled.span, count: patterns.count)
    }
    checkCount(of: reading.listen, in: section)
    reading.targetSpan = section["target"]?.value.span
    let target = target(section, listen: reading.listen, spans: reading.listenSpans)
    guard let name = reading.name, let target, !reading.listen.isEmpty else { return reading }
    reading.rule = ForwardRule(
      name: name.text, protocols: reading.protocols, listen: reading.listen, target: target,
      connectTimeout: options.connectTimeout ?? defaults.connectTimeout
        ?? ForwardRule.connectTimeoutDefault,
      idleTimeout: options.idleTimeout ?? defaults.idleTimeout ?? ForwardRule.idleTimeoutDefault,
      udpTimeout: options.udpTimeout ?? defaults.udpTimeout ?? ForwardRule.udpTimeoutDefault,
      keepalive: (options.keepalive ?? defaults.keepalive).flatMap { $0 > .zero ? $0 : nil },
      maxConnections: options.maxConnections ?? defaults.maxConnections,
      maxHalfOpen: options.maxHalfOpen ?? defaults.maxHalfOpen
        ?? ForwardRule.maxHalfOpenDefault,
      onReload: options.onReload ?? defaults.onReload ?? .keep,
      congestion: options.congestion ?? defaults.congestion ?? .cubic,
      line: log.source.line(at: section.span.start))
    return reading
  }

  private mutating func ruleName(_ section: Section) -> Spelled? {
    guard let spelled = string("name", in: section, example: "web") else { return nil }
    let octets = spelled.text.utf8
    let isName =
      (1...ForwardRule.nameOctetCountMax).contains(octets.count)
      && octets.allSatisfy {
        ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A)
          || "-_.".utf8.contains($0)
      }
    guard isName else {
      log.error(
        "\(spelled.text.quotedForMessage) is not a rule's name", at: spelled.span,
        hint: "expected 1 to \(ForwardRule.nameOctetCountMax) letters, digits, '-', '_' or '.'")
      return nil
    }
    return spelled
  }

  private mutating func checkCount(of patterns: [ListenPattern], in section: Section) {
    guard let entry = section["listen"] else { return }
    if case .array(let elements) = entry.value.content, elements.isEmpty {
      log.error(
        "'listen' is empty", at: entry.value.span,
        hint: "such as \"\(EndpointReader.listenExample)\"")
    }
    if patterns.count > ForwardRule.listenCountMax {
      log.error(
        "'listen' has more than \(ForwardRule.listenCountMax) addresses and ports",
        at: entry.keySpan, hint: "prefixes and ranges cost no more than single ones")
    }
  }

  // MARK: Target

  private mutating func target(
    _ section: Section, listen: [ListenPattern], spans: [SourceSpan]
  ) -> Target? {
    let example = EndpointReader.targetExample
    if let value = section["target"]?.value, case .array = value.content {
      log.error(
        "several targets are not supported by this version", at: value.span,
        hint: "expected one string such as \"\(example)\"")
      return nil
    }
    guard let spelled = string("target", in: section, example: example),
      let read = reading(spelled, EndpointReader.target)
    else { return nil }
    let isTranslatable = checkTranslation(read.host, spelled: spelled, listen: listen, spans: spans)
    let port = targetPort(read, spelled: spelled, listen: listen, spans: spans)
    guard isTranslatable, let port else { return nil }
    return Target(host: read.host, port: port)
  }

  /// Prefix translation keeps the host bits: both prefixes have the same family and length.
  private mutating func checkTranslation(
    _ host: TargetHost, spelled: Spelled, listen: [ListenPattern], spans: [SourceSpan]
  ) -> Bool {
    guard case .prefix(let target) = host else { return true }
    for (pattern, span) in zip(listen, spans) {
      let line = log.source.line(at: span.start)
      let reason: String
      switch pattern.addresses {
      case .any: reason = "'*' has no prefix to translate"
      case .prefix(let prefix):
        if prefix.isIPv4 == target.isIPv4, prefix.length == target.length { continue }
        reason =
          prefix.isIPv4 == target.isIPv4
          ? "\(prefix) and \(target) differ in length"
          : "\(pattern.addresses) and \(target) are of different families"
      }
      log.error(
        "prefix translation does not fit 'listen' on line \(line): \(reason)", at: spelled.span,
        hint: "both prefixes have the same family and length")
      return false
    }
    return true
  }

  private mutating func targetPort(
    _ read: EndpointReader.TargetReading, spelled: Spelled, listen: [ListenPattern],
    spans: [SourceSpan]
  ) -> TargetPort? {
    guard let range = read.ports else { return .same }
    if range.count == 1 { return .fixed(range.first) }
    for (pattern, span) in zip(listen, spans) where pattern.ports.count != range.count {
      let line = log.source.line(at: span.start)
      let ports = pattern.ports.count == 1 ? "1 port" : "\(pattern.ports.count) ports"
      log.error(
        "the target's range has \(range.count) ports, 'listen' on line \(line) has \(ports)",
        at: spelled.span,
        hint: "expected ranges of equal length, one port, or * to keep the port")
      return nil
    }
    return range.first == listen.first?.ports.first && listen.allSatisfy { $0.ports == range }
      ? .same : .shifted(first: range.first)
  }
}
