// The flow index against a plain table, and the spread of the keyed hash.

import SocketTable
import TestSupport
import Testing
import Wire

@Suite("Flow index") struct FlowIndexTests {
  /// The slots that a search for the hash comes past.
  static func slots(_ index: borrowing FlowIndex, _ hash: UInt32) -> [UInt32] {
    var found: [UInt32] = []
    var probe = index.probe(hash)
    while let slot = index.next(&probe) { found.append(slot) }
    return found
  }

  @Test("an empty index knows nobody") func empty() {
    let index = FlowIndex(capacity: 1)
    for hash in [0, .max] as [UInt32] {
      let found = Self.slots(index, hash)
      #expect(found.isEmpty)
    }
  }

  @Test("equal hashes are all found, and removed one by one") func equalHashes() {
    var index = FlowIndex(capacity: 100)
    for slot in UInt32(0)..<100 { index.insert(7, slot) }
    var found = Self.slots(index, 7)
    #expect(found.sorted() == Array(0..<100))
    let strangerRemoved = index.remove(7, 100)
    #expect(strangerRemoved == false)
    for slot in UInt32(0)..<100 where slot % 3 != 0 { index.remove(7, slot) }
    found = Self.slots(index, 7)
    #expect(found.sorted() == (0..<100).filter { $0 % 3 == 0 })
    #expect(index.count == 34)
  }

  @Test("runs that wrap around the end of the table survive removal", arguments: UInt64(0)..<32)
  func model(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let capacity = Int.random(in: 1...600, using: &random)
    var index = FlowIndex(capacity: capacity)
    var model: [UInt32: UInt32] = [:]  // slot to hash
    // Few homes, most of them at the end of the table, make long runs that wrap.
    let hashes = (0..<40).map { _ in
      UInt32.random(in: 0..<4, using: &random) << 30 | 0x3fff_fff0
        + UInt32.random(in: 0..<16, using: &random)
    }
    for step in 0..<4_000 {
      let slot = UInt32.random(in: 0..<UInt32(capacity), using: &random)
      if let hash = model.removeValue(forKey: slot) {
        let removed = index.remove(hash, slot)
        #expect(removed, "seed \(seed) step \(step)")
      } else {
        let hash =
          step % 4 == 0
          ? UInt32.random(in: .min ... .max, using: &random) : hashes[step % hashes.count]
        index.insert(hash, slot)
        model[slot] = hash
      }
      #expect(index.count == model.count)
      let hash = hashes[Int.random(in: hashes.indices, using: &random)]
      let expected = model.filter { $0.value == hash }.keys.sorted()
      let found = Self.slots(index, hash)
      #expect(found.sorted() == expected, "seed \(seed) step \(step)")
    }
    for (slot, hash) in model {
      let found = Self.slots(index, hash)
      #expect(found.contains(slot), "seed \(seed)")
    }
  }

  @Test("growth keeps every slot") func growth() {
    var index = FlowIndex(capacity: 20_000)
    let hash = FlowHash(1, 2)
    func tuple(_ n: UInt32) -> FiveTuple {
      FiveTuple(
        client: IPAddress(v4: n), virtual: IPAddress(v4: 1), clientPort: 1, virtualPort: 2,
        transport: .udp)
    }
    for slot in UInt32(0)..<20_000 { index.insert(hash.hash(tuple(slot)), slot) }
    for slot in UInt32(0)..<20_000 {
      let found = Self.slots(index, hash.hash(tuple(slot)))
      #expect(found.contains(slot))
    }
  }
}

@Suite("Flow hash") struct FlowHashTests {
  static let base = FiveTuple(
    client: IPAddress(high: 0x2001_0db8_0000_0000, low: 1),
    virtual: IPAddress(high: 0xfd77_0000_0000_0000, low: 1), clientPort: 40_000, virtualPort: 443,
    transport: .tcp)

  /// Families of tuples that differ in one field, as a client that wants to hurt would pick them.
  static let crafted: [(name: String, make: @Sendable (UInt64) -> FiveTuple)] = [
    (
      "client port",
      { n in
        var t = base
        t.clientPort = UInt16(truncatingIfNeeded: n)
        return t
      }
    ),
    (
      "virtual port",
      { n in
        var t = base
        t.virtualPort = UInt16(truncatingIfNeeded: n)
        return t
      }
    ),
    (
      "interface identifier",
      { n in
        var t = base
        t.client.low = n
        return t
      }
    ),
    (
      "interface identifier's high bits",
      { n in
        var t = base
        t.client.low = n << 48
        return t
      }
    ),
    (
      "subnet",
      { n in
        var t = base
        t.client.high ^= n
        return t
      }
    ),
    (
      "network's high bits",
      { n in
        var t = base
        t.client.high ^= n << 48
        return t
      }
    ),
    (
      "virtual address",
      { n in
        var t = base
        t.virtual.low = n
        return t
      }
    ),
    (
      "IPv4 host",
      { n in
        var t = base
        t.client = IPAddress(v4: UInt32(n))
        return t
      }
    ),
    (
      "IPv4 network",
      { n in
        var t = base
        t.client = IPAddress(v4: UInt32(n) << 16)
        return t
      }
    ),
    (
      "both ports",
      { n in
        var t = base
        t.clientPort = UInt16(n & 0xff) << 8
        t.virtualPort = UInt16(n >> 8)
        return t
      }
    ),
  ]

  @Test("tuples that differ in one field spread like random ones", arguments: crafted.indices)
  func spread(family: Int) {
    let (name, make) = Self.crafted[family]
    for seed in UInt64(0)..<6 {
      var random = SeededGenerator(seed: seed)
      let hash = seed == 0 ? FlowHash(0, 0) : FlowHash(random.next(), random.next())
      // 65536 into 65536 places, by the low bits, the high bits and the middle.
      for shift in [UInt32(0), 8, 16] {
        var load = [UInt8](repeating: 0, count: 65_536)
        for n in UInt64(0)..<65_536 {
          load[Int(hash.hash(make(n)) >> shift & 0xffff)] += 1
        }
        // Random throws leave 1/e of the places empty (24109 ± 100) and fill none beyond ten or so.
        let empty = load.count { $0 == 0 }
        #expect((23_300...24_900).contains(empty), "\(name) seed \(seed) shift \(shift)")
        #expect(load.max() ?? 0 <= 14, "\(name) seed \(seed) shift \(shift)")
      }
    }
  }

  @Test("every field counts") func everyField() {
    let hash = FlowHash(3, 4)
    var tuple = Self.base
    tuple.transport = .udp
    #expect(hash.hash(tuple) != hash.hash(Self.base))
    tuple = Self.base
    (tuple.client, tuple.virtual) = (tuple.virtual, tuple.client)
    #expect(hash.hash(tuple) != hash.hash(Self.base))
    tuple = Self.base
    (tuple.clientPort, tuple.virtualPort) = (tuple.virtualPort, tuple.clientPort)
    #expect(hash.hash(tuple) != hash.hash(Self.base))
  }

  @Test("the secrets decide, and nothing else does") func keyed() {
    #expect(FlowHash(5, 6).hash(Self.base) == FlowHash(5, 6).hash(Self.base))
    #expect(FlowHash(5, 6).hash(Self.base) != FlowHash(5, 7).hash(Self.base))
    #expect(FlowHash(5, 6).hash(Self.base) != FlowHash(6, 5).hash(Self.base))
  }
}
