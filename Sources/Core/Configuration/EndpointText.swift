// "10.77.0.10:80", "[fd77::/64]:8000-8099", "*:443,8443", "api.example:*": cut into host and ports.
//
// Shared by `listen`, `target` and `status`. Only the notation is known here, and the place of each
// part for the caret; what a host or a port may be is up to who asks. IPv6 stands in brackets, with
// its prefix length inside, as in a URL; without them the last colon would be a guess.

import TOML
import Wire

/// A part of a string with its place in it.
struct TextPart {
  let text: String
  /// Octets of the whole string.
  let octets: Range<Int>
}

/// What is wrong with a text, and with which of its octets.
struct TextMistake: Error {
  var message: String
  var octets: Range<Int>
  var hint: String?
}

/// Host and ports, still as text.
struct EndpointText {
  let host: TextPart
  let isBracketed: Bool
  let ports: TextPart

  init(_ text: String, example: String) throws(TextMistake) {
    let octets = Array(text.utf8)
    let whole = 0..<octets.count
    func part(_ range: Range<Int>) -> TextPart {
      TextPart(text: String(decoding: octets[range], as: UTF8.self), octets: range)
    }
    guard !octets.isEmpty else {
      throw TextMistake(message: "empty text", octets: whole, hint: "such as \"\(example)\"")
    }
    if octets.first == UInt8(ascii: "[") {
      guard let close = octets.firstIndex(of: UInt8(ascii: "]")) else {
        throw TextMistake(message: "a bracket is not closed", octets: 0..<1, hint: "expected ']'")
      }
      guard close + 1 < octets.count, octets[close + 1] == UInt8(ascii: ":") else {
        let hint =
          close + 1 < octets.count && octets[close + 1] == UInt8(ascii: "/")
          ? "the prefix length stands inside the brackets, [fd77::/64]:80"
          : "expected ':' and a port after the bracket"
        throw TextMistake(message: "a port is missing", octets: whole, hint: hint)
      }
      host = part(1..<close)
      ports = part(close + 2..<octets.count)
      isBracketed = true
    } else {
      guard let colon = octets.firstIndex(of: UInt8(ascii: ":")) else {
        throw TextMistake(
          message: "a port is missing", octets: whole,
          hint: "expected address and port, such as \"\(example)\"")
      }
      guard !octets[(colon + 1)...].contains(UInt8(ascii: ":")) else {
        throw TextMistake(
          message: "an IPv6 address stands in brackets", octets: whole,
          hint: "such as \"[fd77::10]:80\"")
      }
      host = part(0..<colon)
      ports = part(colon + 1..<octets.count)
      isBracketed = false
    }
  }

  // MARK: Hosts

  /// The host as an address or a prefix; nil when it is not even meant as one.
  func prefix() throws(TextMistake) -> IPPrefix? {
    let isMeant =
      isBracketed || host.text.utf8.contains(UInt8(ascii: "/"))
      || host.text.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || $0 == UInt8(ascii: ".") }
    guard isMeant else { return nil }
    let quoted = host.text.quotedForMessage
    guard let prefix = IPPrefix(host.text) else {
      let isPrefix = host.text.utf8.contains(UInt8(ascii: "/"))
      let expectation: String
      if isBracketed {
        expectation = isPrefix ? "an IPv6 prefix such as fd77::/64" : "an IPv6 address"
      } else {
        expectation = isPrefix ? "a prefix such as 10.77.4.0/24" : "four numbers from 0 to 255"
      }
      throw TextMistake(
        message: "\(quoted) is not an address" + (isPrefix ? " prefix" : ""), octets: host.octets,
        hint: "expected \(expectation)")
    }
    guard prefix.isIPv4 != isBracketed else {
      throw TextMistake(
        message: isBracketed
          ? "an IPv4 address does not stand in brackets" : "an IPv6 address stands in brackets",
        octets: host.octets, hint: nil)
    }
    guard !IPPrefix.hasHostBits(host.text) else {
      throw TextMistake(
        message: "\(quoted) has bits set beyond its prefix length", octets: host.octets,
        hint: "did you mean \(prefix)?")
    }
    return prefix
  }

  // MARK: Ports

  /// One port from 1 to 65535.
  static func port(_ part: TextPart) throws(TextMistake) -> UInt16 {
    let digits = part.text.utf8
    guard !digits.isEmpty, digits.count <= 5, digits.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
      let port = UInt16(part.text), port > 0
    else {
      throw TextMistake(
        message: "\(part.text.quotedForMessage) is not a port", octets: part.octets,
        hint: "expected a number from 1 to 65535")
    }
    return port
  }

  /// "*", a port or a range; `ports` itself or one of its comma-separated parts.
  static func range(_ part: TextPart) throws(TextMistake) -> PortRange {
    if part.text == "*" { return .all }
    let octets = Array(part.text.utf8)
    guard let dash = octets.firstIndex(of: UInt8(ascii: "-")) else {
      return PortRange(try port(part))
    }
    func half(_ range: Range<Int>) -> TextPart {
      let start = part.octets.lowerBound
      return TextPart(
        text: String(decoding: octets[range], as: UTF8.self),
        octets: start + range.lowerBound..<start + range.upperBound)
    }
    let first = try port(half(0..<dash))
    let last = try port(half(dash + 1..<octets.count))
    guard first <= last else {
      throw TextMistake(
        message: "the port range runs backwards", octets: part.octets,
        hint: "did you mean \(last)-\(first)?")
    }
    return PortRange(first: first, last: last)
  }

  /// The comma-separated parts of `ports`.
  var portParts: [TextPart] {
    var parts: [TextPart] = []
    var start = ports.octets.lowerBound
    for piece in ports.text.utf8.split(
      separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    {
      let end = start + piece.count
      parts.append(TextPart(text: String(piece) ?? "", octets: start..<end))
      start = end + 1
    }
    return parts
  }
}
