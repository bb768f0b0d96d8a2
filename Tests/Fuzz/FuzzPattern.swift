import Glibc

// What a stream carries: an octet is a function of its place. Streams are copied and compared as wholes,
// since each comparison of the fuzzer's own is instrumented too. One that is shifted by less than the
// period, which is more than any flow keeps, shows.

struct FuzzPattern: Sendable {
  private static let period = 1 << 20

  /// Place in the stream: a sequence number.
  static let upload = FuzzPattern(seed: 0x9E37_79B9_7F4A_7C15)
  /// Place in the stream: octets before.
  static let download = FuzzPattern(seed: 0xD1B5_4A32_D192_ED03)

  /// The period, and once more what the longest packet may go on with.
  private let octets: [UInt8]

  private init(seed: UInt64) {
    var state = seed
    let period = (0..<Self.period).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 56)
    }
    octets = period + period[..<(1 << 16)]
  }

  func octets(at place: Int, count: Int) -> ArraySlice<UInt8> {
    let start = place & (Self.period - 1)
    return octets[start..<start + count]
  }

  func fill(_ memory: UnsafeMutableRawBufferPointer, at place: Int) {
    forPieces(memory.count, at: place) { piece, offset in
      UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + piece.count])
        .copyMemory(from: piece)
      return true
    }
  }

  func matches(_ memory: UnsafeRawBufferPointer, at place: Int) -> Bool {
    guard let base = memory.baseAddress else { return true }
    var holds = true
    forPieces(memory.count, at: place) { piece, offset in
      guard let expected = piece.baseAddress else { return false }
      holds = memcmp(base + offset, expected, piece.count) == 0
      return holds
    }
    return holds
  }

  private func forPieces(
    _ count: Int, at place: Int, _ body: (UnsafeRawBufferPointer, Int) -> Bool
  ) {
    octets.withUnsafeBytes { table in
      var done = 0
      while done < count {
        let start = (place + done) & (Self.period - 1)
        let part = min(count - done, 1 << 16)
        guard body(UnsafeRawBufferPointer(rebasing: table[start..<start + part]), done) else {
          return
        }
        done += part
      }
    }
  }
}
