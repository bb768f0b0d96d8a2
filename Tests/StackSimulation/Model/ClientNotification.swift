// Explicit congestion notification as the simple client has it (RFC 3168 §6.1), read apart from the
// engine's. Its flight is a constant: an echo makes it say CWR, and nothing slower.

struct ClientNotification {
  /// Offered, and taken by the SYN-ACK.
  var isOn = false
  private var echoes = false
  private var owesReduced = false
  /// Offsets before it were sent before the last reduction.
  private var reducedUntil = 0

  mutating func arrives(_ segment: Segment, carries: Bool, acknowledged: Int, highest: Int) {
    guard isOn else { return }
    if carries {
      if segment.has(Flag.cwr) { echoes = false }
      if segment.codepoint == Codepoint.marked { echoes = true }
    }
    if segment.has(Flag.ece), acknowledged >= reducedUntil, acknowledged < highest {
      owesReduced = true
      reducedUntil = highest
    }
  }

  /// Gives a segment what it says of congestion.
  /// - Parameter isNew: it carries data that were never sent.
  mutating func dress(_ segment: inout Segment, isNew: Bool, oddities: Oddities) {
    segment.codepoint = oddities.oldCodepoint
    guard isOn else { return }
    if echoes || oddities.echoesAlways { segment.flags |= Flag.ece }
    if isNew || oddities.capableAlways { segment.codepoint = Codepoint.capable }
    if isNew, owesReduced, !oddities.neverSaysReduced {
      segment.flags |= Flag.cwr
      owesReduced = false
    }
  }
}
