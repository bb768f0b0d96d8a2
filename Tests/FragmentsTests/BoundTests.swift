import Fragments
import Primitives
import TestSupport
import Testing
import Wire

// Every bound, one by one, and floods against all of them together.

@Suite("Bounds of reassembly: datagrams, octets, fragments, shares") struct ReassemblyBoundTests {
  private func whole(_ identification: Int, client: Int = 1, octets: Int = 64) -> Whole {
    var whole = Whole(client: client, payload: pattern(octets, seed: identification))
    whole.identification = UInt32(identification)
    return whole
  }

  @Test("a source over its share of datagrams loses its own oldest, and only that")
  func sourceDatagrams() {
    let joiner = Joiner { $0.datagramsPerSource = 4 }
    joiner.give(whole(0, client: 2).fragment(0..<32))
    for number in 1...5 { joiner.give(whole(number).fragment(0..<32)) }
    #expect(joiner.reassembler.datagrams == 5)
    #expect(joiner.drops[.reassemblyFull] == 1 && joiner.drops.total == 1)
    #expect(joiner.give(whole(1).fragment(32..<64)) == .waits)  // begun anew, 2 went
    #expect(joiner.give(whole(2).fragment(32..<64)) == .waits)  // and 3
    #expect(joiner.give(whole(5).fragment(32..<64)) == .whole(whole(5).packet))
    #expect(
      joiner.give(whole(0, client: 2).fragment(32..<64)) == .whole(whole(0, client: 2).packet))
  }

  @Test("a source over its share of octets loses its own oldest") func sourceOctets() {
    let joiner = Joiner { $0.octetsPerSource = 65_535 }
    joiner.give(whole(0, client: 2, octets: 1000).fragment(0..<504))
    for number in 1...3 { joiner.give(whole(number, octets: 40_000).fragment(0..<30_000)) }
    #expect(joiner.reassembler.octets == 60_504)
    #expect(joiner.drops[.reassemblyFull] == 1)
    // The rest of the third needs the second's room; it completes.
    joiner.give(whole(3, octets: 40_000).fragment(30_000..<36_000))
    #expect(joiner.drops[.reassemblyFull] == 2)
    let last = joiner.give(whole(3, octets: 40_000).fragment(36_000..<40_000))
    #expect(last == .whole(whole(3, octets: 40_000).packet))
    #expect(joiner.reassembler.octets == 504)
  }

  @Test("a datagram that is its source's oldest gives way to its own fragment")
  func ownRoom() {
    let joiner = Joiner { $0.octetsPerSource = 65_535 }
    joiner.give(whole(1, octets: 50_000).fragment(0..<40_000))
    joiner.give(whole(2, octets: 50_000).fragment(0..<20_000))
    let more = joiner.give(whole(1, octets: 50_000).fragment(40_000..<50_000))
    #expect(more == .dropped(.reassemblyFull))
    #expect(joiner.reassembler.octets == 20_000 && joiner.drops.total == 1)
  }

  @Test("when datagrams are at their bound the oldest of the source with the most goes")
  func allDatagrams() {
    let joiner = Joiner { $0.datagrams = 8 }
    joiner.give(whole(100, client: 9).fragment(0..<32))
    for number in 1...7 { joiner.give(whole(number).fragment(0..<32)) }
    for client in 20..<24 {
      #expect(joiner.give(whole(1, client: client).fragment(0..<32)) == .waits)
    }
    #expect(joiner.reassembler.datagrams == 8 && joiner.drops[.reassemblyFull] == 4)
    #expect(
      joiner.give(whole(100, client: 9).fragment(32..<64)) == .whole(whole(100, client: 9).packet))
    for number in 5...7 {
      #expect(joiner.give(whole(number).fragment(32..<64)) == .whole(whole(number).packet))
    }
  }

  @Test("of sources that have equally much the oldest datagram goes") func equals() {
    let joiner = Joiner { $0.datagrams = 4 }
    for client in 1...4 {
      joiner.give(whole(1, client: client).fragment(0..<32))
      joiner.now = joiner.now + .seconds(1)
    }
    joiner.give(whole(1, client: 5).fragment(0..<32))
    #expect(
      joiner.give(whole(1, client: 2).fragment(32..<64)) == .whole(whole(1, client: 2).packet))
    #expect(joiner.give(whole(1, client: 1).fragment(32..<64)) == .waits)
  }

  @Test("when octets are at their bound the oldest of the source with the most goes")
  func allOctets() {
    let joiner = Joiner {
      $0.octets = 100_000
      $0.octetsPerSource = 70_000
    }
    joiner.give(whole(1, client: 1, octets: 8000).fragment(0..<4000))
    joiner.give(whole(1, client: 2, octets: 60_000).fragment(0..<40_000))
    joiner.give(whole(2, client: 2, octets: 60_000).fragment(0..<20_000))
    joiner.give(whole(1, client: 3, octets: 60_000).fragment(0..<40_000))
    // 104 000 would be too many: 2's first is gone.
    #expect(joiner.reassembler.octets == 64_000 && joiner.drops[.reassemblyFull] == 1)
    let first = joiner.give(whole(1, client: 1, octets: 8000).fragment(4000..<8000))
    #expect(first == .whole(whole(1, client: 1, octets: 8000).packet))
  }

  @Test("fragments of a datagram") func fragments() {
    let joiner = Joiner { $0.fragmentsPerDatagram = 4 }
    let long = whole(1, octets: 80)
    let fragments = long.fragments(of: 16)
    for fragment in fragments[..<4] { #expect(joiner.give(fragment) == .waits) }
    #expect(joiner.give(fragments[4]) == .dropped(.reassemblyFull))
    #expect(joiner.reassembler.octets == 0)
    #expect(joiner.give(fragments[0]) == .dropped(.reassemblyFull))
    let short = whole(2, octets: 64)
    #expect(joiner.give(short.fragments(of: 16)) == .whole(short.packet))
  }

  @Test("workers share what is kept, but each has room for one source's share; one has it all")
  func sharedByWorkers() {
    var limits = ReassemblyLimits()
    #expect(limits.shared(by: 2).datagrams == 64)
    #expect(limits.shared(by: 2).octets == 2 << 20)
    #expect(limits.shared(by: 64).datagrams == limits.datagramsPerSource)
    #expect(limits.shared(by: 64).octets == limits.octetsPerSource)
    limits.datagrams = 8
    limits.octets = 100_000
    #expect(limits.shared(by: 1).datagrams == 8)
    #expect(limits.shared(by: 1).octets == 100_000)
  }

  @Test("packets that wait for the turn to end") func completed() {
    let joiner = Joiner { $0.completedPerTurn = 2 }
    for number in 1...3 {
      joiner.give(whole(number).fragment(0..<32), endsTurn: false)
      let last = joiner.give(whole(number).fragment(32..<64), endsTurn: false)
      #expect(last == (number < 3 ? .whole(whole(number).packet) : .dropped(.reassemblyFull)))
    }
    joiner.reassembler.endTurn()
    #expect(joiner.isEmpty)
    joiner.give(whole(4).fragment(0..<32))
    #expect(joiner.give(whole(4).fragment(32..<64)) == .whole(whole(4).packet))
  }
}

@Suite("Hostile floods of fragments") struct FragmentFloodTests {
  @Test("one source that floods does not cost another its datagrams", arguments: [true, false])
  func oneSource(isIPv4: Bool) {
    let joiner = Joiner()
    let limits = joiner.reassembler.limits
    var flood = Whole(isIPv4: isIPv4, client: 66, payload: pattern(1480))
    for round in 0..<40 {
      let honest = Whole(isIPv4: isIPv4, payload: pattern(4000, seed: round))
      let fragments = honest.fragments(of: 1480)
      #expect(joiner.give(fragments[0]) == .waits)
      for _ in 0..<50 {
        flood.identification &+= 1
        flood.identification &= 0xFFFF
        joiner.give(flood.fragment(0..<1480, more: true))
      }
      #expect(joiner.give(fragments[1]) == .waits)
      #expect(joiner.give(fragments[2]) == .whole(honest.packet))
      #expect(joiner.reassembler.datagrams <= limits.datagramsPerSource)
    }
    _ = joiner.expire(after: .seconds(60))
    #expect(joiner.isEmpty)
    #expect(joiner.drops[.reassemblyFull] + joiner.drops[.fragmentTimeout] == 2000)
  }

  @Test("many sources that flood do not cost a datagram whose fragments come together")
  func manySources() {
    let joiner = Joiner()
    let limits = joiner.reassembler.limits
    for round in 0..<200 {
      for client in 0..<8 {
        let flood = Whole(client: 100 + round * 8 + client, payload: pattern(1480))
        joiner.give(flood.fragment(0..<1480, more: true))
        joiner.now = joiner.now + .microseconds(1)
      }
      guard round % 20 == 0 else { continue }
      let honest = Whole(payload: pattern(2000, seed: round))
      #expect(joiner.give(honest.fragments(of: 1480)) == .whole(honest.packet))
      #expect(joiner.reassembler.datagrams <= limits.datagrams)
      #expect(joiner.reassembler.octets <= limits.octets)
    }
    _ = joiner.expire(after: .seconds(30))
    #expect(joiner.isEmpty)
  }

  @Test("any fragments whatever keep every bound, and leave nothing behind")
  func anyFragments() throws {
    for seed in 1...8 as ClosedRange<UInt64> {
      var random = SeededGenerator(seed: seed)
      let joiner = Joiner {
        $0.datagrams = 12
        $0.datagramsPerSource = 5
        $0.octets = 150_000
        $0.octetsPerSource = 70_000
        $0.fragmentsPerDatagram = 6
        $0.completedPerTurn = 3
      }
      let limits = joiner.reassembler.limits
      for _ in 0..<1000 {
        var whole = Whole(
          isIPv4: random.number(in: 0...1) == 0, client: random.number(in: 1...6), payload: [])
        whole.identification = UInt32(random.number(in: 0...3))
        whole.transport = random.number(in: 0...3) == 0 ? 6 : 17
        whole.trafficClass = UInt8(random.number(in: 0...1)) * 2
        let more = random.number(in: 0...2) > 0
        let offset = random.number(in: 0...(random.number(in: 0...5) == 0 ? 8000 : 6)) * 8
        let octets = random.number(in: 1...(random.number(in: 0...3) == 0 ? 4000 : 4)) * 8
        guard offset + octets <= 65_528, more || offset > 0 else { continue }
        let payload = [UInt8](repeating: UInt8(random.number(in: 0...1)), count: octets)
        let fragment = whole.fragment(at: offset, payload, more: more)
        joiner.give(fragment, endsTurn: random.number(in: 0...2) == 0)
        #expect(joiner.reassembler.datagrams <= limits.datagrams)
        #expect(joiner.reassembler.octets <= limits.octets)
        if random.number(in: 0...20) == 0 { _ = joiner.expire(after: .seconds(5)) }
      }
      joiner.reassembler.endTurn()
      _ = joiner.expire(after: .seconds(60))
      #expect(joiner.isEmpty, "seed \(seed)")
    }
  }
}
