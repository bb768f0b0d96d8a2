// How often the device is looked at and put right.
//
// A change comes as a burst of announcements, our own changes are announced as well, and somebody may
// take away again whatever is put back. Hence a look waits until the burst is over, looks are kept
// apart, and repairs that follow one another are made less and less often, once a minute in the end.
// Without announcements there is no look at all.

import Primitives

/// What a look at the device found.
package enum DeviceCondition: Sendable {
  /// Everything that is planned is there.
  case intact
  /// Something was missing and is back.
  case repaired
  /// Something is missing and cannot be put back.
  case failing
  /// Somebody set the link down: nothing can be put back until it is up.
  case down
  /// The link is not in its namespace any more.
  case gone
}

package struct RepairPace: Sendable {
  /// From an announcement to the look that it causes.
  package static let debounce = Interval.milliseconds(100)
  /// From a look to the next, and from the first repair to the next look.
  package static let pauseMin = Interval.seconds(1)
  package static let pauseMax = Interval.seconds(60)
  /// Repairs further apart than this have nothing to do with each other.
  package static let memory = Interval.seconds(120)

  private var pause = pauseMin
  private var repairedAt: MonotonicInstant?
  private var earliest: MonotonicInstant?

  package init() {}

  /// How long a look waits that an announcement, or a failed repair, asks for now.
  package func wait(at now: MonotonicInstant) -> Interval {
    guard let earliest else { return Self.debounce }
    return max(Self.debounce, earliest - now)
  }

  package mutating func looked(_ condition: DeviceCondition, at now: MonotonicInstant) {
    switch condition {
    case .intact, .down, .gone:
      earliest = now + Self.pauseMin
    case .repaired, .failing:
      let isRepetition = repairedAt.map { now - $0 < Self.memory } ?? false
      pause = isRepetition ? min(pause + pause, Self.pauseMax) : Self.pauseMin
      repairedAt = now
      earliest = now + pause
    }
  }
}
