import Primitives
import SocketTable
import Steering
import Wire

// The parts of the five-tuples that are this worker's (`Steering`), and when they are so no more.
//
// A part is taken with the first packet that comes of it, by the kernel's program or here, and kept while a
// flow of it can be found, resting in TIME-WAIT or not; one that only rests is no load. A packet that
// begins no flow leaves its part again. What the kernel dealt for packets that never got so far (malformed,
// lost on the way) is found by looking at a few parts each turn. A part that is left while packets of it are
// still on their way here costs these a hand-over at most, and datagrams their order.

/// Flows of one part that live on a worker.
struct PartCounts: BitwiseCopyable {
  /// In which a conversation goes on.
  var awake: UInt32 = 0
  /// In TIME-WAIT.
  var resting: UInt32 = 0

  var isEmpty: Bool { awake == 0 && resting == 0 }
}

extension Stack {
  /// Parts that a turn looks at: their words are one cache line.
  package static let partsOfTurn = 16

  /// Whether a packet of a five-tuple finds a flow here.
  package func lives(_ tuple: FiveTuple) -> Bool { find(tuple, hash.hash(tuple)) != nil }

  /// A flow begins, whose packet was brought home: its part stays here.
  mutating func settle(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    let part = steering.part(of: tuple)
    let home = steering.homes.take(part, for: settings.worker)
    precondition(home == settings.worker, "a flow begins on its home")
    awaken(part, steering)
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.leavesHomeEarly) { steering.homes.leave(part) }
    #endif
  }

  /// A flow that began here is found no more.
  mutating func unsettle(_ tuple: FiveTuple, isResting: Bool = false) {
    guard let steering = settings.steering else { return }
    let part = steering.part(of: tuple)
    if isResting { awakenResting(part, steering) }
    partCounts[part].awake -= 1
    guard partCounts[part].awake == 0 else { return }
    if partCounts[part].resting > 0 {
      steering.homes.subtractLoad(of: settings.worker)
    } else {
      steering.homes.leave(part)
    }
  }

  /// A flow that began here rests in TIME-WAIT from now on.
  mutating func rests(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    let part = steering.part(of: tuple)
    partCounts[part].awake -= 1
    partCounts[part].resting += 1
    if partCounts[part].awake == 0 { steering.homes.subtractLoad(of: settings.worker) }
  }

  /// A flow that rested does so no more.
  mutating func restsNoMore(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    awakenResting(steering.part(of: tuple), steering)
  }

  private func awakenResting(_ part: Int, _ steering: Steering) {
    awaken(part, steering)
    partCounts[part].resting -= 1
  }

  private func awaken(_ part: Int, _ steering: Steering) {
    if partCounts[part].awake == 0, partCounts[part].resting > 0 {
      steering.homes.addLoad(of: settings.worker)
    }
    partCounts[part].awake += 1
  }

  /// A packet of no flow has begun none.
  func leaveUnsettled(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    leaveIfEmpty(steering.part(of: tuple), steering)
  }

  /// Looks at some parts, all in turn: those of which nothing lives here are left.
  @usableFromInline package mutating func lookAtParts() {
    guard let steering = settings.steering else { return }
    for part in nextPart..<nextPart + Self.partsOfTurn { leaveIfEmpty(part, steering) }
    nextPart = (nextPart + Self.partsOfTurn) % Homes.partCount
  }

  private func leaveIfEmpty(_ part: Int, _ steering: Steering) {
    guard partCounts[part].isEmpty, steering.homes[part] == settings.worker else { return }
    steering.homes.leave(part)
  }

  // MARK: Cookies

  /// Until when a cookie may come back: what one worker has answered by a cookie may come back to another,
  /// since nothing keeps the part.
  var cookiesUntil: MonotonicInstant {
    guard let steering = settings.steering else { return ownCookiesUntil }
    return MonotonicInstant(nanoseconds: steering.homes.cookiesUntil)
  }

  mutating func extendCookies(until end: MonotonicInstant) {
    ownCookiesUntil = end
    settings.steering?.homes.extendCookies(until: end.nanoseconds)
  }
}
