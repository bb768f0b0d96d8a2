import Glibc

// Randomness and payload, both functions of a seed.
//
// Everything that happens by chance in a run is drawn from one `Dice`, so that a seed replays the
// run. What streams carry is not stored: the octet at an offset of a stream is a function of the
// stream's key and the offset, cheap to fill in and to compare by whole runs.

/// SplitMix64.
struct Dice {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x0123_4567_89AB_CDEF }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func word() -> UInt32 { UInt32(truncatingIfNeeded: next() >> 32) }

  /// Uniform in 0..<bound.
  mutating func below(_ bound: Int) -> Int {
    bound <= 1 ? 0 : Int(truncatingIfNeeded: (next() >> 1) % UInt64(bound))
  }

  mutating func within(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + below(range.upperBound - range.lowerBound + 1)
  }

  /// True in so many of a hundred thousand cases.
  mutating func chance(_ perHundredThousand: Int) -> Bool { below(100_000) < perHundredThousand }

  mutating func percent(_ p: Int) -> Bool { below(100) < p }

  /// Small numbers and large ones alike: uniform in the exponent.
  mutating func scaled(_ range: ClosedRange<Int>) -> Int {
    let bits = 64 - (range.upperBound - range.lowerBound + 1).leadingZeroBitCount
    return min(range.upperBound, range.lowerBound + below(1 << below(bits + 1)))
  }

  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}

/// What a stream carries.
enum Pattern {
  /// Prime, so that no power of two divides a shift that would go unnoticed.
  private static let period = 65_521
  private static let octets: [UInt8] = {
    var dice = Dice(0xF0)
    let base = (0..<period).map { _ in UInt8(truncatingIfNeeded: dice.next() >> 24) }
    return base + base
  }()

  /// Stores the octets [offset, offset + count) of the stream with this key.
  static func fill(_ memory: UnsafeMutableRawPointer, key: Int, offset: Int, count: Int) {
    octets.withUnsafeBytes { block in
      guard let base = block.baseAddress else { return }
      var done = 0
      while done < count {
        let n = min(count - done, period)
        (memory + done).copyMemory(
          from: base + (key + offset + done) % period, byteCount: n)
        done += n
      }
    }
  }

  /// The first of `count` octets that is not the stream's, counted from `offset`; nil: all are.
  static func mismatch(
    _ memory: UnsafeRawPointer, key: Int, offset: Int, count: Int
  ) -> Int? {
    octets.withUnsafeBytes { block in
      guard let base = block.baseAddress else { return nil }
      var done = 0
      while done < count {
        let n = min(count - done, period)
        let expected = base + (key + offset + done) % period
        if memcmp(memory + done, expected, n) != 0 {
          for i in 0..<n
          where (memory + done).load(fromByteOffset: i, as: UInt8.self)
            != expected.load(fromByteOffset: i, as: UInt8.self)
          { return done + i }
        }
        done += n
      }
      return nil
    }
  }
}
