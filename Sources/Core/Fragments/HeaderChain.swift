import Wire

// Whether a first fragment holds all headers (RFC 1858 §3.2, RFC 7112 §5).
//
// A fragment that cuts the transport header hides ports and flags from those who look at fragments,
// and serves no one else. With the whole header in the first fragment, no other fragment can replace
// a part of it, since overlaps are refused.

enum HeaderChain {
  /// Throws `tinyFragment` when the headers are cut, `badFragment` for a fragment in a fragment, and
  /// `badExtensionHeader` for a chain that is too long or misplaced.
  /// - Parameters:
  ///   - payload: the first fragment's, behind the fragment header.
  ///   - transport: the number of the header that it begins with.
  static func check(_ payload: RawSpan, transport: UInt8, isIPv4: Bool) throws(DropReason) {
    var number = transport
    var offset = 0
    var walked = 0
    while !isIPv4 {
      // Hop-by-hop options and fragment headers belong in front.
      if number == IPProtocol.fragment { throw .badFragment }
      if number == 0 { throw .badExtensionHeader }
      guard number == 43 || number == 60 else { break }
      walked += 1
      guard walked <= IPHeader.extensionHeadersMax else { throw .badExtensionHeader }
      guard offset + 8 <= payload.byteCount else { throw .tinyFragment }
      number = payload.octet(offset)
      offset += 8 + Int(payload.octet(offset + 1)) * 8
    }
    let held = payload.byteCount - offset
    guard held >= octetsNeeded(number), held >= 0 else { throw .tinyFragment }
    if number == IPProtocol.tcp {
      guard held >= Int(payload.octet(offset + 12) >> 4) * 4 else { throw .tinyFragment }
    }
  }

  /// The header of a transport without options; none is known of those that are not forwarded.
  private static func octetsNeeded(_ transport: UInt8) -> Int {
    switch transport {
    case IPProtocol.tcp: 20
    case IPProtocol.udp, IPProtocol.icmp, IPProtocol.icmpV6: 8
    default: 0
    }
  }
}
