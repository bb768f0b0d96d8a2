// Address prefixes, and prefix translation.
//
// A prefix's length counts over the sixteen octets of `IPAddress`: an IPv4 /24 has length 120, and
// ::/0 is the only prefix that would hold both families. It does not: a prefix of an IPv6 address
// never contains an IPv4 one, so that "::/0" in a file means what it says.

/// A network: an address with its host bits cleared, and the number of bits that count.
package struct IPPrefix: Hashable, Sendable, BitwiseCopyable {
  /// The first address of the network.
  package let address: IPAddress
  /// 0...128 over sixteen octets; 96...128 when the address is IPv4.
  package let length: Int

  /// - Parameter length: as in `length`; host bits of `address` are cleared.
  package init(_ address: IPAddress, length: Int) {
    precondition((address.isIPv4 ? 96 : 0)...128 ~= length, "prefix length")
    let mask = Self.mask(length)
    self.address = IPAddress(high: address.high & mask.high, low: address.low & mask.low)
    self.length = length
  }

  /// The prefix that holds this address only.
  package init(_ address: IPAddress) { self.init(address, length: 128) }

  /// Reads "10.0.0.0/8", "fd00::/8" or a bare address, which stands for itself alone. Host bits are
  /// cleared; whether they were set is `hasHostBits(_:)`.
  package init?(_ text: some StringProtocol) {
    guard let (address, length) = Self.parse(text) else { return nil }
    self.init(address, length: length)
  }

  /// Whether the text is a prefix with bits set beyond its length, such as "10.0.0.1/8".
  package static func hasHostBits(_ text: some StringProtocol) -> Bool {
    guard let (address, length) = parse(text) else { return false }
    return IPPrefix(address, length: length).address != address
  }

  private static func parse(_ text: some StringProtocol) -> (IPAddress, Int)? {
    let octets = Array(text.utf8)
    guard let slash = octets.firstIndex(of: UInt8(ascii: "/")) else {
      return IPAddress(text).map { ($0, 128) }
    }
    guard let address = IPAddress(String(decoding: octets[..<slash], as: UTF8.self)),
      let length = IPAddress.decimal(octets[(slash + 1)...], max: address.isIPv4 ? 32 : 128)
    else { return nil }
    return (address, address.isIPv4 ? length + 96 : length)
  }

  @inlinable package var isIPv4: Bool { address.isIPv4 }

  /// The length as people write it: 24 for an IPv4 /24.
  package var textLength: Int { isIPv4 ? length - 96 : length }

  @inlinable package func contains(_ other: IPAddress) -> Bool {
    let mask = Self.mask(length)
    return other.high & mask.high == address.high && other.low & mask.low == address.low
      && other.isIPv4 == isIPv4
  }

  /// This prefix's network with the host bits of `other`.
  @inlinable package func replacingPrefix(of other: IPAddress) -> IPAddress {
    let mask = Self.mask(length)
    return IPAddress(
      high: address.high | other.high & ~mask.high, low: address.low | other.low & ~mask.low)
  }

  /// Smart shifts: a shift by 64 or more clears, a negative one goes the other way.
  @inlinable static func mask(_ length: Int) -> (high: UInt64, low: UInt64) {
    (length >= 64 ? .max : ~(UInt64.max >> length), length <= 64 ? 0 : .max << (128 - length))
  }
}

extension IPPrefix: CustomStringConvertible {
  /// "10.0.0.0/8"; always with the length.
  package var description: String { "\(address)/\(textLength)" }
}
