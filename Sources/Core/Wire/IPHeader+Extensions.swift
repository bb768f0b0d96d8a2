// IPv6 extension headers (RFC 8200 §4): from the fixed header to the transport header.
//
// The walk is bounded in headers, and in octets by the packet. It accepts what a host must:
// hop-by-hop options first, destination options, a routing header whose segments are used up (so
// that we are the end of its way; RFC 5095 §3), one fragment header. Options that say "discard if you do not
// know me" are obeyed (§4.2); the ICMP message that some of them ask for is not sent.
// Authentication and encapsulation headers are not walked: they end the walk as an unsupported
// transport.

/// The extension headers that are walked, by their IANA numbers.
private enum IPv6Extension: UInt8 {
  case hopByHop = 0
  case routing = 43
  case fragment = 44
  case destinationOptions = 60
}

extension IPHeader {
  /// Extension headers that a packet may have.
  package static let extensionHeadersMax = 8

  /// Whether the number is one of `IPv6Extension`, for the many packets that have none.
  @inlinable static func isExtension(_ number: UInt8) -> Bool {
    number == 0 || number == 43 || number == 44 || number == 60
  }

  /// Moves `transport` and `headerOctets` behind the extension headers.
  @usableFromInline mutating func walkExtensions(_ bytes: RawSpan) throws(DropReason) {
    var walked = 0
    while let kind = IPv6Extension(rawValue: transport) {
      walked += 1
      guard walked <= Self.extensionHeadersMax, kind != .hopByHop || walked == 1
      else { throw .badExtensionHeader }
      guard headerOctets + 8 <= totalOctets else { throw .truncatedHeader }
      let next = bytes.octet(headerOctets)

      if kind == .fragment {
        let word = bytes.big16(headerOctets + 2)
        fragmentOffset = Int(word & 0xfff8)
        moreFragments = word & 1 != 0
        identification = bytes.big32(headerOctets + 4)
        headerOctets += 8
        transport = next
        if isFragment { return try checkFragment() }
        continue  // An atomic fragment is a whole packet (RFC 6946).
      }

      let octets = 8 + Int(bytes.octet(headerOctets + 1)) * 8
      guard headerOctets + octets <= totalOctets else { throw .badExtensionHeader }
      if kind == .routing {
        guard bytes.octet(headerOctets + 3) == 0 else { throw .sourceRouted }
      } else {
        try checkOptions(bytes, headerOctets + 2..<headerOctets + octets)
      }
      headerOctets += octets
      transport = next
    }
  }

  /// Checks that the options fill their header, and that none of them forbids to skip it.
  private func checkOptions(_ bytes: RawSpan, _ range: Range<Int>) throws(DropReason) {
    let pad1: UInt8 = 0
    var offset = range.lowerBound
    while offset < range.upperBound {
      let kind = bytes.octet(offset)
      if kind == pad1 {
        offset += 1
        continue
      }
      guard kind >> 6 == 0, offset + 2 <= range.upperBound else { throw .badExtensionHeader }
      offset += 2 + Int(bytes.octet(offset + 1))
    }
    guard offset == range.upperBound else { throw .badExtensionHeader }
  }
}
