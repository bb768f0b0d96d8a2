// The hash of a five-tuple, keyed so that nobody outside can aim for one bucket.
//
// Clients choose their ports and, over IPv6, most of their address. Without a secret they could
// choose tuples that all meet in one run of the table and make every packet of a worker walk it.
// The mixing is multiply and fold: 64 × 64 bits to 128, the halves folded by exclusive or, four
// times, about the cost of one cache hit. It is no cryptographic hash and need not be: what it
// yields never leaves the process. Which queue the kernel steers a packet to is not decided here.

import Wire

/// A keyed 32-bit hash of five-tuples; the same for the same secrets.
@usableFromInline package struct FlowHash: Sendable, BitwiseCopyable {
  @usableFromInline let keys: (UInt64, UInt64, UInt64, UInt64)

  /// - Parameters: two numbers from the system's entropy, drawn once at start and told to nobody.
  package init(_ first: UInt64, _ second: UInt64) {
    // Four keys are spread from the two, so that weak ones (zero, equal) are none here.
    var state = first
    func next() -> UInt64 {
      state = Self.fold(state &+ 0x9E37_79B9_7F4A_7C15, second ^ 0xD6E8_FEB8_6659_FD93) &+ second
      return state
    }
    keys = (next(), next(), next(), next())
  }

  @inlinable package func hash(_ tuple: FiveTuple) -> UInt32 {
    let ports =
      UInt64(tuple.clientPort) << 32 | UInt64(tuple.virtualPort) << 16
      | UInt64(tuple.transport.rawValue)
    var hash = Self.fold(tuple.client.low ^ keys.0, tuple.client.high ^ keys.1)
    hash = Self.fold(tuple.virtual.low ^ keys.2, tuple.virtual.high ^ keys.3 ^ hash)
    hash = Self.fold(ports ^ keys.1, hash ^ keys.0)
    // Ports alone, multiplied once by a number that is constant for a pair of addresses, would
    // still show in the low bits if that number happened to be even.
    hash = Self.fold(hash ^ keys.2, keys.3 | 1)
    return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
  }

  @inlinable static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }
}
