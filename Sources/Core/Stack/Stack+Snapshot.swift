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
    var views: [FlowView] = []
    forEachFlow { stack, slot in
      guard !stack.flows[slot].marks.contains(.timeWait) else { return }
      views.append(stack.flowView(slot, at: now))
    }
    views.sort { $0.age < $1.age }
    if views.count > limit { views.removeLast(views.count - limit) }
    return views
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
    case .open: return endpoints[Int(slot)].state == .synReceived ? "answering" : "open"
    case .clientFinished: return "client-finished"
    case .targetFinished: return "target-finished"
    case .bothFinished: return "closing"
    case .draining: return "draining"
    case .closed: return "closed"
    }
  }
}
