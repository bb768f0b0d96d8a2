import Primitives

// Whether a flow is the only one of its worker that is heard of.
//
// Large windows, and large parts of a turn, make one flow faster and let all others wait longer. Where
// there are no others, nobody waits.

package struct Company: BitwiseCopyable, Sendable {
  /// A flow that was heard of is company until a whole period has gone by without it.
  package static let period = Interval.milliseconds(50)

  /// The flow that was heard of last in this period; `noSlot`: none.
  private var heard = noSlot
  /// Several were heard of in this period, and in the one before.
  private var isCrowded = false
  private var wasCrowded = false
  private var endsAt = MonotonicInstant.zero

  package init() {}

  /// Something came from a flow's client.
  @inline(__always)
  package mutating func hears(of slot: UInt32, at now: MonotonicInstant) {
    if slot != heard || endsAt <= now { heardAnother(slot, at: now) }
  }

  @inline(never)
  private mutating func heardAnother(_ slot: UInt32, at now: MonotonicInstant) {
    if endsAt <= now {
      wasCrowded = isCrowded && now - endsAt < Self.period
      isCrowded = false
      endsAt = now + Self.period
    } else if heard != noSlot {
      isCrowded = true
    }
    heard = slot
  }

  /// Whether at most one flow was heard of lately.
  package func isAlone(at now: MonotonicInstant) -> Bool {
    if endsAt <= now { return !isCrowded || now - endsAt >= Self.period }
    return !isCrowded && !wasCrowded
  }
}
