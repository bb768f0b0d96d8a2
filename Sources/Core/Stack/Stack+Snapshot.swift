import Primitives
import Relay
import TCP
import UDP
import Wire

// What is going on, for those who look: never on the data path.

/// One flow, as it is now.
package struct FlowView: Sendable {
  package var tuple: FiveTuple
  package var rule: UInt32
  package var target: IPAddress
  package var targetPort: UInt16
  package var state: String
  package var octetsUp: UInt64
  package var octetsDown: UInt64
  package var age: Interval
  package var idle: Interval
}

extension Stack {
  /// The newest flows, at most `limit`; those that rest in TIME-WAIT are only counted.
  package mutating func flowViews(limit: Int, at now: MonotonicInstant) -> [FlowView] {
    var newest = NewestFlows(limit: limit)
    forEachFlow { stack, slot in
      let flow = stack.flows[slot]
      if !flow.marks.contains(.timeWait) { newest.offer(slot, openedAt: flow.openedAt) }
    }
    return newest.slots.map { flowView($0, at: now) }
  }

  package func flowView(_ slot: UInt32, at now: MonotonicInstant) -> FlowView {
    let flow = flows[slot]
    return FlowView(
      tuple: flow.tuple, rule: flow.rule, target: flow.target, targetPort: flow.targetPort,
      state: stateWord(slot), octetsUp: flow.octetsUp, octetsDown: flow.octetsDown,
      age: now - flow.openedAt, idle: now - flow.lastActivity)
  }

  private func stateWord(_ slot: UInt32) -> String {
    guard flows[slot].isTCP else {
      return sessions[Int(slot)].isAnswered ? "answered" : "unanswered"
    }
    switch flows[slot].relay.state {
    case .dialing: return "dialing"
    case .open: return endpoints.state(slot) == .synReceived ? "answering" : "open"
    case .clientFinished: return "client-finished"
    case .targetFinished: return "target-finished"
    case .bothFinished: return "closing"
    case .draining: return "draining"
    case .closed: return "closed"
    }
  }
}

/// The newest of many flows, found without keeping or sorting them all: twice the limit is gathered,
/// and the older half thrown away.
private struct NewestFlows {
  private let limit: Int
  private var gathered: [(openedAt: MonotonicInstant, slot: UInt32)] = []
  /// Flows older than this are not among the newest.
  private var bound: MonotonicInstant?

  init(limit: Int) { self.limit = max(1, limit) }

  mutating func offer(_ slot: UInt32, openedAt: MonotonicInstant) {
    if let bound, openedAt < bound { return }
    gathered.append((openedAt, slot))
    if gathered.count >= 2 * limit { cut() }
  }

  /// Newest first.
  var slots: [UInt32] {
    var copy = self
    copy.cut()
    return copy.gathered.map(\.slot)
  }

  private mutating func cut() {
    gathered.sort { $0.openedAt > $1.openedAt }
    guard gathered.count > limit else { return }
    gathered.removeLast(gathered.count - limit)
    bound = gathered.last?.openedAt
  }
}
