import Primitives

// How many flows of a worker move octets in bulk at the same time, in one direction, and what each client
// that sends them is offered then.
//
// What near clients send ahead waits in the device's queue, in front of everybody else's packets. A whole
// window of it keeps the device busy; of eight clients, each needs to send an eighth of that, and what they
// send beyond makes others wait and nothing faster. So near clients share one window among those
// that were seen to send in bulk lately. Far ones do not: what they send ahead is on its way.

package struct BulkCensus: BitwiseCopyable, Sendable {
  /// Of a count. Whoever moves octets in bulk is seen at least once in each.
  package static let period = Interval.milliseconds(50)
  /// What a target takes in one go of a client that sends in bulk, or says in a turn, at least, octets.
  package static let bulkOctets = 16 * 1024
  /// The narrowest share, octets.
  package static let narrowest: UInt32 = 64 * 1024

  /// Counts are numbered from 1 to 255, again and again: whoever was not seen for so long is missed once.
  private var number: UInt8 = 1
  private var endsAt = MonotonicInstant.zero
  private var count: UInt32 = 0
  private var countBefore: UInt32 = 0

  package init() {}

  /// A target took octets of a client, or said some.
  /// - Parameter mark: the flow's own: the count in which it was seen last, 0 at first.
  package mutating func saw(_ octets: Int, mark: inout UInt8, at now: MonotonicInstant) {
    guard octets >= Self.bulkOctets else { return }
    if endsAt <= now {
      // Nobody was seen in a count that nobody closed.
      countBefore = now - endsAt < Self.period ? count : 0
      count = 0
      number = number == .max ? 1 : number + 1
      endsAt = now + Self.period
    }
    guard mark != number else { return }
    mark = number
    count += 1
  }

  /// Flows that were seen lately. A count that ended a while ago says nothing of now.
  package func flows(at now: MonotonicInstant) -> UInt32 {
    if endsAt <= now { return now - endsAt < Self.period ? count : 0 }
    return max(count, countBefore)
  }

  /// A near client's part of a window.
  /// - Parameters:
  ///   - usual: the window that all share.
  ///   - alone: the window of one that has no company (`Company`); nil: there is some.
  package func share(of usual: UInt32, alone: UInt32?, at now: MonotonicInstant) -> UInt32 {
    let clients = flows(at: now)
    if clients <= 1, let alone { return alone }
    return max(min(usual, Self.narrowest), usual / max(1, clients))
  }
}
