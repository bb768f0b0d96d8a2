import Fragments
import Primitives
import TestSupport
import Testing
import Wire

// What is delivered: the packet as it was before it was cut.

@Suite("Joining fragments (RFC 791 §3.2, RFC 8200 §4.5)") struct JoiningTests {
  @Test(
    "in order, in reverse and shuffled, the packet is the one that was cut",
    arguments: [true, false])
  func orders(isIPv4: Bool) throws {
    let whole = Whole(isIPv4: isIPv4, payload: pattern(5000))
    var random = SeededGenerator(seed: 7)
    let fragments = whole.fragments(of: 1480)
    for order in [fragments, fragments.reversed(), fragments.shuffled(using: &random)] {
      let joiner = Joiner()
      for fragment in order.dropLast() { #expect(joiner.give(fragment) == .waits) }
      #expect(joiner.give(order[order.count - 1]) == .whole(whole.packet))
      #expect(joiner.isEmpty && joiner.drops.total == 0)
      #expect(joiner.reassembler.completedTotal == 1)
    }
  }

  @Test("the rebuilt headers parse: lengths, IPv4 checksum, no fragment", arguments: [true, false])
  func headers(isIPv4: Bool) throws {
    var whole = Whole(isIPv4: isIPv4, payload: pattern(3000))
    whole.trafficClass = 0xB8
    whole.identification = isIPv4 ? 0xFFFE : 0xFFFF_FFFE
    guard case .whole(let packet) = Joiner().give(whole.fragments(of: 1000)) else {
      Issue.record("not joined")
      return
    }
    let header = try IPHeader(parsing: packet.span.bytes)
    #expect(!header.isFragment && !(isIPv4 && header.dontFragment))
    #expect(header.totalOctets == packet.count && header.payloadOctets == 3000)
    #expect(header.source == whole.source && header.destination == whole.destination)
    #expect(header.transport == IPProtocol.udp && header.hopLimit == 61)
    #expect(header.trafficClass == 0xB8)
    #expect(header.identification == (isIPv4 ? 0xFFFE : 0))
  }

  @Test("hop limit and DSCP are the first fragment's, whichever came first")
  func firstFragmentRules() throws {
    var other = Whole(payload: pattern(64))
    other.hopLimit = 3
    other.trafficClass = 0x20
    var whole = other
    whole.hopLimit = 64
    whole.trafficClass = 0xB8
    let joiner = Joiner()
    joiner.give(other.fragment(32..<64))
    #expect(joiner.give(whole.fragment(0..<32)) == .whole(whole.packet))
  }

  @Test(
    "IPv4 options and the extension headers of fragments do not stay", arguments: [true, false])
  func options(isIPv4: Bool) throws {
    var cut = Whole(isIPv4: isIPv4, payload: pattern(2000))
    let whole = cut.packet
    for words in 1...(isIPv4 ? 10 : 30) {
      if isIPv4 {
        cut.options = [UInt8](repeating: 1, count: words * 4)
      } else {
        // Destination options, padded: from 8 octets to more than is kept for a quotation.
        cut.firstExtension = 60
        cut.options = [44, UInt8(words - 1), 1, UInt8(words * 8 - 4)]
        cut.options += [UInt8](repeating: 0, count: words * 8 - 4)
      }
      #expect(Joiner().give(cut.fragments(of: 1200)) == .whole(whole))
    }
  }

  @Test("link padding behind a fragment is not joined") func padding() {
    let whole = Whole(payload: pattern(100))
    let joiner = Joiner()
    joiner.give(whole.fragment(0..<96) + [1, 2, 3])
    #expect(joiner.give(whole.fragment(96..<100) + [4]) == .whole(whole.packet))
  }

  @Test("datagrams differ by source, destination, identification, and in IPv4 by protocol")
  func names() {
    for isIPv4 in [true, false] {
      let whole = Whole(isIPv4: isIPv4, payload: pattern(64))
      var others = [whole, whole, whole]
      others[0].source.low += 1
      others[1].destination.low += 1
      others[2].identification += 1
      if isIPv4 {
        others.append(whole)
        others[3].transport = IPProtocol.icmp
      }
      let joiner = Joiner()
      for one in [whole] + others { #expect(joiner.give(one.fragment(0..<32)) == .waits) }
      for one in [whole] + others {
        #expect(joiner.give(one.fragment(32..<64)) == .whole(one.packet))
      }
      #expect(joiner.isEmpty)
    }
  }

  @Test("an IPv6 fragment's next header counts in the first one only") func nextHeader() {
    let whole = Whole(isIPv4: false, payload: pattern(64))
    var other = whole
    other.transport = IPProtocol.none
    let joiner = Joiner()
    joiner.give(other.fragment(32..<64))
    #expect(joiner.give(whole.fragment(0..<32)) == .whole(whole.packet))
  }

  @Test("the largest packets: 65 535 octets behind an IPv6 header, or with an IPv4 one")
  func largest() {
    for isIPv4 in [true, false] {
      let whole = Whole(isIPv4: isIPv4, payload: pattern(isIPv4 ? 65_515 : 65_535))
      let joiner = Joiner()
      #expect(joiner.give(whole.fragments(of: 1232)) == .whole(whole.packet))
      #expect(joiner.isEmpty)
    }
  }

  @Test("whole packets stay until the turn ends, however many other fragments come")
  func lifetime() throws {
    let joiner = Joiner()
    var frames: [UnsafeRawBufferPointer] = []
    var expected: [[UInt8]] = []
    for number in 0..<100 {
      var whole = Whole(payload: pattern(200, seed: number))
      whole.identification = UInt32(number)
      expected.append(whole.packet)
      var lost = whole
      lost.identification += 1000
      joiner.give(lost.fragment(96..<200), endsTurn: false)
      joiner.give(whole.fragment(0..<96), endsTurn: false)
      let last = whole.fragment(96..<200)
      let header = try IPHeader(parsing: last.span.bytes)
      let frame = try joiner.reassembler.receive(
        last.span.bytes, header: header, at: joiner.now, drops: &joiner.drops)
      frames.append(try #require(frame))
    }
    for (frame, packet) in zip(frames, expected) { #expect(Array(frame.dropFirst(10)) == packet) }
    joiner.reassembler.endTurn()
    #expect(joiner.reassembler.datagrams <= joiner.reassembler.limits.datagramsPerSource)
  }
}

@Suite("Congestion marks of fragments (RFC 3168 §5.3)") struct FragmentMarkTests {
  @Test(
    "the codepoint of the whole",
    arguments: [
      ([0, 0], 0), ([1, 1], 1), ([2, 2], 2), ([3, 3], 3), ([2, 3], 3), ([3, 1], 3), ([1, 2, 3], 3),
      ([0, 2], 0), ([1, 0], 0), ([1, 2], 2), ([0, 3], nil), ([3, 2, 0], nil),
    ] as [([UInt8], UInt8?)])
  func codepoints(marks: [UInt8], joined: UInt8?) {
    for isIPv4 in [true, false] {
      let joiner = Joiner()
      var whole = Whole(isIPv4: isIPv4, payload: pattern(marks.count * 16))
      var last: Joiner.Outcome?
      for (index, mark) in marks.enumerated() {
        whole.trafficClass = 0x28 | mark
        last = joiner.give(whole.fragment(index * 16..<index * 16 + 16))
      }
      whole.trafficClass = 0x28 | (joined ?? 0)
      #expect(last == (joined == nil ? .dropped(.fragmentECNMixed) : .whole(whole.packet)))
      #expect(joiner.isEmpty)
    }
  }
}
