import Primitives

// How busy a worker is, for who deals new flows.
//
// Conversations alone say little: one may keep a worker busy, and a hundred rest. So a worker counts how
// long it slept in each period, and adds what is left, as the worth of some conversations, to its load.
// Until a period is over that says nothing of a new flow: of flows that begin at once the dealing alone
// makes a good spread.

package struct BusyMeter: BitwiseCopyable, Sendable {
  package static let period = Interval.milliseconds(50)
  /// What a worker that never sleeps counts for, conversations.
  package static let weightMax = 16

  private var beganAt: MonotonicInstant
  private var asleep = Interval.zero

  package init(at now: MonotonicInstant) { beganAt = now }

  /// From when on the period is over.
  package var endsAt: MonotonicInstant { beganAt + Self.period }

  /// The worker waited for so long.
  @inline(__always)
  package mutating func slept(for time: Interval) {
    asleep = Interval(nanoseconds: asleep.nanoseconds + time.nanoseconds)
  }

  /// Ends the period, if it is over; one that a long sleep has ended lasted as long.
  /// - Returns: what the worker counts for, 0...weightMax; nil within the period.
  @inline(__always)
  package mutating func take(at now: MonotonicInstant) -> Int? {
    now < endsAt ? nil : end(at: now)
  }

  @inline(never)
  private mutating func end(at now: MonotonicInstant) -> Int {
    let whole = (now - beganAt).nanoseconds
    let awake = max(0, whole - asleep.nanoseconds)
    beganAt = now
    asleep = .zero
    // Rounded, so that who does little counts for nothing, and is not woken to say that it does less.
    return Int((awake * Int64(Self.weightMax) + whole / 2) / whole)
  }
}
