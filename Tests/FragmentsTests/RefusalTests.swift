import Fragments
import Primitives
import Testing
import Wire

// What ends a datagram before its time.

@Suite("Overlapping fragments (RFC 5722 §4, RFC 8200 §4.5; IPv4 alike)") struct OverlapTests {
  /// Gives `first`, then `second`, which must end the datagram; then all of it, of which nothing may
  /// be joined until its time is over.
  private func refuses(_ first: [Range<Int>], _ second: Range<Int>) {
    for isIPv4 in [true, false] {
      let whole = Whole(isIPv4: isIPv4, payload: pattern(128))
      let joiner = Joiner()
      for range in first { joiner.give(whole.fragment(range)) }
      #expect(joiner.give(whole.fragment(second)) == .dropped(.fragmentOverlap))
      #expect(joiner.reassembler.octets == 0)
      for fragment in whole.fragments(of: 32) {
        #expect(joiner.give(fragment) == .dropped(.fragmentOverlap))
      }
      #expect(joiner.expire(after: .seconds(60)).isEmpty)
      #expect(joiner.isEmpty && joiner.drops[.fragmentTimeout] == 0)
      #expect(joiner.give(whole.fragments(of: 32)) == .whole(whole.packet))
    }
  }

  @Test("at the start, at the end, inside, around, and over two") func overlaps() {
    refuses([32..<64], 24..<40)
    refuses([32..<64], 56..<72)
    refuses([32..<64], 40..<48)
    refuses([32..<64], 24..<72)
    refuses([32..<64], 32..<56)
    refuses([32..<64], 40..<64)
    refuses([32..<64], 32..<72)
    refuses([0..<32, 64..<96], 24..<72)
    refuses([0..<32, 64..<96], 32..<72)
    refuses([96..<128], 120..<128)
  }

  @Test("an exact duplicate is counted and costs nothing", arguments: [true, false])
  func duplicates(isIPv4: Bool) {
    let whole = Whole(isIPv4: isIPv4, payload: pattern(100))
    let fragments = whole.fragments(of: 32)
    let joiner = Joiner()
    for fragment in fragments.dropLast() {
      #expect(joiner.give(fragment) == .waits)
      #expect(joiner.give(fragment) == .dropped(.duplicateFragment))
    }
    #expect(joiner.give(fragments[0]) == .dropped(.duplicateFragment))
    #expect(joiner.give(fragments[3]) == .whole(whole.packet))
    #expect(joiner.drops[.duplicateFragment] == 4 && joiner.drops.total == 4)
  }

  @Test("the same borders with other octets are an overlap") func otherOctets() {
    let whole = Whole(payload: pattern(64))
    let joiner = Joiner()
    joiner.give(whole.fragment(0..<32))
    var forged = whole
    forged.payload[31] ^= 1
    #expect(joiner.give(forged.fragment(0..<32)) == .dropped(.fragmentOverlap))
    #expect(joiner.give(whole.fragment(32..<64)) == .dropped(.fragmentOverlap))
  }

  @Test("the same fragment, last and not last, is an overlap", arguments: [true, false])
  func otherFlag(lastFirst: Bool) {
    let whole = Whole(payload: pattern(64))
    let joiner = Joiner()
    #expect(joiner.give(whole.fragment(32..<64, more: !lastFirst)) == .waits)
    #expect(
      joiner.give(whole.fragment(32..<64, more: lastFirst)) == .dropped(.fragmentOverlap))
  }

  @Test("two ends, and fragments behind the end") func ends() {
    let whole = Whole(payload: pattern(128))
    let joiner = Joiner()
    joiner.give(whole.fragment(96..<128))
    #expect(joiner.give(whole.fragment(32..<64, more: false)) == .dropped(.fragmentOverlap))
    let second = Joiner()
    second.give(whole.fragment(32..<64, more: false))
    #expect(second.give(whole.fragment(96..<128)) == .dropped(.fragmentOverlap))
    let third = Joiner()
    third.give(whole.fragment(32..<64, more: false))
    #expect(third.give(whole.fragment(64..<96)) == .dropped(.fragmentOverlap))
    let fourth = Joiner()
    fourth.give(whole.fragment(64..<96))
    #expect(fourth.give(whole.fragment(32..<64, more: false)) == .dropped(.fragmentOverlap))
  }
}

@Suite("First fragments that hide the transport header (RFC 1858 §3, RFC 7112 §5)")
struct TinyFragmentTests {
  /// What comes of a first fragment of so many octets, and whether it is remembered.
  private func outcome(
    _ transport: UInt8, _ payload: [UInt8], isIPv4: Bool = true
  ) -> Joiner.Outcome {
    var whole = Whole(isIPv4: isIPv4, payload: payload)
    whole.transport = transport
    let joiner = Joiner()
    let outcome = joiner.give(whole.fragment(0..<payload.count, more: true))
    #expect(outcome == .waits || joiner.isEmpty)
    // It ends a datagram of which other fragments are here.
    let second = Joiner()
    second.give(whole.fragment(at: 800, pattern(8), more: false))
    #expect(second.give(whole.fragment(0..<payload.count, more: true)) == outcome)
    #expect(outcome == .waits || second.reassembler.octets == 0)
    return outcome
  }

  private func tcp(words: UInt8, octets: Int) -> [UInt8] {
    var segment = [UInt8](repeating: 0, count: octets)
    if octets > 12 { segment[12] = words << 4 }
    return segment
  }

  @Test("TCP needs its header with all options") func tcp() {
    for isIPv4 in [true, false] {
      #expect(outcome(6, tcp(words: 5, octets: 8), isIPv4: isIPv4) == .dropped(.tinyFragment))
      #expect(outcome(6, tcp(words: 5, octets: 16), isIPv4: isIPv4) == .dropped(.tinyFragment))
      #expect(outcome(6, tcp(words: 5, octets: 24), isIPv4: isIPv4) == .waits)
      #expect(outcome(6, tcp(words: 10, octets: 32), isIPv4: isIPv4) == .dropped(.tinyFragment))
      #expect(outcome(6, tcp(words: 10, octets: 40), isIPv4: isIPv4) == .waits)
      #expect(outcome(6, tcp(words: 15, octets: 56), isIPv4: isIPv4) == .dropped(.tinyFragment))
    }
  }

  @Test("the header of UDP and ICMP fits every first fragment; other protocols are not known")
  func others() {
    for transport in [1, 17, 132, 255] as [UInt8] {
      #expect(outcome(transport, pattern(8)) == .waits)
    }
  }

  @Test("a TCP header cannot be completed or replaced by a second fragment at offset 8")
  func indirect() {
    var whole = Whole(payload: tcp(words: 5, octets: 64))
    whole.transport = IPProtocol.tcp
    let joiner = Joiner()
    #expect(joiner.give(whole.fragment(0..<24)) == .waits)
    #expect(joiner.give(whole.fragment(8..<32)) == .dropped(.fragmentOverlap))
    let second = Joiner()
    #expect(second.give(whole.fragment(8..<32)) == .waits)
    #expect(second.give(whole.fragment(0..<24)) == .dropped(.fragmentOverlap))
  }

  @Test("IPv6 extension headers behind the fragment header are in the first fragment too")
  func chain() {
    // Destination options of 16 octets, then UDP.
    let options: [UInt8] = [17, 1, 1, 12] + [UInt8](repeating: 0, count: 12)
    #expect(outcome(60, options + pattern(8), isIPv4: false) == .waits)
    #expect(outcome(60, options, isIPv4: false) == .dropped(.tinyFragment))
    #expect(outcome(60, Array(options.prefix(8)), isIPv4: false) == .dropped(.tinyFragment))
    let link: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
    let chain = (0..<8).flatMap { _ in link }
    #expect(outcome(60, chain + pattern(8), isIPv4: false) == .dropped(.badExtensionHeader))
    let nested: [UInt8] = [44, 0, 1, 4, 0, 0, 0, 0]
    #expect(outcome(60, nested + pattern(8), isIPv4: false) == .dropped(.badFragment))
    #expect(outcome(44, pattern(16), isIPv4: false) == .dropped(.badFragment))
    #expect(outcome(0, pattern(16), isIPv4: false) == .dropped(.badExtensionHeader))
  }
}

@Suite("Fragments that cannot be part of a packet (RFC 791 §3.1, RFC 8200 §4.5)")
struct ImpossibleFragmentTests {
  @Test("a packet beyond 65 535 octets is refused, the header counted")
  func tooLong() {
    let four = Whole(payload: [])
    // 65 512 + 20 header octets leave three.
    #expect(Joiner().give(four.fragment(at: 65_512, pattern(3), more: false)) == .waits)
    #expect(
      Joiner().give(four.fragment(at: 65_512, pattern(4), more: false)) == .dropped(.badFragment))
    var optioned = four
    optioned.options = [1, 1, 1, 1]
    #expect(
      Joiner().give(optioned.fragment(at: 65_512, pattern(3), more: false))
        == .dropped(.badFragment))
    let six = Whole(isIPv4: false, payload: [])
    #expect(Joiner().give(six.fragment(at: 65_528, pattern(7), more: false)) == .waits)
    var extended = six
    extended.firstExtension = 60
    extended.options = [44, 0, 1, 4, 0, 0, 0, 0]
    #expect(
      Joiner().give(extended.fragment(at: 65_528, pattern(7), more: false))
        == .dropped(.badFragment))
  }

  @Test("one such fragment ends its datagram") func endsDatagram() {
    let whole = Whole(payload: pattern(64))
    let joiner = Joiner()
    joiner.give(whole.fragment(0..<32))
    #expect(
      joiner.give(whole.fragment(at: 65_512, pattern(8), more: false)) == .dropped(.badFragment))
    #expect(joiner.reassembler.octets == 0)
    #expect(joiner.give(whole.fragment(32..<64)) == .dropped(.badFragment))
  }

  @Test("an empty last fragment is refused", arguments: [true, false]) func empty(isIPv4: Bool) {
    let whole = Whole(isIPv4: isIPv4, payload: [])
    #expect(Joiner().give(whole.fragment(at: 64, [], more: false)) == .dropped(.badFragment))
  }
}
