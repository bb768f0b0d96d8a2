// TCP options (RFC 9293 §3.2, RFC 7323, RFC 2018), read into and written from one plain value.
//
// Unknown options are skipped by their length. A length that lies (under two, beyond the header, or
// not the one its kind has) spoils the segment: RFC 9293 MUST-7 asks to be prepared for it, and
// nothing that such a header says can be trusted. Of repeated options the last one counts.
// TCP Fast Open, MD5 and multipath options are among the unknown.

package struct TCPTimestamp: Equatable, Sendable, BitwiseCopyable {
  package var value: UInt32  // TSval
  package var echo: UInt32  // TSecr

  @inlinable package init(value: UInt32, echo: UInt32) {
    self.value = value
    self.echo = echo
  }
}

/// Octets that were received ahead of a gap, `end` excluded.
package struct SACKBlock: Equatable, Sendable, BitwiseCopyable {
  package var start: SequenceNumber
  package var end: SequenceNumber

  @inlinable package init(start: SequenceNumber, end: SequenceNumber) {
    self.start = start
    self.end = end
  }
}

/// Up to four SACK blocks: as many as forty octets of options hold.
package struct SACKBlocks: Sendable, BitwiseCopyable {
  package static let countMax = 4

  @usableFromInline var blocks: [4 of SACKBlock]
  package internal(set) var count: Int

  @inlinable package init() {
    blocks = .init(repeating: SACKBlock(start: SequenceNumber(0), end: SequenceNumber(0)))
    count = 0
  }

  package var isEmpty: Bool { count == 0 }

  /// - Precondition: `index` is under `count`.
  package subscript(index: Int) -> SACKBlock {
    precondition(index >= 0 && index < count, "SACK block")
    return blocks[index]
  }

  /// Adds a block; does nothing when there are four.
  package mutating func append(_ block: SACKBlock) {
    guard count < Self.countMax else { return }
    blocks[count] = block
    count += 1
  }
}

extension SACKBlocks: Equatable {
  package static func == (a: Self, b: Self) -> Bool {
    a.count == b.count && (0..<a.count).allSatisfy { a[$0] == b[$0] }
  }
}

package struct TCPOptions: Equatable, Sendable, BitwiseCopyable {
  /// Octets of options that a header can hold.
  package static let octetsMax = 40
  /// The largest shift (RFC 7323 §2.3); greater ones are read as this.
  package static let windowScaleMax: UInt8 = 14

  package var sackBlocks: SACKBlocks
  package var timestamp: TCPTimestamp?
  /// Payload octets that the sender of the option takes in one segment.
  package var maximumSegmentSize: UInt16?
  /// The shift that the sender of the option will apply to its windows.
  package var windowScale: UInt8?
  package var sackPermitted: Bool

  @inlinable package init() {
    sackBlocks = SACKBlocks()
    timestamp = nil
    maximumSegmentSize = nil
    windowScale = nil
    sackPermitted = false
  }

  private enum Kind {
    static let end: UInt8 = 0
    static let noOperation: UInt8 = 1
    static let maximumSegmentSize: UInt8 = 2
    static let windowScale: UInt8 = 3
    static let sackPermitted: UInt8 = 4
    static let sack: UInt8 = 5
    static let timestamp: UInt8 = 8
  }

  /// Reads the options in `range` of a segment into fresh options. Throws `badTCPOptions`.
  @inlinable @inline(__always) mutating func read(
    _ segment: RawSpan, _ range: Range<Int>
  ) throws(DropReason) {
    // What nearly every segment of a transfer carries: two no-operations and a timestamp.
    if range.count == 12, segment.big32(range.lowerBound) == 0x0101_080a {
      timestamp = TCPTimestamp(
        value: segment.big32(range.lowerBound + 4), echo: segment.big32(range.lowerBound + 8))
    } else {
      try readEach(segment, range)
    }
  }

  @usableFromInline mutating func readEach(
    _ segment: RawSpan, _ range: Range<Int>
  ) throws(DropReason) {
    var offset = range.lowerBound
    while offset < range.upperBound {
      let kind = segment.octet(offset)
      if kind == Kind.end { return }
      if kind == Kind.noOperation {
        offset += 1
        continue
      }
      guard offset + 2 <= range.upperBound else { throw .badTCPOptions }
      let octets = Int(segment.octet(offset + 1))
      guard octets >= 2, offset + octets <= range.upperBound else { throw .badTCPOptions }
      try readOption(kind, segment, offset, octets)
      offset += octets
    }
  }

  private mutating func readOption(
    _ kind: UInt8, _ segment: RawSpan, _ offset: Int, _ octets: Int
  ) throws(DropReason) {
    switch (kind, octets) {
    case (Kind.maximumSegmentSize, 4):
      maximumSegmentSize = segment.big16(offset + 2)
    case (Kind.windowScale, 3):
      windowScale = min(segment.octet(offset + 2), Self.windowScaleMax)
    case (Kind.sackPermitted, 2):
      sackPermitted = true
    case (Kind.timestamp, 10):
      timestamp = TCPTimestamp(value: segment.big32(offset + 2), echo: segment.big32(offset + 6))
    case (Kind.sack, 10), (Kind.sack, 18), (Kind.sack, 26), (Kind.sack, 34):
      sackBlocks = SACKBlocks()
      for start in stride(from: offset + 2, to: offset + octets, by: 8) {
        sackBlocks.append(
          SACKBlock(
            start: SequenceNumber(segment.big32(start)),
            end: SequenceNumber(segment.big32(start + 4))))
      }
    case (Kind.maximumSegmentSize, _), (Kind.windowScale, _), (Kind.sackPermitted, _),
      (Kind.timestamp, _), (Kind.sack, _):
      throw .badTCPOptions
    default:
      break
    }
  }

  /// Stores the options, padded to a multiple of four octets, and returns how many octets they
  /// take. SACK blocks come last, as many as there is room for: three beside a timestamp.
  func write(to memory: UnsafeMutableRawPointer) -> Int {
    var used = 0
    if let maximumSegmentSize {
      memory.put(big: 0x0204 << 16 | UInt32(maximumSegmentSize), at: used)
      used += 4
    }
    if let timestamp {
      memory.put(big: sackPermitted ? 0x0402_080a : 0x0101_080a as UInt32, at: used)
      memory.put(big: timestamp.value, at: used + 4)
      memory.put(big: timestamp.echo, at: used + 8)
      used += 12
    } else if sackPermitted {
      memory.put(big: 0x0101_0402 as UInt32, at: used)
      used += 4
    }
    if let windowScale {
      memory.put(big: 0x0103_0300 | UInt32(windowScale), at: used)
      used += 4
    }
    let blocks = min(sackBlocks.count, (Self.octetsMax - used - 4) / 8)
    if blocks > 0 {
      memory.put(big: 0x0101_0500 | UInt32(2 + 8 * blocks), at: used)
      used += 4
      for index in 0..<blocks {
        memory.put(big: sackBlocks[index].start.rawValue, at: used)
        memory.put(big: sackBlocks[index].end.rawValue, at: used + 4)
        used += 8
      }
    }
    return used
  }
}
