import Glibc
import Primitives
import Wire

// A segment in the notation of the trace tests: flags, first...last octet, and what else it says.
//
// Sequence numbers are relative: 0 is the SYN, 1 the first octet of payload, and the FIN follows the
// last one. `1...1001` are a thousand octets. Windows are octets after scaling. The client's
// direction and ours count apart, each from its own initial number, which the script keeps near the
// wrap.

struct TraceSegment {
  var flags: TCPFlags
  var range: ClosedRange<Int>
  var acknowledgment: Int?
  /// Octets, scaled.
  var window: Int
  var options = TCPOptions()
  /// Goes without the timestamp that was agreed on.
  var isUnstamped = false
  /// Relative SACK blocks, in the order of the option.
  var sackBlocks: [ClosedRange<Int>] = []
  /// Payload octets of each piece, when the frame is a super-packet.
  var pieceOctets = 0
  /// Octets of the longest IP packet that this becomes.
  var packetOctets = 0
  /// The IP header's ECN field: 2 is ECT(0), 3 CE.
  var codepoint: UInt8 = 0
  /// A super-packet that the device is asked to leave CWR on the first segment of.
  var cutsReduced = false

  var octets: Int { range.upperBound - range.lowerBound }

  var description: String {
    var text = "\"\(flags.letters)\" \(range.lowerBound)...\(range.upperBound)"
    if let acknowledgment { text += " ack \(acknowledgment)" }
    text += " win \(window)"
    if !sackBlocks.isEmpty { text += " sack \(sackBlocks)" }
    if let mss = options.maximumSegmentSize { text += " mss \(mss)" }
    if options.sackPermitted { text += " sackOK" }
    if let scale = options.windowScale { text += " wscale \(scale)" }
    if let stamp = options.timestamp { text += " ts \(stamp.value)/\(stamp.echo)" }
    if codepoint > 0 { text += " ecn \(codepoint)" }
    if pieceOctets > 0 { text += " in pieces of \(pieceOctets)" }
    return text
  }
}

extension TCPFlags {
  private static let alphabet: [(letter: Character, flag: TCPFlags)] = [
    ("S", .syn), ("F", .fin), ("R", .rst), ("P", .psh), ("U", .urg), (".", .ack),
    ("E", .ece), ("W", .cwr),
  ]

  /// As tcpdump writes them: "S.", "FP.", "R", "SEW".
  var letters: String {
    String(Self.alphabet.filter { contains($0.flag) }.map(\.letter))
  }

  init(letters: String) {
    self = []
    for (letter, flag) in Self.alphabet where letters.contains(letter) { insert(flag) }
  }
}

/// The octet at a position of a stream; position 1 is the first. The two directions differ.
func patternOctet(_ position: Int, fromClient: Bool) -> UInt8 {
  UInt8(truncatingIfNeeded: position &* 31 &+ position >> 8 &* 7 &+ (fromClient ? 0 : 101))
}

/// What the target says from position 0 on: the pattern's period, and once more the longest segment.
private let targetPattern = (0..<1 << 17).map { patternOctet($0, fromClient: false) }

/// Whether octets are what the target says from a position on. Some tests ask for millions: an iteration
/// over them would be most of their time where nothing is optimised.
func isPattern(_ octets: ArraySlice<UInt8>, from position: Int) -> Bool {
  precondition(octets.count <= 1 << 16, "a segment")
  return octets.withUnsafeBytes { octets in
    targetPattern.withUnsafeBytes { pattern in
      guard let base = octets.baseAddress, let expected = pattern.baseAddress else { return true }
      return memcmp(base, expected + (position & 0xFFFF), octets.count) == 0
    }
  }
}
