// Datagrams towards the client, whole and in fragments, joined again as the client's kernel would.
//
// Around every border (the MTU, each multiple of the fragment size) the number of packets, their
// sizes and offsets follow from RFC 791 §3.2 and RFC 8200 §4.5 alone.

import TestSupport
import Testing
import UDP
import Wire

@Suite("UDP datagrams and fragments (RFC 791 §3.2, RFC 8200 §4.5)") struct FragmentTests {
  static let mtus = [1280, 1281, 1285, 1287, 1288, 1500, 9000, 65_535]

  @Test(
    "up to the MTU a datagram is one packet that is no fragment", arguments: [true, false], mtus)
  func whole(isIPv4: Bool, mtu: Int) throws {
    var random = SeededGenerator(seed: UInt64(mtu))
    let most = mtu - headers(isIPv4: isIPv4).whole - 8
    for octets in [0, 1, 2, 7, most - 1, most] {
      let payload = Payload(random.octets(octets))
      let received = try delivered(payload, isIPv4: isIPv4, mtu: mtu)
      #expect(received.packets.count == 1)
      #expect(received.packets[0].isFragment == false)
      #expect(received.packets[0].dontFragment)
      #expect(received.payload == payload.octets)
      #expect(received.checksumSum == 0xffff)
      let udp = try UDPHeader(parsing: received.datagram.span.bytes)
      #expect(udp.sourcePort == 53 && udp.destinationPort == 40_000)
      #expect(udp.length == 8 + octets)
    }
  }

  @Test(
    "beyond the MTU packets are as full as multiples of eight allow", arguments: [true, false],
    mtus.dropLast())
  func borders(isIPv4: Bool, mtu: Int) throws {
    var random = SeededGenerator(seed: UInt64(mtu) + 1)
    let (whole, overhead) = headers(isIPv4: isIPv4)
    let share = (mtu - overhead) / 8 * 8
    // Of UDP header and payload: one octet past the MTU, then around one, two and more shares.
    var sizes = [mtu - whole + 1]
    for count in [1, 2, 3, 6] {
      sizes += [-9, -8, -7, -1, 0, 1, 7, 8, 9].map { share * count + $0 }
    }
    for size in sizes where size > mtu - whole && size + whole <= 65_535 {
      let payload = Payload(random.octets(size - 8))
      let received = try delivered(payload, isIPv4: isIPv4, mtu: mtu)
      #expect(received.packets.count == (size + share - 1) / share, "\(size)")
      for (index, ip) in received.packets.enumerated() {
        let isLast = index == received.packets.count - 1
        #expect(ip.fragmentOffset == index * share, "\(size)")
        #expect(ip.moreFragments == !isLast, "\(size)")
        #expect(ip.payloadOctets == (isLast ? size - index * share : share), "\(size)")
        #expect(received.packetOctets[index] <= mtu, "\(size)")
      }
      #expect(received.payload == payload.octets, "\(size)")
      #expect(received.checksumSum == 0xffff, "\(size)")
    }
  }

  @Test("every fragment names the same hosts and identification", arguments: [true, false])
  func identity(isIPv4: Bool) throws {
    let payload = Payload(Array(repeating: 7, count: 5000))
    let received = try delivered(
      payload, isIPv4: isIPv4, mtu: 1500, identification: 0xFEED_BEEF)
    let tuple = try tuple(isIPv4: isIPv4)
    #expect(received.packets.count == 4)
    for ip in received.packets {
      #expect(ip.source == tuple.virtual && ip.destination == tuple.client)
      #expect(ip.identification == (isIPv4 ? 0xBEEF : 0xFEED_BEEF))
      #expect(ip.dontFragment == !isIPv4)
      #expect(ip.hopLimit == PacketWriter.hopLimit)
    }
  }

  @Test(
    "a checksum that comes out as zero is sent as 0xffff (RFC 768), in fragments too",
    arguments: [true, false])
  func zeroChecksum(isIPv4: Bool) throws {
    for octets in [1000, 5000] {
      var plain = [UInt8](repeating: 0x5a, count: octets)
      plain.replaceSubrange(0..<2, with: [0, 0])
      // Two octets that bring the sum over everything but the checksum field to 0xffff.
      var trial = try delivered(Payload(plain), isIPv4: isIPv4, mtu: 1500)
      trial.datagram.replaceSubrange(6..<8, with: [0, 0])
      plain.replaceSubrange(0..<2, with: big16(Int(~trial.checksumSum)))
      let received = try delivered(Payload(plain), isIPv4: isIPv4, mtu: 1500)
      #expect(received.datagram[6..<8].elementsEqual([0xff, 0xff]))
      #expect(received.payload == plain)
      #expect(received.checksumSum == 0xffff)
    }
  }

  @Test(
    "a datagram in fragments has its checksum computed although the device could",
    arguments: [true, false])
  func offloadedDoesNotReachFragments(isIPv4: Bool) throws {
    let payload = Payload(Array(repeating: 0x11, count: 4001))
    let received = try delivered(payload, isIPv4: isIPv4, mtu: 1400, checksum: .offloaded)
    #expect(received.packets.count == 3)
    #expect(received.checksumSum == 0xffff)
  }

  @Test("payload and MTU at random arrive octet by octet", arguments: UInt64(0)..<8)
  func anything(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20 {
      let isIPv4 = Bool.random(using: &random)
      let mtu = random.number(in: 1280...9000)
      let payload = Payload(random.octets(random.number(in: 0...20_000)))
      let received = try delivered(payload, isIPv4: isIPv4, mtu: mtu)
      #expect(received.payload == payload.octets, "\(mtu) \(payload.octets.count)")
      #expect(received.checksumSum == 0xffff)
      #expect(received.packetOctets.allSatisfy { $0 <= mtu })
    }
  }
}

@Suite("UDP datagrams: bounds") struct DatagramBoundTests {
  @Test("the largest IPv6 datagram passes in fragments (RFC 8200 §4.5)", arguments: [1280, 1500])
  func largestIPv6(mtu: Int) throws {
    var random = SeededGenerator(seed: 65_527)
    let payload = Payload(random.octets(65_527))
    let received = try delivered(payload, isIPv4: false, mtu: mtu)
    #expect(received.payload == payload.octets)
    #expect(received.checksumSum == 0xffff)
  }

  @Test("the largest IPv4 datagram passes, whole and in fragments") func largestIPv4() throws {
    var random = SeededGenerator(seed: 65_507)
    let payload = Payload(random.octets(65_507))
    for mtu in [1280, 1500, 65_535] {
      let received = try delivered(payload, isIPv4: true, mtu: mtu)
      #expect(received.payload == payload.octets)
      #expect(received.checksumSum == 0xffff)
    }
  }

  @Test(
    "a datagram beyond what its family carries is refused and leaves no frame",
    arguments: [true, false])
  func tooLarge(isIPv4: Bool) throws {
    let payload = Payload([UInt8](repeating: 1, count: isIPv4 ? 65_508 : 65_528))
    let tuple = try tuple(isIPv4: isIPv4)
    for mtu in [1280, 65_535] {
      var frames = FrameQueue()
      #expect(throws: DropReason.datagramTooLarge) {
        try DatagramWriter.write(
          payload.slice, tuple: tuple, mtu: mtu, identification: 1, checksum: .computed,
          into: &frames)
      }
      let isEmpty = frames.isEmpty
      #expect(isEmpty)
    }
  }

  @Test(
    "a full queue takes all fragments of a datagram or none, and does so once drained",
    arguments: [true, false])
  func fullQueue(isIPv4: Bool) throws {
    var random = SeededGenerator(seed: 256)
    let tuple = try tuple(isIPv4: isIPv4)
    let payload = Payload(random.octets(8000))  // six packets of 1500 octets
    var frames = FrameQueue()
    var written = 0
    var refusal: DropReason?
    while refusal == nil {
      do throws(DropReason) {
        try DatagramWriter.write(
          payload.slice, tuple: tuple, mtu: 1500, identification: UInt32(written),
          checksum: .computed, into: &frames)
        written += 1
      } catch { refusal = error }
    }
    #expect(refusal == .frameQueueFull)
    let count = frames.count
    #expect(count == written * 6 && count + 6 > FrameQueue.framesMax)
    let last = try Received(frames, from: count - 6)
    #expect(last.payload == payload.octets)
    #expect(last.packets.allSatisfy { $0.identification == UInt32(written - 1) })

    frames.removeAll()
    try DatagramWriter.write(
      payload.slice, tuple: tuple, mtu: 1500, identification: 9, checksum: .computed,
      into: &frames)
    #expect(try Received(frames).payload == payload.octets)
  }

  @Test("an empty queue has room for every datagram at the least MTU", arguments: [true, false])
  func emptyQueueTakesAll(isIPv4: Bool) throws {
    let most = 65_535 - headers(isIPv4: isIPv4).whole - 8
    let payload = Payload([UInt8](repeating: 3, count: most))
    #expect(try delivered(payload, isIPv4: isIPv4, mtu: 1280).payload == payload.octets)
  }

  @Test("a whole datagram in a full queue is refused, one before it is not harmed")
  func fullOfWhole()
    throws
  {
    let tuple = try tuple(isIPv4: true)
    let payload = Payload([1, 2, 3])
    var frames = FrameQueue()
    for number in 0..<FrameQueue.framesMax {
      try DatagramWriter.write(
        payload.slice, tuple: tuple, mtu: 1500, identification: UInt32(number),
        checksum: .computed, into: &frames)
    }
    #expect(throws: DropReason.frameQueueFull) {
      try DatagramWriter.write(
        payload.slice, tuple: tuple, mtu: 1500, identification: 0, checksum: .computed,
        into: &frames)
    }
    let count = frames.count
    #expect(count == FrameQueue.framesMax)
    #expect(try Received(frames, from: count - 1).payload == payload.octets)
  }

  @Test(
    "an offloaded checksum is the pseudo-header's sum and says where it belongs",
    arguments: [true, false])
  func offloaded(isIPv4: Bool) throws {
    let tuple = try tuple(isIPv4: isIPv4)
    let payload = Payload([1, 2, 3, 4, 5])
    var frames = FrameQueue()
    try DatagramWriter.write(
      payload.slice, tuple: tuple, mtu: 1500, identification: 0, checksum: .offloaded,
      into: &frames)
    let frame = frameOctets(frames)
    let virtio = try VirtioNetHeader(parsing: frame.span.bytes)
    let start = headers(isIPv4: isIPv4).whole
    #expect(virtio.flags == .needsChecksum)
    #expect(Int(virtio.checksumStart) == start && virtio.checksumOffset == 6)
    let field = VirtioNetHeader.octets + start + 6
    let pseudo = tuple.virtual.octets + tuple.client.octets + big32(13) + big32(17)
    #expect(Array(frame[field..<field + 2]) == big16(Int(onesComplementSum(pseudo))))
  }
}
