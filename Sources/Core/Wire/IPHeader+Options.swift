// IPv4 options (RFC 791 §3.1): looked at for their lengths, and for those that a host must not follow.
//
// Source routes, loose and strict, lead packets past filters: such a packet is dropped, whether its way
// is used up or not (RFC 7126 §4.3, §4.4). The others ask for what a host does not do (RFC 7126 §4.5
// and later), and are skipped. The ICMP "parameter problem" of a malformed option is not sent.

extension IPHeader {
  /// Throws `badIPOptions` or `sourceRouted`.
  @usableFromInline static func checkOptions(
    _ bytes: RawSpan, headerOctets: Int
  ) throws(DropReason) {
    let endOfList: UInt8 = 0
    let noOperation: UInt8 = 1
    let looseSourceRoute: UInt8 = 131
    let strictSourceRoute: UInt8 = 137
    var offset = 20
    while offset < headerOctets {
      let kind = bytes.octet(offset)
      if kind == endOfList { return }
      if kind == noOperation {
        offset += 1
        continue
      }
      guard offset + 2 <= headerOctets else { throw .badIPOptions }
      let octets = Int(bytes.octet(offset + 1))
      guard octets >= 2, offset + octets <= headerOctets else { throw .badIPOptions }
      guard kind != looseSourceRoute, kind != strictSourceRoute else { throw .sourceRouted }
      offset += octets
    }
  }
}
