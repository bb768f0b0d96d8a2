import Primitives

// What will happen, earliest first; what is due at the same instant in the order it was pushed.

struct EventQueue<Event> {
  private var heap: [(at: UInt64, order: UInt64, event: Event)] = []
  private var pushed: UInt64 = 0

  mutating func push(_ event: Event, at instant: MonotonicInstant) {
    pushed += 1
    heap.append((instant.nanoseconds, pushed, event))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard precedes(child, parent) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  mutating func pop() -> (at: MonotonicInstant, event: Event)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      var parent = 0
      while true {
        var least = parent
        for child in [2 * parent + 1, 2 * parent + 2]
        where child < heap.count && precedes(child, least) { least = child }
        guard least != parent else { break }
        heap.swapAt(parent, least)
        parent = least
      }
    }
    return (MonotonicInstant(nanoseconds: first.at), first.event)
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    heap[a].at != heap[b].at ? heap[a].at < heap[b].at : heap[a].order < heap[b].order
  }
}

/// The latest events of a run, written out only when somebody asks.
struct Trace {
  static let entriesMax = 60

  private enum Content {
    case packet(up: Bool, Segment, octets: Int)
    case note(String)
  }
  private var entries: [(at: MonotonicInstant, flow: Int, content: Content)] = []
  private var begin = 0
  /// Keeps everything.
  var isWhole = false

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

  var text: String {
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
        ]
        where segment.has(bit) { flags += letter }
        let blocks = segment.blocks.map { "\($0.start)-\($0.end)" }.joined(separator: " ")
        return head + (up ? "> " : "< ")
          + "\(flags) \(segment.sequence)+\(octets) ack \(segment.acknowledgment) win \(segment.window) \(blocks)"
      }
    }.joined(separator: "\n")
  }
}
