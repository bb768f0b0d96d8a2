import Primitives
import Testing

@Suite("SipHash-2-4") struct SipHashTests {
  /// The paper's key: octets 0 to 15.
  private let key: (UInt64, UInt64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)

  @Test(
    "the reference implementation's vectors of whole words",
    arguments: [
      (0, 0x726f_db47_dd0e_0e31 as UInt64), (1, 0x93f5_f579_9a93_2462), (2, 0x3f2a_cc7f_57c2_9bdb),
      (5, 0x0e3e_a96b_5304_a7d0),
    ])
  func vectors(words: Int, hash: UInt64) {
    var state = SipHash(key.0, key.1)
    for word in 0..<words {
      var value: UInt64 = 0
      for octet in 0..<8 { value |= UInt64(word * 8 + octet) << (8 * octet) }
      state.add(value)
    }
    let result = state.finish(words: words)
    #expect(result == hash)
  }

  @Test("either half of the key counts") func keys() {
    let keys: [(UInt64, UInt64)] = [(1, 2), (2, 1), (1, 3), (0, 2)]
    let results = keys.map { key in
      var state = SipHash(key.0, key.1)
      state.add(7)
      return state.finish(words: 1)
    }
    #expect(Set(results).count == 4)
  }
}
