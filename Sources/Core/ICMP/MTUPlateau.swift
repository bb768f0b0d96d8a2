// RFC 1191 §5 and §7.1: routers of before 1990 say that a packet was too big, but not for what. Then the
// next lower of the MTUs in use is tried.

package enum MTUPlateau {
  private static let table = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68]

  /// The largest of the table that is less than the length of the packet that was too big.
  package static func below(_ packetOctets: Int) -> Int {
    table.first { $0 < packetOctets } ?? 68
  }
}
