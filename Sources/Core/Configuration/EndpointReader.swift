// Endpoints with their meaning: what a rule may listen on, and where it may lead.
//
// Refused here is what could never work (listening on a multicast address) or would mean something
// else than it seems to say (a prefix with host bits, "0.0.0.0/0" as a listening address, which would
// draw the default route into the interface). What depends on more than one string is checked by
// `RuleReader` and `RuleChecks`.

import TOML
import Wire

enum EndpointReader {
  static let listenExample = "10.77.0.10:80"
  static let targetExample = "127.0.0.1:8080"

  // MARK: listen

  /// One pattern for each comma-separated port.
  static func listen(_ text: String) throws(TextMistake) -> [ListenPattern] {
    let endpoint = try EndpointText(text, example: listenExample)
    let addresses = try listenAddresses(endpoint)
    let parts = endpoint.portParts
    guard parts.count <= ForwardRule.listenCountMax else {
      throw TextMistake(
        message: "more than \(ForwardRule.listenCountMax) ports in a list",
        octets: endpoint.ports.octets, hint: "ranges cost no more than single ports")
    }
    var patterns: [ListenPattern] = []
    for part in parts {
      patterns.append(ListenPattern(addresses: addresses, ports: try EndpointText.range(part)))
    }
    return patterns
  }

  private static func listenAddresses(_ endpoint: EndpointText) throws(TextMistake)
    -> AddressPattern
  {
    if endpoint.host.text == "*" { return .any }
    let octets = endpoint.host.octets
    guard let prefix = try endpoint.prefix() else {
      throw TextMistake(
        message: "a rule listens on addresses, not on names", octets: octets,
        hint: "expected an address, a prefix, or * for all")
    }
    if let reason = unusable(prefix) {
      throw TextMistake(message: "a rule cannot listen on \(reason)", octets: octets, hint: nil)
    }
    if prefix.textLength == 0 {
      throw TextMistake(
        message: "a rule cannot listen on all of a family", octets: octets,
        hint: "write * for any address, and name the prefixes in [device] routes")
    }
    return .prefix(prefix)
  }

  /// Why no unicast packet can come for (or be sent to) a network; nil when it can.
  static func unusable(_ prefix: IPPrefix) -> String? {
    let address = prefix.address
    if prefix.length == 128, address.isUnspecified { return "the unspecified address" }
    if address.isMulticast { return "a multicast address" }
    if address.isLoopback { return "a loopback address" }
    if address.isLimitedBroadcast { return "the broadcast address" }
    return nil
  }

  // MARK: target

  /// A target as far as its text tells; a range keeps its length for the comparison with `listen`.
  struct TargetReading {
    var host: TargetHost
    /// nil is "*".
    var ports: PortRange?
  }

  static func target(_ text: String) throws(TextMistake) -> TargetReading {
    let whole = 0..<text.utf8.count
    if text == "original" { return TargetReading(host: .original, ports: nil) }
    if text.hasPrefix("unix:") || text.hasPrefix("/") || text.hasPrefix("@") {
      throw TextMistake(
        message: "Unix socket targets are not supported by this version", octets: whole,
        hint: "expected address and port, such as \"\(targetExample)\"")
    }
    if let scheme = text.utf8.firstIndex(of: UInt8(ascii: ":")), text[scheme...].hasPrefix("://") {
      throw TextMistake(
        message: "a target is not a URL", octets: whole,
        hint: "expected address and port, such as \"\(targetExample)\"")
    }
    let endpoint = try EndpointText(text, example: targetExample)
    let host = try targetHost(endpoint)
    if endpoint.ports.text == "*" { return TargetReading(host: host, ports: nil) }
    guard endpoint.portParts.count == 1 else {
      throw TextMistake(
        message: "a target has one port or one range, not a list", octets: endpoint.ports.octets,
        hint: "* keeps the port that the client named")
    }
    return TargetReading(host: host, ports: try EndpointText.range(endpoint.ports))
  }

  private static func targetHost(_ endpoint: EndpointText) throws(TextMistake) -> TargetHost {
    let octets = endpoint.host.octets
    if endpoint.host.text == "*" || endpoint.host.text == "original" {
      throw TextMistake(
        message: "a target needs one host", octets: octets,
        hint: "the address and port that the client named are written \"original\"")
    }
    guard let prefix = try endpoint.prefix() else {
      return .name(try hostName(endpoint.host))
    }
    let address = prefix.address
    let isNowhere =
      (prefix.length == 128 && address.isUnspecified) || address.isMulticast
      || address.isLimitedBroadcast
    if isNowhere {
      throw TextMistake(
        message: "\(endpoint.host.text.quotedForMessage) is no address to connect to",
        octets: octets, hint: "expected a unicast address")
    }
    return prefix.length == 128 ? .address(address) : .prefix(prefix)
  }

  /// A host name (RFC 1123 §2.1, and underscores, which exist) in lower case without its last dot.
  static func hostName(_ part: TextPart) throws(TextMistake) -> String {
    var name = part.text.lowercased()
    if name.hasSuffix(".") { name.removeLast() }
    let labels = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    let isName =
      !name.isEmpty && name.utf8.count <= 253
      && labels.allSatisfy { label in
        (1...63).contains(label.count) && label.first != UInt8(ascii: "-")
          && label.last != UInt8(ascii: "-")
          && label.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || $0 == UInt8(ascii: "-")
              || $0 == UInt8(ascii: "_")
          }
      }
    guard isName else {
      throw TextMistake(
        message: "\(part.text.quotedForMessage) is neither an address nor a host name",
        octets: part.octets, hint: "such as \"\(targetExample)\" or \"db.example:5432\"")
    }
    return name
  }
}

extension SectionReader {
  /// Runs a reading of a string; a mistake is reported at its place in the file.
  mutating func reading<Value>(
    _ spelled: Spelled, _ read: (String) throws(TextMistake) -> Value
  ) -> Value? {
    do throws(TextMistake) {
      return try read(spelled.text)
    } catch {
      let isWhole = error.octets == 0..<spelled.text.utf8.count
      log.error(
        error.message, at: isWhole ? spelled.span : spelled.span(error.octets), hint: error.hint)
      return nil
    }
  }
}
