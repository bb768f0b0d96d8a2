// Addresses as text: RFC 4291 §2.2 in, RFC 5952 out.
//
// Dotted quads are strict: four decimal numbers without leading zeros, since "010" is eight to some
// programs and ten to others. IPv6 takes every form of RFC 4291, embedded dotted quad included, but
// no scope identifier. Text that names a mapped address (::ffff:0:0/96, however it is spelt) is
// refused: people mean the IPv4 address, and `IPAddress` has one form of it.

extension IPAddress {
  /// Reads "192.0.2.7" or "2001:db8::7". Nil when the text is anything else.
  package init?(_ text: some StringProtocol) {
    let octets = Array(text.utf8)
    if octets.contains(UInt8(ascii: ":")) {
      guard let address = Self.parseIPv6(octets[...]), !address.isIPv4 else { return nil }
      self = address
    } else {
      guard let value = Self.parseIPv4(octets[...]) else { return nil }
      self.init(v4: value)
    }
  }

  private static func parseIPv4(_ text: ArraySlice<UInt8>) -> UInt32? {
    let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard let octet = decimal(part, max: 255) else { return nil }
      value = value << 8 | UInt32(octet)
    }
    return value
  }

  private static func parseIPv6(_ text: ArraySlice<UInt8>) -> IPAddress? {
    let colon = UInt8(ascii: ":")
    // At most one "::"; ":::" leaves a lone colon at an end of a half, which `groups` refuses.
    guard let gap = text.indices.first(where: { isGap(text, at: $0) }) else {
      guard let all = groups(text), all.count == 8 else { return nil }
      return IPAddress(groups: all)
    }
    let tail = text[(gap + 2)...]
    guard tail.first != colon, !tail.indices.contains(where: { isGap(tail, at: $0) }),
      !text[..<gap].contains(UInt8(ascii: ".")),
      let before = groups(text[..<gap]), let after = groups(tail),
      before.count + after.count <= 7
    else { return nil }
    return IPAddress(
      groups: before + Array(repeating: 0, count: 8 - before.count - after.count) + after)
  }

  private static func isGap(_ text: ArraySlice<UInt8>, at index: Int) -> Bool {
    text[index] == UInt8(ascii: ":") && index + 1 < text.endIndex
      && text[index + 1] == UInt8(ascii: ":")
  }

  /// The 16-bit groups of one side of "::"; a dotted quad may stand for the last two.
  private static func groups(_ text: ArraySlice<UInt8>) -> [UInt16]? {
    if text.isEmpty { return [] }
    var groups: [UInt16] = []
    let parts = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    guard parts.count <= 8 else { return nil }
    for (index, part) in parts.enumerated() {
      if index == parts.count - 1, part.contains(UInt8(ascii: ".")) {
        guard let v4 = parseIPv4(part) else { return nil }
        groups.append(UInt16(v4 >> 16))
        groups.append(UInt16(v4 & 0xffff))
      } else {
        guard let group = hexadecimal(part) else { return nil }
        groups.append(group)
      }
    }
    return groups
  }

  private init(groups: [UInt16]) {
    var high: UInt64 = 0
    var low: UInt64 = 0
    for group in groups {
      high = high << 16 | low >> 48
      low = low << 16 | UInt64(group)
    }
    self.init(high: high, low: low)
  }

  private static func hexadecimal(_ text: ArraySlice<UInt8>) -> UInt16? {
    guard (1...4).contains(text.count) else { return nil }
    var value: UInt16 = 0
    for octet in text {
      let digit: UInt8
      switch octet {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = octet - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = octet - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = octet - UInt8(ascii: "A") + 10
      default: return nil
      }
      value = value << 4 | UInt16(digit)
    }
    return value
  }

  /// A decimal number of at most three digits without leading zeros.
  static func decimal(_ text: ArraySlice<UInt8>, max: Int) -> Int? {
    guard (1...3).contains(text.count), text.count == 1 || text.first != UInt8(ascii: "0")
    else { return nil }
    var value = 0
    for octet in text {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(octet) else { return nil }
      value = value * 10 + Int(octet - UInt8(ascii: "0"))
    }
    return value <= max ? value : nil
  }
}

extension IPAddress: CustomStringConvertible {
  /// The canonical text (RFC 5952 §4): lower case, no leading zeros, "::" for the longest run of at
  /// least two zero groups, the first of equals.
  @usableFromInline package var description: String {
    if isIPv4 { return "\(v4 >> 24).\(v4 >> 16 & 0xff).\(v4 >> 8 & 0xff).\(v4 & 0xff)" }
    let groups = (0..<8).map { index in
      UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64(48 - index % 4 * 16))
    }
    func text(_ range: Range<Int>) -> String {
      groups[range].map { String($0, radix: 16) }.joined(separator: ":")
    }
    guard let gap = Self.longestZeroRun(groups) else { return text(0..<8) }
    return text(0..<gap.lowerBound) + "::" + text(gap.upperBound..<8)
  }

  private static func longestZeroRun(_ groups: [UInt16]) -> Range<Int>? {
    var best = 0..<0
    var start = 0
    for index in groups.indices {
      if groups[index] != 0 {
        start = index + 1
      } else if index + 1 - start > best.count {
        best = start..<index + 1
      }
    }
    return best.count >= 2 ? best : nil
  }
}
