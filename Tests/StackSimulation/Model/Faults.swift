// Faults that a test plants, to see that the checks find them: in what the stack sends, in what it is
// told, and in how its owner treats it.

package enum Fault: String, CaseIterable, Sendable {
  case acknowledgesEarly, acknowledgesBackwards, takesWindowBack, flipsPayload, dropsTakenOctet
  case inflatesClientWindow, oversizesSegments, losesFinish, ignoresDeadlines
  case answersEarly, shiftsSequence, forgetsSocketEvents
  /// Several workers, each of which takes whatever its queue brings for its own.
  case ignoresHomes

  /// What becomes of segments on their way out.
  /// - Parameter count: frames so far.
  func plant(in pieces: [[UInt8]], of conversation: Conversation, count: Int) -> [[UInt8]] {
    return pieces.compactMap { piece in
      var piece = piece
      let isIPv4 = piece[0] >> 4 == 4
      let start = isIPv4 ? 20 : 40
      let flags = piece[start + 13]
      let payload = start + Int(piece[start + 12] >> 4) * 4
      guard flags & (Flag.syn | Flag.rst) == 0 else { return piece }
      switch self {
      case .acknowledgesEarly:
        let untaken = conversation.peer.highest - 1 - (conversation.target?.taken ?? 0)
        if untaken > 0 { piece.put32(piece.big32(start + 8) &+ UInt32(untaken), start + 8) }
      case .acknowledgesBackwards:
        if count % 5 == 0 { piece.put32(piece.big32(start + 8) &- 1, start + 8) }
      case .takesWindowBack:
        if count % 5 == 0 { piece.put16(piece.big16(start + 14) / 2, start + 14) }
      case .flipsPayload: if payload < piece.count { piece[payload] ^= 1 }
      case .losesFinish: if flags & Flag.fin != 0 { return nil }
      case .shiftsSequence:
        if payload < piece.count { piece.put32(piece.big32(start + 4) &+ 1, start + 4) }
      case .oversizesSegments:
        if payload < piece.count {
          piece += [UInt8](repeating: 0, count: 1_500)
          if isIPv4 {
            piece.put16(UInt16(piece.count), 2)
          } else {
            piece.put16(UInt16(piece.count - 40), 4)
          }
        }
      case .inflatesClientWindow, .dropsTakenOctet, .ignoresDeadlines, .answersEarly,
        .forgetsSocketEvents, .ignoresHomes:
        break
      }
      Packets.seal(&piece, isIPv4: isIPv4)
      return piece
    }
  }
}
