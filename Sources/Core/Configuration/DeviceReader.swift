// [device], key by key.

import TOML
import Wire

extension SectionReader {
  static let deviceKeys = [
    "name", "addresses", "routes", "netns", "mtu", "queues", "offload", "keep",
  ]

  mutating func device(_ section: Section) -> DeviceConfiguration {
    checkKeys(of: section, known: Self.deviceKeys)
    var device = DeviceConfiguration()
    if let name = deviceName(section) { device.name = name }
    device.addresses = interfaceAddresses(section)
    device.routes = routes(section)
    device.netns = path("netns", in: section, example: "/run/netns/sandbox", octetsMax: 4095)
    device.mtu = integer("mtu", in: section, DeviceConfiguration.mtuRange) ?? device.mtu
    device.queues = queues(section)
    device.offload = boolean("offload", in: section) ?? device.offload
    device.keep = boolean("keep", in: section) ?? device.keep
    return device
  }

  /// As the kernel's dev_valid_name: no '/', ':' or blanks, not "." or "..", and no '%', which it
  /// would replace by a number.
  private mutating func deviceName(_ section: Section) -> String? {
    guard let spelled = string("name", in: section, example: "ferry0") else { return nil }
    let octets = spelled.text.utf8
    guard !octets.isEmpty, octets.count <= DeviceConfiguration.nameOctetCountMax else {
      log.error(
        "a device name has 1 to \(DeviceConfiguration.nameOctetCountMax) octets, this has \(octets.count)",
        at: spelled.span)
      return nil
    }
    let isPlain = octets.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"/:%".utf8.contains($0) }
    guard isPlain, spelled.text != ".", spelled.text != ".." else {
      log.error(
        "\(spelled.text.quotedForMessage) is not a device name", at: spelled.span,
        hint: "expected letters, digits and - _ . such as \"ferry0\"")
      return nil
    }
    return spelled.text
  }

  private mutating func interfaceAddresses(_ section: Section) -> [InterfaceAddress] {
    let all = strings("addresses", in: section, example: "10.77.0.1/24")
    guard all.count <= DeviceConfiguration.addressCountMax else {
      log.error(
        "more than \(DeviceConfiguration.addressCountMax) addresses",
        at: section["addresses"]?.keySpan ?? section.span)
      return []
    }
    var addresses: [InterfaceAddress] = []
    for spelled in all {
      guard let address = reading(spelled, Self.interfaceAddress) else { continue }
      if addresses.contains(where: { $0.address == address.address }) {
        log.error("\(address.address) is listed twice", at: spelled.span)
      } else {
        addresses.append(address)
      }
    }
    return addresses
  }

  private static func interfaceAddress(_ text: String) throws(TextMistake) -> InterfaceAddress {
    let whole = 0..<text.utf8.count
    let hostText = text.prefix { $0 != "/" }
    guard let prefix = IPPrefix(text), let address = IPAddress(hostText) else {
      throw TextMistake(
        message: "\(text.quotedForMessage) is not an address with a prefix length", octets: whole,
        hint: "such as \"10.77.0.1/24\" or \"fd77::1/64\"")
    }
    if let reason = EndpointReader.unusable(IPPrefix(address)) {
      throw TextMistake(
        message: "the device cannot have \(reason)", octets: 0..<hostText.utf8.count, hint: nil)
    }
    guard prefix.textLength > 0 else {
      throw TextMistake(
        message: "a prefix length of 0 would put every address on the link", octets: whole,
        hint: nil)
    }
    if prefix.length <= 126 {
      // A /31 (RFC 3021) and a /127 (RFC 6164) have no such addresses.
      if prefix.address == address {
        throw TextMistake(
          message: "\(address) is the address of the network itself", octets: whole,
          hint: "expected the address of a host in it")
      }
      if address.isIPv4, address.v4 | (.max << UInt32(32 - prefix.textLength)) == .max {
        throw TextMistake(
          message: "\(address) is the broadcast address of its network", octets: whole,
          hint: "expected the address of a host in it")
      }
    }
    return InterfaceAddress(address: address, length: prefix.textLength)
  }

  private mutating func routes(_ section: Section) -> [IPPrefix] {
    let all = strings("routes", in: section, example: "198.51.100.0/24")
    guard all.count <= DeviceConfiguration.routeCountMax else {
      log.error(
        "more than \(DeviceConfiguration.routeCountMax) routes",
        at: section["routes"]?.keySpan ?? section.span)
      return []
    }
    var routes: [IPPrefix] = []
    var seen: Set<IPPrefix> = []
    for spelled in all {
      guard let route = reading(spelled, Self.route) else { continue }
      if seen.insert(route).inserted {
        routes.append(route)
      } else {
        log.warning("\(route) is listed twice", at: spelled.span)
      }
    }
    return routes
  }

  private static func route(_ text: String) throws(TextMistake) -> IPPrefix {
    let whole = 0..<text.utf8.count
    guard let prefix = IPPrefix(text) else {
      throw TextMistake(
        message: "\(text.quotedForMessage) is not a prefix", octets: whole,
        hint: "such as \"198.51.100.0/24\" or \"fd77:1::/64\"")
    }
    guard !IPPrefix.hasHostBits(text) else {
      throw TextMistake(
        message: "\(text.quotedForMessage) has bits set beyond its prefix length", octets: whole,
        hint: "did you mean \(prefix)?")
    }
    if let reason = EndpointReader.unusable(prefix) {
      throw TextMistake(message: "a route cannot lead to \(reason)", octets: whole, hint: nil)
    }
    return prefix
  }

  /// "auto" or a number; nil is "auto".
  private mutating func queues(_ section: Section) -> Int? {
    guard let value = section["queues"]?.value else { return nil }
    switch value.content {
    case .string("auto"): return nil
    case .integer:
      return integer("queues", in: section, DeviceConfiguration.queueCountRange)
    default:
      let range = DeviceConfiguration.queueCountRange
      expected("\"auto\" or an integer from \(range.lowerBound) to \(range.upperBound)", at: value)
      return nil
    }
  }

  /// An absolute path of bounded length without NUL.
  mutating func path(
    _ key: String, in section: Section, example: String, octetsMax: Int
  ) -> String? {
    guard let spelled = string(key, in: section, example: example) else { return nil }
    let octets = spelled.text.utf8
    guard octets.first == UInt8(ascii: "/"), octets.count <= octetsMax, !octets.contains(0) else {
      let message =
        octets.count > octetsMax
        ? "a path of more than \(octetsMax) octets"
        : "\(spelled.text.quotedForMessage) is not an absolute path"
      log.error(message, at: spelled.span, hint: "such as \"\(example)\"")
      return nil
    }
    return spelled.text
  }
}
