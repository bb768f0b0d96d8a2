import Primitives

// The numbers by which receivers tell the fragments of one packet from another's (RFC 791 §3.2, RFC 8200
// §4.5).
//
// They must differ for all packets between two addresses that can be on their way at once, whoever sends
// them: each worker counts in steps of all workers' number, rounded up to a power of two, so that no two
// ever use the same, in 32 bits as in the 16 that IPv4 has of them. Those 16 come round after 65536
// datagrams in fragments, of all workers alike, which is all that IPv4 allows (RFC 6864 §5.2); only what
// is fragmented takes one.

struct FragmentIdentification: BitwiseCopyable {
  private(set) var number: UInt32
  private let stride: UInt32

  /// - Parameters:
  ///   - seed: the same for all workers; the numbers do not tell it.
  ///   - worker: 0..<workers.
  init(seed: (UInt64, UInt64), worker: Int, of workers: Int) {
    var stride: UInt32 = 1
    while stride < workers { stride <<= 1 }
    self.stride = stride
    var hash = SipHash(seed.0, seed.1)
    hash.add(0xF4A6_3E47)
    number = UInt32(truncatingIfNeeded: hash.finish(words: 1)) & ~(stride - 1) | UInt32(worker)
  }

  mutating func step() { number &+= stride }
}
