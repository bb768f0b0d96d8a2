import Fragments
import Primitives
import Testing
import Wire

// How long a datagram waits, and what is said when it waited in vain.

@Suite("Reassembly time: 30 s in IPv4 (RFC 1122 §3.3.2), 60 s in IPv6 (RFC 8200 §4.5)")
struct ReassemblyTimeTests {
  @Test(
    "time begins with the first arrival; no later fragment adds to it", arguments: [true, false])
  func deadline(isIPv4: Bool) {
    let whole = Whole(isIPv4: isIPv4, payload: pattern(96))
    let joiner = Joiner()
    #expect(joiner.reassembler.nextDeadline() == nil)
    joiner.give(whole.fragment(32..<64))
    let deadline = joiner.now + .seconds(isIPv4 ? 30 : 60)
    #expect(joiner.reassembler.nextDeadline() == deadline)
    joiner.now = joiner.now + .seconds(29)
    joiner.give(whole.fragment(64..<96))
    #expect(joiner.reassembler.nextDeadline() == deadline)
    let left = deadline - joiner.now
    #expect(joiner.expire(after: left + Interval(nanoseconds: -1)).isEmpty)
    #expect(joiner.reassembler.datagrams == 1)
    #expect(joiner.expire(after: Interval(nanoseconds: 1)) == [nil])
    #expect(joiner.isEmpty)
    #expect(joiner.drops[.fragmentTimeout] == 1 && joiner.drops.total == 1)
  }

  @Test("the first fragment is given for a quotation, as it came", arguments: [true, false])
  func quotation(isIPv4: Bool) {
    var whole = Whole(isIPv4: isIPv4, payload: pattern(3000))
    whole.options = isIPv4 ? [1, 1, 1, 1] : [44, 0, 1, 4, 0, 0, 0, 0]
    if !isIPv4 { whole.firstExtension = 60 }
    let joiner = Joiner()
    joiner.give(whole.fragment(2000..<3000))
    joiner.give(whole.fragment(0..<1000))
    #expect(joiner.expire(after: .seconds(60)) == [whole.fragment(0..<1000)])
  }

  @Test("a first fragment behind longer headers than are kept is not quoted")
  func longHeaders() {
    var whole = Whole(isIPv4: false, payload: pattern(300))
    whole.firstExtension = 60
    whole.options = [44, 10, 1, 84] + [UInt8](repeating: 0, count: 84)
    let joiner = Joiner()
    joiner.give(whole.fragment(0..<104))
    #expect(joiner.expire(after: .seconds(60)) == [nil])
  }

  @Test("both families' deadlines are kept, the next one told") func families() {
    let joiner = Joiner()
    joiner.give(Whole(isIPv4: false, payload: pattern(64)).fragment(0..<32))
    let six = joiner.now + .seconds(60)
    #expect(joiner.reassembler.nextDeadline() == six)
    joiner.now = joiner.now + .seconds(1)
    for client in 1...3 {
      joiner.give(Whole(client: client, payload: pattern(64)).fragment(0..<32))
      joiner.now = joiner.now + .seconds(1)
    }
    #expect(joiner.reassembler.nextDeadline() == joiner.now + .seconds(27))
    #expect(joiner.expire(after: .seconds(28)).count == 2)
    #expect(joiner.expire(after: .seconds(1)).count == 1)
    #expect(joiner.reassembler.nextDeadline() == six)
    #expect(joiner.expire(after: .seconds(30)).count == 1)
    #expect(joiner.isEmpty)
  }

  @Test("what is completed or forgotten leaves no deadline") func noDeadline() {
    let whole = Whole(payload: pattern(64))
    let joiner = Joiner()
    joiner.give(whole.fragment(0..<32))
    joiner.give(whole.fragment(32..<64))
    #expect(joiner.reassembler.nextDeadline() == nil)
    joiner.give(whole.fragment(0..<32))
    joiner.reassembler.removeAll()
    #expect(joiner.isEmpty)
  }
}
