import Primitives
import TCP
import Testing
import Wire

// What a cookie remembers, and what it does not take for one (RFC 4987 §3.6). How the stack uses them
// is tested in StackTests.

@Suite("SYN cookies (RFC 4987)")
struct SYNCookieTests {
  private let tuple: FiveTuple
  private let cookies = SYNCookies(secret: (7, 8))
  private let now = MonotonicInstant(nanoseconds: 5_000_000_000_000)
  private let settings = TCPSettings(segmentOctets: 1460)
  private let path: TCPPath

  init() throws {
    tuple = FiveTuple(
      client: try #require(IPAddress("192.0.2.7")), virtual: try #require(IPAddress("10.77.0.10")),
      clientPort: 40_000, virtualPort: 80, transport: .tcp)
    path = TCPPath(tuple: tuple, checksum: .computed, burstOctets: 0)
  }

  private func syn(
    mss: UInt16? = 1460, scale: UInt8? = nil, sack: Bool = false, timestamp: UInt32? = nil
  ) -> TCPHeader {
    var options = TCPOptions()
    options.maximumSegmentSize = mss
    options.windowScale = scale
    options.sackPermitted = sack
    options.timestamp = timestamp.map { TCPTimestamp(value: $0, echo: 0) }
    return TCPHeader(
      sourcePort: 40_000, destinationPort: 80, sequence: SequenceNumber(0xFFFF_FFFF),
      acknowledgment: SequenceNumber(0), flags: .syn, window: 64_000, options: options)
  }

  /// The SYN-ACK that a SYN is answered with.
  private func answer(to syn: TCPHeader, at now: MonotonicInstant? = nil) throws -> TCPHeader {
    var frames = FrameQueue()
    let isSent = TCPEndpoint.answer(
      syn, with: cookies, path: path, timestampOffset: 77, settings: settings,
      at: now ?? self.now, frames: &frames)
    #expect(isSent && frames.count == 1)
    var octets: [UInt8] = []
    for slice in frames.slices(of: 0) {
      octets += UnsafeRawBufferPointer(start: slice.base, count: slice.octets)
    }
    octets.removeFirst(VirtioNetHeader.octets)
    guard case .tcp(let header) = try ParsedPacket(parsing: octets.span.bytes).transport else {
      throw DropReason.unsupportedProtocol
    }
    return header
  }

  /// The client's ACK of a SYN-ACK.
  private func acknowledgment(of answer: TCPHeader, clock: UInt32 = 900) -> TCPHeader {
    var options = TCPOptions()
    options.timestamp = answer.options.timestamp.map { TCPTimestamp(value: clock, echo: $0.value) }
    return TCPHeader(
      sourcePort: 40_000, destinationPort: 80, sequence: SequenceNumber(0),
      acknowledgment: answer.sequence + 1, flags: .ack, window: 500, options: options)
  }

  private func endpoint(
    _ header: TCPHeader, at now: MonotonicInstant? = nil, tuple: FiveTuple? = nil
  ) -> TCPEndpoint? {
    TCPEndpoint(
      acknowledging: header, of: cookies, tuple: tuple ?? self.tuple, timestampOffset: 77,
      settings: settings, at: now ?? self.now)
  }

  @Test("SipHash-2-4 gives its authors' test vector")
  func sipHash() {
    var hash = SipHash(0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908)
    hash.add(0x0706_0504_0302_0100)
    #expect(hash.finish(words: 1) == 0x93F5_F579_9A93_2462)
  }

  @Test(
    "the answer offers what the SYN did, and a window that can be kept before the target is there")
  func answers() throws {
    let header = try answer(to: syn(scale: 7, sack: true, timestamp: 5))
    #expect(header.flags == [.syn, .ack])
    #expect(header.acknowledgment == SequenceNumber(0))
    #expect(header.window == 32_768)
    #expect(header.options.maximumSegmentSize == 1460)
    #expect(header.options.sackPermitted)
    #expect(header.options.windowScale != nil)
    #expect(header.options.timestamp?.echo == 5)
  }

  @Test(
    "the segment size comes back, rounded down to one of eight",
    arguments: [
      (nil, 536), (40, 88), (100, 88), (536, 536), (1300, 1220), (1459, 1440), (1460, 1460),
    ] as [(UInt16?, UInt16)])
  func segmentSize(offered: UInt16?, used: UInt16) throws {
    let header = try answer(to: syn(mss: offered))
    let acknowledgment = acknowledgment(of: header)
    #expect(endpoint(acknowledgment)?.state == .established)
    let rebuilt = cookies.syn(acknowledgedBy: acknowledgment, tuple: tuple, at: now)
    #expect(rebuilt?.options.maximumSegmentSize == used)
  }

  @Test("without timestamps there is no room to remember scaling and SACK: neither is offered")
  func withoutTimestamps() throws {
    let header = try answer(to: syn(scale: 7, sack: true))
    #expect(header.options.windowScale == nil)
    #expect(!header.options.sackPermitted)
    #expect(header.options.timestamp == nil)
  }

  @Test(
    "scaling and SACK come back by the timestamp's echo", arguments: [0, 3, 14, nil], [true, false])
  func options(scale: UInt8?, sack: Bool) throws {
    let header = try answer(to: syn(scale: scale, sack: sack, timestamp: 5))
    let rebuilt = try #require(
      cookies.syn(acknowledgedBy: acknowledgment(of: header), tuple: tuple, at: now))
    #expect(rebuilt.options.windowScale == scale)
    #expect(rebuilt.options.sackPermitted == sack)
    #expect(rebuilt.sequence == SequenceNumber(0xFFFF_FFFF))
  }

  @Test(
    "our clock never seems to run backwards: the answer's timestamp is the present one or just before"
  )
  func timestamps() throws {
    for milliseconds in 0..<100 {
      let instant = now + .milliseconds(milliseconds)
      let header = try answer(to: syn(scale: 9, sack: true, timestamp: 5), at: instant)
      let clock = UInt32(truncatingIfNeeded: instant.nanoseconds / 1_000_000) &+ 77
      let behind = clock &- (header.options.timestamp?.value ?? 0)
      #expect(behind < 64)
    }
  }

  @Test("ECN is not remembered, and so not agreed to (RFC 3168 §6.1.1)")
  func notification() throws {
    var syn = syn(scale: 7, sack: true, timestamp: 5)
    syn.flags = [.syn, .ece, .cwr]
    #expect(try answer(to: syn).flags == [.syn, .ack])
  }

  @Test("a cookie is good for 64 s, and for 128 s at most")
  func age() throws {
    let acknowledgment = acknowledgment(of: try answer(to: syn()))
    #expect(endpoint(acknowledgment, at: now + .seconds(64)) != nil)
    #expect(endpoint(acknowledgment, at: now + .seconds(128)) == nil)
    #expect(endpoint(acknowledgment, at: now + .seconds(64 * 32)) == nil)
  }

  @Test("it is nobody else's: another port, address, sequence number or secret does not fit")
  func binding() throws {
    let acknowledgment = acknowledgment(of: try answer(to: syn()))
    #expect(endpoint(acknowledgment) != nil)
    var other = tuple
    other.clientPort += 1
    #expect(endpoint(acknowledgment, tuple: other) == nil)
    other = tuple
    other.client = try #require(IPAddress("192.0.2.8"))
    #expect(endpoint(acknowledgment, tuple: other) == nil)
    var moved = acknowledgment
    moved.sequence = moved.sequence + 1
    #expect(endpoint(moved) == nil)
    let foreign = SYNCookies(secret: (7, 9))
    #expect(foreign.syn(acknowledgedBy: acknowledgment, tuple: tuple, at: now) == nil)
  }

  @Test("of a million guesses hardly one fits")
  func guesses() {
    var fits = 0
    var header = acknowledgment(of: syn())
    var state: UInt32 = 1
    for _ in 0..<1_000_000 {
      state = state &* 1_664_525 &+ 1_013_904_223
      header.acknowledgment = SequenceNumber(state)
      if cookies.syn(acknowledgedBy: header, tuple: tuple, at: now) != nil { fits += 1 }
    }
    #expect(fits <= 4)
  }
}
