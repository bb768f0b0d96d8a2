import Primitives
import Relay
import TCP
import Wire

// Clients that have not answered us yet, and what is done when they are too many.
//
// A SYN costs a slot, a socket and a connection at the target before its sender has shown that he
// receives at his address. How many such flows a rule may have is bounded by `max_half_open`, divided by
// the number of workers (one at least; clients are dealt evenly, and who comes beyond the bound is
// served all the same), and all rules together by a quarter of the flow table. Beyond, a SYN is
// answered by a cookie (`SYNCookies`) and forgotten: the target is dialled when the cookie comes back,
// and by then the client believes to be connected, so that a failed dial can only be told by a reset.
// That is the one case in which a client is answered before its target has. A SYN that would follow a
// connection in TIME-WAIT ends that no sooner than its cookie comes back, or a flow is made of it:
// anybody may have sent it. All workers make the same cookies: one may come back to another.

extension Stack {
  /// Whether a further SYN to the rule must keep nothing.
  func isFlooded(_ rule: UInt32) -> Bool {
    let figures = rules.figures(rule)
    return figures.pointee.halfOpen >= figures.pointee.bounds.halfOpenMax
      || halfOpenCount >= max(1, capacity / 4)
  }

  mutating func enterHalfOpen(_ slot: UInt32) {
    flows[slot].marks.insert(.halfOpen)
    halfOpenCount += 1
    rules.figures(flows[slot].rule).pointee.halfOpen += 1
  }

  mutating func leaveHalfOpen(_ slot: UInt32) {
    guard flows[slot].marks.contains(.halfOpen) else { return }
    flows[slot].marks.remove(.halfOpen)
    halfOpenCount -= 1
    rules.figures(flows[slot].rule).pointee.halfOpen -= 1
  }

  /// Answers a SYN by a cookie.
  /// - Parameter resting: the flow in TIME-WAIT that it would follow.
  mutating func answerByCookie(
    _ syn: TCPHeader, _ tuple: FiveTuple, _ rule: UInt32, insteadOf resting: UInt32?,
    at now: MonotonicInstant
  ) {
    extendCookies(until: now + SYNCookies.period + SYNCookies.period)
    let last = resting.map { endpoints[$0].send.next }
    let isSent = TCPEndpoint.answer(
      syn, with: cookies, beyond: last.map { InitialSequence.floor(after: $0) },
      path: path(tuple), timestampOffset: timestampOffset(tuple),
      settings: tcpSettings(tuple, rule), at: now, frames: &frames)
    guard isSent else { return memory.drops.count(.frameQueueFull) }
    counters.cookiesSent += 1
    if let resting {
      endpoints[resting].answeredByCookie(at: now)
      yieldLast(resting)
    }
  }

  /// Makes a flow of a segment that acknowledges a cookie, and dials its target.
  /// - Parameter resting: a flow in TIME-WAIT that gives way if it does.
  /// - Returns: false when it acknowledges none, and is any stranger's.
  mutating func cookieReturns(
    _ segment: TCPSegment, _ tuple: FiveTuple, _ value: UInt32, insteadOf resting: UInt32? = nil,
    at now: MonotonicInstant
  ) -> Bool {
    guard now < cookiesUntil, segment.header.flags.contains(.ack),
      !segment.header.flags.contains(.syn), !segment.header.flags.contains(.rst)
    else { return false }
    var floor: SequenceNumber?
    if let resting {
      guard endpoints[resting].isLaterIncarnation(segment.header) else { return false }
      floor = InitialSequence.floor(after: endpoints[resting].send.next)
    }
    guard case .rule(let rule, let target) = meet(tuple),
      let endpoint = TCPEndpoint(
        acknowledging: segment.header, of: cookies, tuple: tuple, beyond: floor,
        timestampOffset: timestampOffset(tuple), settings: tcpSettings(tuple, rule), at: now)
    else { return false }
    guard dialingCount < Self.dialingMax,
      let slot = open(
        tuple, hash: value, rule: rule, target: target, insteadOf: resting, at: now)
    else {
      memory.drops.count(.flowTableFull)
      return resting != nil  // which has no answer to it; the client says it again
    }
    counters.cookiesAccepted += 1
    begin(slot, endpoint, at: now)
    react(endpoints[slot].segmentArrives(segment, at: now, memory: &memory), slot, at: now)
    return true
  }
}
