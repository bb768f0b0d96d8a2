// An address of either family as one plain value of sixteen octets.
//
// IPv4 addresses take the mapped form ::ffff:a.b.c.d (RFC 4291 §2.5.5.2), so that tables, tuples
// and prefixes need one representation and one comparison. The other direction is closed: neither a
// packet's IPv6 header nor text yields a mapped address (`IPHeader` and the text initialiser refuse
// it), hence `isIPv4` is the family, not a guess. Text is in `IPAddress+Text.swift`. Scope
// identifiers ("%eth0") are left out: the client side has one interface.

/// An IPv4 or IPv6 address.
@usableFromInline package struct IPAddress: Hashable, Sendable, BitwiseCopyable {
  /// The first eight octets, as a big-endian number.
  @usableFromInline package var high: UInt64
  /// The last eight octets, as a big-endian number.
  @usableFromInline package var low: UInt64

  @inlinable package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// - Parameter v4: a.b.c.d as a number in host order, `a` the most significant octet.
  @inlinable package init(v4: UInt32) {
    high = 0
    low = 0xffff_0000_0000 | UInt64(v4)
  }

  /// 0.0.0.0
  package static let anyIPv4 = IPAddress(v4: 0)
  /// ::
  package static let anyIPv6 = IPAddress(high: 0, low: 0)

  @inlinable package static func == (a: Self, b: Self) -> Bool {
    a.high == b.high && a.low == b.low
  }

  @inlinable package var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

  /// The IPv4 address as a number in host order; of an IPv6 address, its last four octets.
  @inlinable package var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

  /// 0.0.0.0 or ::.
  @inlinable package var isUnspecified: Bool { high == 0 && (low == 0 || low == 0xffff_0000_0000) }

  /// 127.0.0.0/8 or ::1.
  @inlinable package var isLoopback: Bool {
    high == 0 && (low == 1 || (isIPv4 && v4 >> 24 == 127))
  }

  /// 0.0.0.0/8: a host that does not know its address yet (RFC 1122 §3.2.1.3).
  @inlinable package var isThisNetwork: Bool { isIPv4 && v4 >> 24 == 0 }

  /// 224.0.0.0/4 or ff00::/8.
  @inlinable package var isMulticast: Bool {
    isIPv4 ? v4 >> 28 == 0xe : high >> 56 == 0xff
  }

  /// 255.255.255.255.
  @inlinable package var isLimitedBroadcast: Bool { high == 0 && low == 0xffff_ffff_ffff }

  /// 240.0.0.0/4: never assigned, 255.255.255.255 among it (RFC 1112 §4).
  @inlinable package var isReserved: Bool { isIPv4 && v4 >> 28 == 0xf }

  /// 169.254.0.0/16 or fe80::/10.
  @inlinable package var isLinkLocalUnicast: Bool {
    isIPv4 ? v4 >> 16 == 0xa9fe : high >> 54 == 0x3fa
  }
}

extension IPAddress {
  /// Octets that the address takes in a packet: 4 or 16.
  @inlinable package var wireOctets: Int { isIPv4 ? 4 : 16 }

  /// Stores the address as a packet has it, 4 or 16 octets.
  @inlinable package func write(to memory: UnsafeMutableRawPointer) {
    if isIPv4 {
      memory.storeBytes(of: v4.bigEndian, as: UInt32.self)
    } else {
      memory.storeBytes(of: high.bigEndian, as: UInt64.self)
      memory.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }
  }

  /// The address in network order, 4 or 16 octets; allocates, for configuration and tests.
  package var octets: [UInt8] {
    (16 - wireOctets..<16).map { index in
      UInt8(truncatingIfNeeded: (index < 8 ? high : low) >> UInt64(56 - index % 8 * 8))
    }
  }

  /// - Parameter octets: 4 or 16 octets in network order. Nil for other counts.
  package init?(octets: some Collection<UInt8>) {
    var high: UInt64 = 0
    var low: UInt64 = 0
    for octet in octets {
      high = high << 8 | low >> 56
      low = low << 8 | UInt64(octet)
    }
    switch octets.count {
    case 4: self.init(v4: UInt32(truncatingIfNeeded: low))
    case 16: self.init(high: high, low: low)
    default: return nil
    }
  }
}
