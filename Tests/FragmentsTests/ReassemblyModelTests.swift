import Fragments
import Primitives
import TestSupport
import Testing
import Wire

// Random cuts, orders, duplicates and overlaps, against a model that knows each octet by itself.

/// One datagram in the slowest way: an octet and its fragment's number at each place.
private struct Model {
  private var octets: [Int: (fragment: Range<Int>, value: UInt8)] = [:]
  private var ends: Set<Int> = []
  private var refused = false

  mutating func give(_ range: Range<Int>, _ payload: [UInt8], more: Bool) -> Joiner.Outcome? {
    if refused { return .dropped(.fragmentOverlap) }
    let held = range.compactMap { octets[$0] }
    if held.count == range.count, held.allSatisfy({ $0.fragment == range }),
      held.map(\.value) == payload, ends.contains(range.upperBound) != more
    {
      return .dropped(.duplicateFragment)
    }
    if !more { ends.insert(range.upperBound) }
    let furthest = max(range.upperBound, (octets.keys.max() ?? -1) + 1)
    let contradicts =
      ends.count > 1 || ends.contains { $0 < furthest }
      || more && ends.contains(range.upperBound)
    guard held.isEmpty, !contradicts else {
      refused = true
      return .dropped(.fragmentOverlap)
    }
    for (place, value) in zip(range, payload) { octets[place] = (range, value) }
    return ends.contains(octets.count) ? nil : .waits
  }
}

@Suite("Reassembly against a model of single octets") struct ReassemblyModelTests {
  /// Cuts at random places that are multiples of eight.
  private func cuts(_ count: Int, _ random: inout SeededGenerator) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var start = 0
    while start < count {
      let end = min(count, start + random.number(in: 1...12) * 8)
      ranges.append(start..<end)
      start = end
    }
    return ranges.count > 1 ? ranges : [0..<8, 8..<count]
  }

  @Test("any cut in any order with exact duplicates yields the packet, once")
  func honest() {
    for seed in 1...200 as ClosedRange<UInt64> {
      var random = SeededGenerator(seed: seed)
      var whole = Whole(
        isIPv4: random.number(in: 0...1) == 0, payload: random.octets(random.number(in: 9...700)))
      whole.identification = UInt32(random.number(in: 0...0xFFFF))
      let ranges = cuts(whole.payload.count, &random)
      // Duplicates arrive behind their originals and before the datagram is whole.
      var order = ranges.shuffled(using: &random)
      let last = order.removeLast()
      for _ in 0..<random.number(in: 0...3) {
        if let range = order.randomElement(using: &random) { order.append(range) }
      }
      let joiner = Joiner()
      var seen: Set<Int> = []
      for range in order {
        let isNew = seen.insert(range.lowerBound).inserted
        #expect(
          joiner.give(whole.fragment(range)) == (isNew ? .waits : .dropped(.duplicateFragment)),
          "seed \(seed)")
      }
      #expect(joiner.give(whole.fragment(last)) == .whole(whole.packet), "seed \(seed)")
      #expect(joiner.isEmpty, "seed \(seed)")
    }
  }

  @Test("any fragments of one name: waits, repeats, refuses and completes where the model does")
  func hostile() {
    var completed = 0
    var refused = 0
    for seed in 1...1000 as ClosedRange<UInt64> {
      var random = SeededGenerator(seed: seed)
      let whole = Whole(
        isIPv4: random.number(in: 0...1) == 0, payload: random.octets(random.number(in: 9...64)))
      let count = whole.payload.count
      let ranges = cuts(count, &random)
      let joiner = Joiner()
      var model = Model()
      let errors = random.number(in: 0...2)
      for _ in 0..<30 {
        var (range, more, forged) = (ranges[0], true, whole)
        if errors > 0, random.number(in: 0...9) < errors {
          let start = random.number(in: 0...(count - 1) / 8) * 8
          range = start..<min(count, start + random.number(in: 1...4) * 8)
          more = random.number(in: 0...1) == 0
          if random.number(in: 0...2) == 0 { forged.payload[start] ^= 0x10 }
        } else {
          range = ranges[random.number(in: 0...ranges.count - 1)]
          more = range.upperBound < count
        }
        // Not what the parser refuses, or what is no fragment.
        guard !more || range.count % 8 == 0, more || range.lowerBound > 0 else { continue }
        let octets = Array(forged.payload[range])
        let expected = model.give(range, octets, more: more)
        let outcome = joiner.give(forged.fragment(range, more: more))
        if expected == .dropped(.fragmentOverlap) { refused += 1 }
        guard let expected else {
          guard case .whole = outcome else {
            Issue.record("seed \(seed): not completed but \(outcome)")
            return
          }
          #expect(joiner.isEmpty)
          completed += 1
          break
        }
        #expect(outcome == expected, "seed \(seed)")
        guard outcome == expected else { return }
      }
    }
    #expect(completed > 200 && refused > 200)
  }
}
