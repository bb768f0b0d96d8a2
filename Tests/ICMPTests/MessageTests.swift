// ICMP messages in, and the rate of errors out.

import ICMP
import Primitives
import Testing
import Wire

@Suite("ICMP messages (RFC 792, RFC 4443)") struct MessageTests {
  private func parse(_ octets: [UInt8], known: Bool = false) throws -> ICMPMessage {
    try ICMPMessage(
      parsing: octets.span.bytes, header: try IPHeader(parsing: octets.span.bytes),
      checksumIsKnown: known)
  }

  private func reason(_ octets: [UInt8]) -> DropReason? {
    do { _ = try parse(octets) } catch { return error as? DropReason }
    return nil
  }

  /// An error that the client sends about a segment of ours.
  private func error(
    _ isIPv4: Bool, type: Int, code: Int = 0, rest: [UInt8] = [0, 0, 5, 120],
    quote: [UInt8]? = nil
  ) -> [UInt8] {
    let (client, virtual) = isIPv4 ? ("10.0.0.1", "10.0.0.2") : ("fd00::1", "fd00::2")
    let ours = packet(
      from: virtual, to: client, transport: 6, payload: Array(tcpSegment[..<8]))
    return icmp(from: client, to: virtual, type: type, code: code, rest: rest, body: quote ?? ours)
  }

  private func flow(_ isIPv4: Bool, payloadOctets: Int = 8) -> QuotedFlow {
    QuotedFlow(
      tuple: FiveTuple(
        client: address(isIPv4 ? "10.0.0.1" : "fd00::1"),
        virtual: address(isIPv4 ? "10.0.0.2" : "fd00::2"), clientPort: 80, virtualPort: 40000,
        transport: .tcp),
      sequence: SequenceNumber(0x0102_0304), packetOctets: (isIPv4 ? 20 : 40) + payloadOctets)
  }

  @Test func echo() throws {
    let rest: [UInt8] = [1, 2, 3, 4]
    let request = ICMPMessage.echoRequest(identifier: 0x102, sequence: 0x304)
    let reply = ICMPMessage.echoReply(identifier: 0x102, sequence: 0x304)
    #expect(try parse(icmp(from: "10.0.0.1", to: "10.0.0.2", type: 8, rest: rest)) == request)
    #expect(try parse(icmp(from: "10.0.0.1", to: "10.0.0.2", type: 0, rest: rest)) == reply)
    #expect(try parse(icmp(from: "fd00::1", to: "fd00::2", type: 128, rest: rest)) == request)
    #expect(try parse(icmp(from: "fd00::1", to: "fd00::2", type: 129, rest: rest)) == reply)
    #expect(
      try parse(icmp(from: "fd00::1", to: "fd00::2", type: 135, code: 1, rest: rest))
        == .other(type: 135, code: 1))
  }

  @Test("unreachable codes have one meaning in both families") func unreachable() throws {
    for (code, kind) in [
      (0, .network), (1, .host), (2, .transport), (3, .port), (9, .administrativelyProhibited),
      (10, .administrativelyProhibited), (11, .network), (12, .host),
      (13, .administrativelyProhibited),
    ] as [(Int, ICMPUnreachable)] {
      #expect(try parse(error(true, type: 3, code: code)) == .unreachable(kind, flow(true)))
    }
    for (code, kind) in [
      (0, .network), (1, .administrativelyProhibited), (2, .network), (3, .host), (4, .port),
      (5, .administrativelyProhibited), (6, .network),
    ] as [(Int, ICMPUnreachable)] {
      #expect(try parse(error(false, type: 1, code: code)) == .unreachable(kind, flow(false)))
    }
    #expect(reason(error(true, type: 3, code: 99)) == .icmpIgnored)
    #expect(reason(error(false, type: 1, code: 99)) == .icmpIgnored)
  }

  @Test func otherErrors() throws {
    #expect(try parse(error(true, type: 3, code: 4)) == .packetTooBig(mtu: 1400, flow(true)))
    #expect(try parse(error(false, type: 2)) == .packetTooBig(mtu: 1400, flow(false)))
    #expect(try parse(error(true, type: 11)) == .timeExceeded(flow(true)))
    #expect(try parse(error(false, type: 3)) == .timeExceeded(flow(false)))
    #expect(try parse(error(true, type: 12)) == .parameterProblem(flow(true)))
    #expect(try parse(error(false, type: 4)) == .parameterProblem(flow(false)))
  }

  @Test("our own errors, turned round, name the flow they are about", arguments: [true, false])
  func selfQuoted(isIPv4: Bool) throws {
    let (client, virtual) = isIPv4 ? ("10.0.0.1", "10.0.0.2") : ("fd00::1", "fd00::2")
    let ours = packet(from: virtual, to: client, transport: 6, payload: tcpSegment)
    let reply = try reply(to: ours) { packet, header, frames throws(DropReason) in
      try ICMPResponder.destinationUnreachable(
        .port, quoting: packet, header: header, into: &frames)
    }.get()
    #expect(
      try parse(reply.packet)
        == .unreachable(.port, flow(isIPv4, payloadOctets: tcpSegment.count)))
  }

  @Test("errors that cannot be read", arguments: [true, false]) func malformed(isIPv4: Bool) {
    let type = isIPv4 ? 3 : 1
    let good = error(isIPv4, type: type)
    var broken = good
    broken[good.count - 1] ^= 1
    #expect(reason(broken) == .icmpBadChecksum)
    let (from, to) = isIPv4 ? ("10.0.0.2", "10.0.0.1") : ("fd00::2", "fd00::1")
    let quote = packet(from: from, to: to, transport: 6, payload: Array(tcpSegment[..<8]))
    for count in 0..<quote.count {
      #expect(
        reason(error(isIPv4, type: type, quote: Array(quote[..<count]))) == .truncatedHeader)
    }
    var other = quote
    other[0] = 0x35
    #expect(reason(error(isIPv4, type: type, quote: other)) == .icmpIgnored)
    let gre = packet(from: from, to: to, transport: 47, payload: Array(tcpSegment[..<8]))
    #expect(reason(error(isIPv4, type: type, quote: gre)) == .icmpIgnored)
    #expect(
      reason(packet(from: from, to: to, transport: 6, payload: tcpSegment)) == .unsupportedProtocol)
    #expect(
      reason(packet(from: from, to: to, transport: isIPv4 ? 1 : 58, payload: [8, 0, 0, 0, 0]))
        == .truncatedHeader)
  }

  @Test("quotations of IPv4 only: options, later fragments") func quotedIPv4() throws {
    var quote = packet(
      from: "10.0.0.2", to: "10.0.0.1", transport: 17, payload: [1, 1, 1, 1] + tcpSegment)
    quote[0] = 0x46
    guard case .unreachable(_, let flow) = try parse(error(true, type: 3, quote: quote)) else {
      Issue.record("not read")
      return
    }
    #expect(flow.tuple.clientPort == 80 && flow.tuple.transport == .udp && flow.sequence == nil)
    #expect(reason(error(true, type: 3, quote: Array(quote[..<28]))) == .truncatedHeader)
    quote[7] = 1
    #expect(reason(error(true, type: 3, quote: quote)) == .icmpIgnored)
    quote[0] = 0x44
    #expect(reason(error(true, type: 3, quote: quote)) == .icmpIgnored)
  }

  @Test("20 000 mutations of errors and echoes are read or refused, seed 10") func mutations()
    throws
  {
    var state: UInt64 = 10
    func random() -> UInt64 {  // xorshift64
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
    let echo = icmp(from: "10.0.0.1", to: "10.0.0.2", type: 8, rest: [0, 0, 0, 0], body: [1, 2])
    let seeds = [error(true, type: 3), error(false, type: 1), error(false, type: 2), echo]
    var read = 0
    for _ in 0..<20_000 {
      var octets = seeds[Int(random() % 4)]
      // Past the IPv4 header, whose checksum would stop the packet at once.
      for _ in 0...random() % 3 {
        octets[20 + Int(random() % UInt64(octets.count - 20))] = UInt8(truncatingIfNeeded: random())
      }
      guard let header = try? IPHeader(parsing: octets.span.bytes) else { continue }
      if (try? parse(octets, known: true)) != nil { read += 1 }
      let quoted = QuotedPacket(packet: octets.span.bytes, header: header)
      var frames = FrameQueue()
      for write in [0, 1, 2] {
        do throws(DropReason) {
          switch write {
          case 0:
            try ICMPResponder.echoReply(
              to: octets.span.bytes, header: header, checksumIsKnown: true, into: &frames)
          case 1: try ICMPResponder.destinationUnreachable(.host, quoting: quoted, into: &frames)
          default:
            try ICMPResponder.packetTooBig(
              mtu: Int(truncatingIfNeeded: random()), quoting: octets.span.bytes, header: header,
              into: &frames)
          }
        } catch {}
      }
    }
    #expect(read > 2_000)
  }
}

@Suite("ICMP rate limit (RFC 4443 §2.4(f))") struct RateLimiterTests {
  private func at(_ milliseconds: Int) -> MonotonicInstant {
    MonotonicInstant(nanoseconds: 5_000_000_000) + .milliseconds(milliseconds)
  }

  @Test("a rested bucket holds a burst, then tokens come at the rate") func burst() {
    var limiter = TokenBucket(perSecond: 100, burst: 5)
    func taken(_ tries: Int, _ now: Int) -> Int {
      (0..<tries).filter { _ in limiter.take(at: at(now)) }.count
    }
    #expect(taken(10, 0) == 5)
    #expect(taken(10, 9) == 0)
    #expect(taken(10, 10) == 1)
    #expect(taken(10, 40) == 3)
    #expect(taken(10, 1000) == 5)
  }

  @Test("the default: 200 at once, 1000 a second") func defaults() {
    var limiter = TokenBucket(perSecond: 1000, burst: 200)
    var taken = 0
    for millisecond in 0..<1000 {
      for _ in 0..<10 where limiter.take(at: at(millisecond)) { taken += 1 }
    }
    #expect((1195...1200).contains(taken))
  }

  @Test("a clock at its start or its end does no harm") func edges() {
    var limiter = TokenBucket(perSecond: 1, burst: 1)
    let taken = [.zero, .zero, .distantFuture].map { limiter.take(at: $0) }
    #expect(taken == [true, false, true])
  }
}
