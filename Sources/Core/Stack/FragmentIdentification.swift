// The numbers by which receivers tell the fragments of one packet from another's (RFC 791 §3.2, RFC 8200 §4.5).
//
// They must differ for all packets between two addresses that can be on their way at once, whoever sends
// them: each worker counts in steps of all workers' number, rounded up to a power of two, so that no two
// ever use the same, in 32 bits as in the 16 that IPv4 has of them.

struct FragmentIdentification: BitwiseCopyable {
  private(set) var number: UInt32
  private let stride: UInt32

  /// - Parameters:
  ///   - start: the same for all workers.
  ///   - worker: 0..<workers.
  init(from start: UInt32, worker: Int, of workers: Int) {
    var stride: UInt32 = 1
    while stride < workers { stride <<= 1 }
    self.stride = stride
    number = start & ~(stride - 1) | UInt32(worker)
  }

  mutating func step() { number &+= stride }
}
