import Fragments
import Primitives
import Wire

// The reassembler, with narrow limits, driven by an input that says which fragment of which datagram
// comes next, when time passes and when the turn ends.
//
// An octet of a datagram is a function of its place, so that a whole packet can be checked without a
// model, as long as no fragment came with other octets. At the end time runs out for everybody, and
// nothing may be kept.

@Sendable func fragmentsEntry(_ bytes: UnsafeRawBufferPointer) {
  var input = Input(bytes)
  var limits = ReassemblyLimits()
  limits.datagrams = 6
  limits.datagramsPerSource = 4
  limits.octets = 80_000
  limits.octetsPerSource = 66_000
  limits.fragmentsPerDatagram = 8
  limits.completedPerTurn = 3
  var program = FragmentProgram(reassembler: Reassembler(limits: limits))
  while !input.isEmpty { program.step(&input) }
  program.finish()
}

private struct FragmentProgram: ~Copyable {
  var reassembler: Reassembler
  var drops = DropCounters()
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  /// No fragment came with other octets than its place gives it.
  var isExact = true

  init(reassembler: consuming Reassembler) { self.reassembler = reassembler }

  mutating func step(_ input: inout Input) {
    let choice = input.octet()
    switch choice >> 5 {
    case 0:
      now = now + .milliseconds(Int(input.octet()) * 100)
      expire()
    case 1: reassembler.endTurn()
    case 2:
      isExact = false
      receive(Array(input.octets(Int(input.octet()))))
    default:
      let place = Int(input.number())
      let octets = Int(input.octet()) * (choice & 1 != 0 ? 1 : 64)
      receive(fragment(choice, name: input.octet(), offset: place & 0x1FFF, octets: octets))
    }
    require(reassembler.octets <= reassembler.limits.octets, "no more octets than the limit")
    require(reassembler.datagrams <= reassembler.limits.datagrams, "nor datagrams")
  }

  private static func octet(_ place: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: place &* 31 &+ place >> 8) | 0x50
  }

  private mutating func fragment(
    _ choice: UInt8, name: UInt8, offset: Int, octets: Int
  ) -> [UInt8] {
    let isIPv4 = choice & 2 != 0
    let more = choice & 4 != 0
    let isOther = choice & 0x38 == 0x38
    if isOther { isExact = false }
    let start = min(offset * 8, 65_528)
    var octets = min(octets, 65_535 - start)
    if more { octets &= ~7 }
    let source =
      isIPv4
      ? IPAddress(v4: 0xC000_0200 + UInt32(name & 7))
      : IPAddress(high: 0x2001_0DB8 << 32, low: UInt64(name & 7))
    let destination =
      isIPv4 ? IPAddress(v4: 0x0A4D_000A) : IPAddress(high: 0xFD77 << 48, low: 16)
    let payload = (start..<start + octets).map { Self.octet($0) ^ (isOther ? 0xFF : 0) }
    let frame = FuzzPackets.frame(payload) { memory, _ in
      PacketWriter.fragment(
        to: memory, source: source, destination: destination, transport: IPProtocol.udp,
        payloadOctets: octets, fragmentOffset: start, moreFragments: more,
        identification: UInt32(name >> 3 & 7))
    }
    var packet = Array(frame[VirtioNetHeader.octets...])
    if !isIPv4 { packet[1] = (name >> 6) << 4 }  // the ECN codepoint; IPv4's is under the checksum
    return packet
  }

  private mutating func receive(_ packet: [UInt8]) {
    packet.withUnsafeBytes { bytes in
      guard let header = try? IPHeader(parsing: bytes.bytes), header.isFragment else { return }
      do throws(DropReason) {
        if let whole = try reassembler.receive(
          bytes.bytes, header: header, at: now, drops: &drops)
        {
          check(whole)
        }
      } catch { drops.count(error) }
    }
  }

  private func check(_ frame: UnsafeRawBufferPointer) {
    let bytes = UnsafeRawBufferPointer(rebasing: frame[VirtioNetHeader.octets...])
    guard let ip = try? IPHeader(parsing: bytes.bytes) else {
      fatalError("broken: a whole packet does not parse")
    }
    require(!ip.isFragment && ip.totalOctets == bytes.count, "a whole packet is whole")
    guard isExact else { return }
    for (place, octet) in bytes[ip.headerOctets...].enumerated() {
      require(octet == Self.octet(place), "the octets as they were")
    }
  }

  private mutating func expire() {
    while let expired = reassembler.popExpired(at: now, drops: &drops) {
      guard let first = expired.firstFragment else { continue }
      let header = try? IPHeader(parsing: first.bytes)
      require(header?.fragmentOffset == 0 && header?.isFragment == true, "a first fragment")
    }
    if let deadline = reassembler.nextDeadline() {
      require(deadline > now, "what is due is gone")
    }
  }

  mutating func finish() {
    reassembler.endTurn()
    now = now + .seconds(61)
    expire()
    require(reassembler.datagrams == 0 && reassembler.octets == 0, "nothing is left")
    require(reassembler.nextDeadline() == nil, "no deadline is left")
  }
}
