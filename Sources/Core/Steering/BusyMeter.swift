import Primitives

// How busy a worker is, for who deals new flows.
//
// Conversations alone say little: one may keep a worker busy while others rest. So a worker adds to its load
// what share of the core's time it used lately, as the worth of some conversations.
//
// That must follow slowly. What is told decides where new flows go, and so what will be told: if they came
// and went faster than the measure, all of them would go to one worker, and then all to the other. It forgets
// by an eighth in each period, so streams, which last for seconds, count, and short conversations do by
// their number alone.

package struct BusyMeter: BitwiseCopyable, Sendable {
  package static let period = Interval.milliseconds(50)
  /// Periods that a worker which does nothing may sleep through before it says that it does less.
  package static let periodsAsleep = 8
  /// What a worker counts for that never sleeps, conversations.
  package static let weightMax = 16
  /// Of the average, in `weightMax`.
  private static let scale: Int64 = 1024
  private static let forgetting: Int64 = 8

  private var beganAt: MonotonicInstant
  private var usedBefore: Interval
  private var average: Int64 = 0

  /// - Parameter used: the core's time that the worker has used until now.
  package init(at now: MonotonicInstant, used: Interval) {
    beganAt = now
    usedBefore = used
  }

  /// Whether a period is over, and `end` is to be called.
  @inline(__always)
  package func isOver(at now: MonotonicInstant) -> Bool { now >= beganAt + Self.period }

  /// When a worker that counts for something is to wake, if nothing else wakes it.
  package var wakeAt: MonotonicInstant { beganAt + Self.period * Self.periodsAsleep }

  /// Ends a period, or as many as went by.
  /// - Returns: what the worker counts for, 0...weightMax; 0 for one that uses less than a thirty-second.
  package mutating func end(at now: MonotonicInstant, used: Interval) -> Int {
    let whole = max(1, (now - beganAt).nanoseconds)
    let worked = min(max(0, used.nanoseconds - usedBefore.nanoseconds), whole)
    let share = Int64(Double(Self.scale) * Double(worked) / Double(whole))
    for _ in 0..<min(whole / Self.period.nanoseconds, 8 * Self.forgetting) {
      average += (share - average) / Self.forgetting
    }
    beganAt = now
    usedBefore = used
    // Rounded: the average comes near what it forgets towards, and never gets there.
    return Int((average * Int64(Self.weightMax) + Self.scale / 2) / Self.scale)
  }
}
