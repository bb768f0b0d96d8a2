import Primitives

// What happened in a run, a line for each packet and event: the latest of them, or all.

/// Written out only when somebody asks.
package struct Trace {
  static let entriesMax = 60

  private enum Content {
    case packet(up: Bool, Segment, octets: Int)
    case note(String)
  }
  private var entries: [(at: MonotonicInstant, flow: Int, content: Content)] = []
  private var begin = 0
  /// Keeps everything.
  package var isWhole = false

  mutating func packet(_ now: MonotonicInstant, _ flow: Int, up: Bool, _ packet: [UInt8]) {
    guard let segment = Packets.parse(packet) else { return }
    add((now, flow, .packet(up: up, segment, octets: segment.payload.count)))
  }

  mutating func note(_ now: MonotonicInstant, _ flow: Int, _ text: String) {
    add((now, flow, .note(text)))
  }

  private mutating func add(_ entry: (at: MonotonicInstant, flow: Int, content: Content)) {
    if isWhole || entries.count < Self.entriesMax {
      entries.append(entry)
    } else {
      entries[begin] = entry
      begin = (begin + 1) % Self.entriesMax
    }
  }

  package var text: String {
    (entries[begin...] + entries[..<begin]).map { entry in
      let micros = entry.at.nanoseconds / 1_000
      let head =
        "\(micros / 1_000_000).\(String(micros % 1_000_000 + 1_000_000).dropFirst()) #\(entry.flow) "
      switch entry.content {
      case .note(let text): return head + text
      case .packet(let up, let segment, let octets):
        var flags = ""
        for (bit, letter) in [
          (Flag.syn, "S"), (Flag.fin, "F"), (Flag.rst, "R"), (Flag.psh, "P"), (Flag.ack, "."),
          (Flag.ece, "E"), (Flag.cwr, "W"),
        ]
        where segment.has(bit) { flags += letter }
        if segment.codepoint != 0 { flags += " ecn\(segment.codepoint)" }
        let blocks = segment.blocks.map { "\($0.start)-\($0.end)" }.joined(separator: " ")
        return head + (up ? "> " : "< ")
          + "\(flags) \(segment.sequence)+\(octets) ack \(segment.acknowledgment) win \(segment.window) \(blocks)"
      }
    }.joined(separator: "\n")
  }
}
