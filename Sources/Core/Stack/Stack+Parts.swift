import Primitives
import SocketTable
import Steering
import Wire

// The parts of the five-tuples that are this worker's (`Steering`), and when they are so no more.
//
// A part is taken with the first packet that comes of it, by the kernel's program or here, and kept while a
// flow of it can be found, resting in TIME-WAIT or not; one that only rests is no load. A packet that
// begins no flow leaves its part again. What the kernel dealt for packets that never got so far
// (malformed, lost on the way) is found by looking at a few parts each turn, and at all of them when such
// a packet was seen. A part that is left while packets of it are still on their way here costs these a
// hand-over at most, and datagrams their order.

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
  /// - Returns: false when its home is another worker after all; nothing should lead there.
  mutating func settle(_ tuple: FiveTuple) -> Bool {
    guard let steering = settings.steering else { return true }
    let part = steering.part(of: tuple)
    guard steering.homes.take(part, for: settings.worker) == settings.worker else { return false }
    if partCounts[part].awake == 0, partCounts[part].resting > 0 {
      steering.homes.addLoad(of: settings.worker)
    }
    partCounts[part].awake += 1
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.leavesHomeEarly) {
        steering.homes.leave(part, of: settings.worker, isLoad: true)
      }
    #endif
    return true
  }

  /// A flow that began here rests in TIME-WAIT from now on.
  mutating func rests(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    let part = steering.part(of: tuple)
    partCounts[part].awake -= 1
    partCounts[part].resting += 1
    if partCounts[part].awake == 0 { steering.homes.subtractLoad(of: settings.worker) }
  }

  /// A flow that began here is found no more.
  /// - Parameter isResting: it was in TIME-WAIT.
  mutating func unsettle(_ tuple: FiveTuple, isResting: Bool = false) {
    guard let steering = settings.steering else { return }
    let part = steering.part(of: tuple)
    if isResting {
      partCounts[part].resting -= 1
    } else {
      partCounts[part].awake -= 1
    }
    guard partCounts[part].awake == 0 else { return }
    if partCounts[part].isEmpty {
      steering.homes.leave(part, of: settings.worker, isLoad: !isResting)
    } else if !isResting {
      steering.homes.subtractLoad(of: settings.worker)
    }
  }

  /// A packet of no flow has begun none.
  func leaveUnsettled(_ tuple: FiveTuple) {
    guard let steering = settings.steering else { return }
    leaveIfEmpty(steering.part(of: tuple), steering)
  }

  /// Looks at some parts, all in turn: those of which nothing lives here are left. When packets were lost
  /// that the kernel may have dealt, at all of them, since another turn may be far.
  @usableFromInline package mutating func lookAtParts() {
    guard let steering = settings.steering else { return }
    let isIdle = mayHaveLostParts && requestCount == 0
    if isIdle { mayHaveLostParts = false }
    for _ in 0..<(isIdle ? Homes.partCount : Self.partsOfTurn) {
      leaveIfEmpty(nextPart, steering)
      nextPart = (nextPart + 1) % Homes.partCount
    }
  }

  private func leaveIfEmpty(_ part: Int, _ steering: Steering) {
    guard partCounts[part].isEmpty else { return }
    steering.homes.leave(part, of: settings.worker, isLoad: true)
  }

  /// What is wrong with whose the parts are, for who checks it; nil when it is all right.
  /// - Parameter parts: all of which packets may have come.
  package func faultOfParts(among parts: [Int] = Array(0..<Homes.partCount)) -> String? {
    guard let steering = settings.steering else { return nil }
    var load = 0
    for part in parts {
      let counts = partCounts[part]
      guard steering.homes[part] == settings.worker else {
        if counts.isEmpty { continue }
        return "worker \(settings.worker) has flows of a part that is not its own"
      }
      if counts.awake > 0 || counts.isEmpty { load += 1 }
    }
    let said = steering.homes.load(of: settings.worker)
    return said == load ? nil : "worker \(settings.worker) has a load of \(said), not \(load)"
  }

  // MARK: Cookies

  /// Until when a cookie may come back: what one worker has answered by a cookie may come back to another,
  /// since nothing keeps the part.
  var cookiesUntil: MonotonicInstant {
    guard let steering = settings.steering else { return ownCookiesUntil }
    return MonotonicInstant(nanoseconds: steering.homes.cookiesUntil)
  }

  /// A cookie is out. All workers are told seldom, not for each of a flood.
  mutating func extendCookies(until end: MonotonicInstant) {
    guard let homes = settings.steering?.homes else {
      ownCookiesUntil = end
      return
    }
    guard homes.cookiesUntil < end.nanoseconds else { return }
    homes.extendCookies(until: (end + .seconds(1)).nanoseconds)
  }
}
