// Echo replies and errors out.

import ICMP
import TestSupport
import Testing
import Wire

private let pairs = [("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8:1::2")]

@Suite("Echo (RFC 792, RFC 1122 §3.2.2.6, RFC 4443 §4)") struct EchoTests {
  private func answer(_ octets: [UInt8], known: Bool = false) throws -> Result<Reply, DropReason> {
    try reply(to: octets) { packet, header, frames throws(DropReason) in
      try ICMPResponder.echoReply(
        to: packet, header: header, checksumIsKnown: known, into: &frames)
    }
  }

  private func reason(_ octets: [UInt8]) throws -> DropReason? {
    if case .failure(let reason) = try answer(octets) { return reason }
    return nil
  }

  @Test("the reply has the request's data, from the address that was asked", arguments: pairs)
  func echoes(client: String, virtual: String) throws {
    let isIPv4 = address(client).isIPv4
    for count in [0, 1, 56, 1472, 65_000] {
      let body = (0..<count).map { UInt8($0 % 251) }
      let request = icmp(
        from: client, to: virtual, type: isIPv4 ? 8 : 128, rest: [1, 2, 3, 4], body: body)
      let reply = try answer(request).get()
      #expect(reply.ip.source == address(virtual) && reply.ip.destination == address(client))
      #expect(reply.message[0] == (isIPv4 ? 0 : 129) && reply.message[1] == 0)
      #expect(Array(reply.message[4..<8]) == [1, 2, 3, 4] && reply.body == body)
      #expect(reply.ip.identification == (isIPv4 ? 0x7788 : 0) && reply.ip.hopLimit == 64)
    }
  }

  @Test("link padding is not echoed") func padding() throws {
    let request = icmp(from: "10.0.0.1", to: "10.0.0.2", type: 8, rest: [0, 0, 0, 0], body: [7])
    #expect(try answer(request + [9, 9]).get().body == [7])
  }

  @Test("a wrong checksum gets no reply, unless the device vouches", arguments: pairs)
  func checksum(client: String, virtual: String) throws {
    let type = address(client).isIPv4 ? 8 : 128
    var request = icmp(from: client, to: virtual, type: type, rest: [0, 0, 0, 0], body: [7])
    request[request.count - 1] ^= 1
    #expect(try reason(request) == .icmpBadChecksum)
    #expect(try answer(request, known: true).get().body == [6])
  }

  @Test("what is no echo request to a single host is ignored") func ignored() throws {
    func echo(_ source: String, _ destination: String, _ type: Int) throws -> DropReason? {
      try reason(icmp(from: source, to: destination, type: type, rest: [0, 0, 0, 0]))
    }
    #expect(try echo("10.0.0.1", "10.0.0.2", 0) == .icmpIgnored)
    #expect(try echo("10.0.0.1", "10.0.0.2", 4) == .icmpIgnored)  // source quench (MUST-55)
    #expect(try echo("10.0.0.1", "10.0.0.2", 13) == .icmpIgnored)
    #expect(try echo("fd00::1", "fd00::2", 8) == .icmpIgnored)
    #expect(try echo("10.0.0.1", "224.0.0.1", 8) == .icmpIgnored)
    #expect(try echo("255.255.255.255", "10.0.0.1", 8) == .icmpIgnored)
    #expect(try echo("fd00::1", "ff02::1", 128) == .icmpIgnored)
    #expect(
      try reason(packet(from: "10.0.0.1", to: "10.0.0.2", transport: 6, payload: tcpSegment))
        == .icmpIgnored)
    #expect(
      try reason(packet(from: "10.0.0.1", to: "10.0.0.2", transport: 1, payload: [8, 0, 0]))
        == .truncatedHeader)
    #expect(
      try reason(
        packet(
          from: "10.0.0.1", to: "10.0.0.2", transport: 1, fragmentation: 0x2000,
          payload: [8, 0, 0, 0, 0, 0, 0, 0])) == .fragment)
  }

  @Test("a full queue drops the reply and keeps what is queued") func fullQueue() throws {
    let body = [UInt8](repeating: 1, count: 60_000)
    let request = icmp(from: "10.0.0.1", to: "10.0.0.2", type: 8, rest: [0, 0, 0, 0], body: body)
    let header = try IPHeader(parsing: request.span.bytes)
    var frames = FrameQueue()
    var reasons: [DropReason] = []
    for _ in 0..<3 {
      do throws(DropReason) {
        try ICMPResponder.echoReply(to: request.span.bytes, header: header, into: &frames)
      } catch { reasons.append(error) }
    }
    let count = frames.count
    #expect(count == 2 && reasons == [.frameQueueFull])
  }
}

@Suite("Errors (RFC 792, RFC 1812 §4.3.2, RFC 4443 §2.4, §3)") struct ErrorTests {
  private func unreachable(_ kind: ICMPUnreachable, _ octets: [UInt8]) throws
    -> Result<Reply, DropReason>
  {
    try reply(to: octets) { packet, header, frames throws(DropReason) in
      try ICMPResponder.destinationUnreachable(kind, quoting: packet, header: header, into: &frames)
    }
  }

  @Test(
    "type and code",
    arguments: [
      (.network, 3, 0, 1, 0), (.host, 3, 1, 1, 3), (.transport, 3, 2, 4, 1), (.port, 3, 3, 1, 4),
      (.administrativelyProhibited, 3, 13, 1, 1),
    ] as [(ICMPUnreachable, UInt8, UInt8, UInt8, UInt8)])
  func numbers(kind: ICMPUnreachable, type4: UInt8, code4: UInt8, type6: UInt8, code6: UInt8) throws
  {
    let offending4 = packet(from: "10.0.0.1", to: "10.0.0.2", transport: 6, payload: tcpSegment)
    let reply4 = try unreachable(kind, offending4).get()
    #expect(reply4.message[0] == type4 && reply4.message[1] == code4)
    #expect(Array(reply4.message[4..<8]) == [0, 0, 0, 0])
    #expect(reply4.body == offending4)
    #expect(reply4.ip.source == address("10.0.0.2") && reply4.ip.destination == address("10.0.0.1"))

    let offending6 = packet(from: "fd00::1", to: "fd00::2", transport: 6, payload: tcpSegment)
    let reply6 = try unreachable(kind, offending6).get()
    #expect(reply6.message[0] == type6 && reply6.message[1] == code6)
    // Only "unrecognised next header" points somewhere: at the field.
    #expect(Array(reply6.message[4..<8]) == [0, 0, 0, kind == .transport ? 6 : 0])
    #expect(reply6.body == offending6)
    #expect(reply6.ip.source == address("fd00::2") && reply6.ip.destination == address("fd00::1"))
  }

  @Test("a long packet is quoted up to 576 and 1280 octets", arguments: pairs)
  func bounds(client: String, virtual: String) throws {
    let payload = [UInt8](repeating: 3, count: 4000)
    let offending = packet(from: client, to: virtual, transport: 17, payload: payload)
    let reply = try unreachable(.port, offending + [1, 2]).get()
    #expect(reply.packet.count == (reply.ip.isIPv4 ? 576 : 1280))
    #expect(reply.body == Array(offending[..<reply.body.count]))
  }

  @Test("packet too big", arguments: pairs) func tooBig(client: String, virtual: String) throws {
    let offending = packet(from: client, to: virtual, transport: 6, payload: tcpSegment)
    let reply = try reply(to: offending) { packet, header, frames throws(DropReason) in
      try ICMPResponder.packetTooBig(mtu: 1400, quoting: packet, header: header, into: &frames)
    }.get()
    #expect(Array(reply.message[..<2]) == (reply.ip.isIPv4 ? [3, 4] : [2, 0]))
    #expect(Array(reply.message[4..<8]) == [0, 0, 5, 0x78] && reply.body == offending)
  }

  @Test("no error about errors, later fragments, or groups of hosts") func silence() throws {
    func isSilent(_ octets: [UInt8]) throws -> Bool {
      let quoted = QuotedPacket(
        packet: octets.span.bytes, header: try IPHeader(parsing: octets.span.bytes))
      var frames = FrameQueue()
      let late: DropReason?
      do throws(DropReason) {
        try ICMPResponder.destinationUnreachable(.host, quoting: quoted, into: &frames)
        late = nil
      } catch { late = error }
      guard case .failure(let reason) = try unreachable(.port, octets) else {
        #expect(late == nil)
        return false
      }
      #expect(late == reason)
      return reason == .icmpIgnored
    }
    let zero: [UInt8] = [0, 0, 0, 0]
    for type in 0...255 {
      let error4 = [3, 4, 5, 11, 12].contains(type)
      #expect(
        try isSilent(icmp(from: "10.0.0.1", to: "10.0.0.2", type: type, rest: zero)) == error4)
      let error6 = type < 128 || type == 137
      #expect(try isSilent(icmp(from: "fd00::1", to: "fd00::2", type: type, rest: zero)) == error6)
    }
    #expect(try isSilent(packet(from: "10.0.0.1", to: "10.0.0.2", transport: 1, payload: [])))
    for (source, destination) in [
      ("224.0.0.1", "10.0.0.2"), ("255.255.255.255", "10.0.0.2"), ("0.0.0.0", "10.0.0.2"),
      ("127.0.0.1", "10.0.0.2"), ("10.0.0.1", "224.0.0.1"), ("10.0.0.1", "255.255.255.255"),
      ("ff02::1", "fd00::2"), ("::", "fd00::2"), ("fd00::1", "ff02::1"), ("0.0.0.7", "10.0.0.2"),
    ] {
      #expect(
        try isSilent(packet(from: source, to: destination, transport: 17, payload: tcpSegment)))
    }
    func fragment(_ field: Int) -> [UInt8] {
      packet(
        from: "10.0.0.1", to: "10.0.0.2", transport: 17, fragmentation: field,
        payload: [UInt8](repeating: 0, count: 16))
    }
    #expect(try isSilent(fragment(0x0001)) && isSilent(fragment(0x2001)))
    #expect(try !isSilent(fragment(0x2000)))
  }

  @Test("an error that comes later quotes header and eight octets", arguments: pairs)
  func later(client: String, virtual: String) throws {
    let offending = packet(from: client, to: virtual, transport: 6, payload: tcpSegment)
    let header = try IPHeader(parsing: offending.span.bytes)
    let quoted = QuotedPacket(packet: offending.span.bytes, header: header)
    #expect(MemoryLayout<QuotedPacket>.size <= 72)
    for kind in ICMPUnreachable.allCases where kind != .transport {
      var frames = FrameQueue()
      try ICMPResponder.destinationUnreachable(kind, quoting: quoted, into: &frames)
      let late = try #require(try Reply(frames))
      let early = try unreachable(kind, offending).get()
      #expect(late.body == Array(offending[..<(header.headerOctets + 8)]))
      #expect(late.message[..<2] == early.message[..<2])
      #expect(late.ip.source == address(virtual) && late.ip.destination == address(client))
    }
  }

  @Test("packets shorter than a quotation, and headers longer than one") func quotationEdges()
    throws
  {
    let short = packet(from: "10.0.0.1", to: "10.0.0.2", transport: 17, payload: [1, 2])
    let options = [UInt8](repeating: 1, count: 40)
    var long = [0x4f, 0] + big16(76) + [0, 0, 0, 0, 64, 17, 0, 0] + short[12..<20] + options
    long.replaceSubrange(10..<12, with: big16(Int(~onesComplementSum(long))))
    long += [UInt8](repeating: 2, count: 16)
    let extended = packet(
      from: "fd00::1", to: "fd00::2", transport: 60,
      payload: [17, 3, 1, 28] + [UInt8](repeating: 0, count: 28) + tcpSegment)
    for (offending, count) in [(short, 22), (long, 68), (extended, 68)] {
      let quoted = QuotedPacket(
        packet: offending.span.bytes, header: try IPHeader(parsing: offending.span.bytes))
      var frames = FrameQueue()
      try ICMPResponder.destinationUnreachable(.port, quoting: quoted, into: &frames)
      #expect(try #require(try Reply(frames)).body == Array(offending[..<count]))
    }
  }
}
