import Primitives

// Whether flows move what they keep, as seen while the payload pool is spent.
//
// An octet now and then is no sign that a flow gives back what it keeps: a client that pins a megabyte
// behind a gap may send one in order every few seconds, for ever. So each flow is set a goal, a share of
// what it keeps, and is slow when it has not moved that much for long. Flows are only looked at while
// memory is short; nothing is counted before, and no memory is touched. Goals last as long as the
// shortage: what a flow moved little of long ago says nothing about what it moves now.

/// One place for each flow slot.
struct PaceTable: ~Copyable {
  /// A flow that takes so many times `StackSettings.idleBeforeCut` to move what it keeps is no slow one.
  static let keptPerGoal = 16

  private struct Pace: BitwiseCopyable {
    /// When the goal was set.
    var since: MonotonicInstant
    /// What is to be moved in all, octets.
    var goal: UInt64
    /// Of the flow that it was set for.
    var generation: UInt32
  }

  private let places: UnsafeMutablePointer<Pace>
  private var initialized = 0
  private var lastWalkAt = MonotonicInstant.zero
  /// When the present shortage was first seen.
  private var shortSince = MonotonicInstant.zero

  init(capacity: Int) { places = .allocate(capacity: capacity) }

  deinit { places.deallocate() }

  /// All flows are going to be looked at, as somebody lacks memory. When they were not for longer than
  /// `lull`, nobody did meanwhile, and goals from before count no more.
  ///
  /// Two shortages with less between them count as one. They cannot be told apart: while one lasts, the
  /// next look comes when another flow comes of age, and may be late. Nor need they be: a flow is judged by
  /// all that it has moved until now, the time in between included, as if memory had been short throughout.
  mutating func beginWalk(at now: MonotonicInstant, lull: Interval) {
    if now > lastWalkAt + lull { shortSince = now }
    lastWalkAt = now
  }

  /// Looks at a flow.
  /// - Parameters:
  ///   - slots: flow slots that were ever taken; `slot` is one of them.
  ///   - moved: octets that the target or the client took since the flow began.
  ///   - kept: octets of the pool that it keeps.
  /// - Returns: since when it has not moved a goal's worth, in this shortage.
  mutating func look(
    _ slot: UInt32, of slots: UInt32, generation: UInt32, moved: UInt64, kept: Int,
    at now: MonotonicInstant
  ) -> MonotonicInstant {
    while initialized < Int(slots) {
      (places + initialized).initialize(to: Pace(since: .zero, goal: 0, generation: 0))
      initialized += 1
    }
    let place = places + Int(slot)
    if place.pointee.generation != generation || moved >= place.pointee.goal
      || place.pointee.since < shortSince
    {
      place.pointee = Pace(
        since: now, goal: moved &+ UInt64(kept / Self.keptPerGoal), generation: generation)
    }
    return place.pointee.since
  }
}
