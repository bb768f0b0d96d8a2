import Configuration
import Fragments
import Primitives
import Relay
import TCP
import UDP
import Wire

// Time: one deadline per flow in the wheel, moved only when it must come earlier.
//
// Acknowledgements and activity push a flow's deadlines back all the time; the wheel is not told.
// When the old deadline comes, the flow is looked at, and armed again for what it waits for now.

extension Stack {
  /// When `handleDeadlines` wants to be called; nil: never.
  package func nextDeadline() -> MonotonicInstant? {
    var next = wheel.nextDeadline()
    if let cut = rules.nextCut { next = min(cut, next ?? .distantFuture) }
    if let expiry = fragments.nextDeadline() { next = min(expiry, next ?? .distantFuture) }
    if pressureDeadline != .distantFuture { next = min(pressureDeadline, next ?? .distantFuture) }
    return next
  }

  package mutating func handleDeadlines(at now: MonotonicInstant) {
    while let slot = wheel.popDue(at: now) {
      flows[slot].armedAt = .distantFuture
      deadline(slot, at: now)
    }
    if let cut = rules.nextCut, cut <= now {
      self.cut(rules: rules.dueCuts(at: now))
    }
    expireFragments(at: now)
    if pressureDeadline <= now { relievePressure(at: now) }
  }

  /// Makes sure that the wheel wakes the flow when it next has something to do.
  mutating func schedule(_ slot: UInt32) {
    let wanted = wantedDeadline(slot)
    guard wanted < flows[slot].armedAt else { return }
    flows[slot].armedAt = wanted
    wheel.arm(slot, at: wanted)
  }

  private func wantedDeadline(_ slot: UInt32) -> MonotonicInstant {
    guard flows[slot].isTCP else {
      return sessions[Int(slot)].expiry(
        timeout: rules.figures(flows[slot].rule).pointee.bounds.udpTimeout)
    }
    return min(endpoints.nextDeadline(slot), flows[slot].expiresAt)
  }

  private mutating func deadline(_ slot: UInt32, at now: MonotonicInstant) {
    guard flows[slot].isTCP else {
      if wantedDeadline(slot) <= now {
        counters.flowsExpired += 1
        end(slot, .idle)
      } else {
        schedule(slot)
      }
      return
    }
    if flows[slot].expiresAt <= now, boundReached(slot, at: now) { return }
    if endpoints.nextDeadline(slot) <= now {
      let outcome = endpoints[slot].handleDeadline(at: now, memory: &memory)
      // TIME-WAIT is over, whose end is known; otherwise the client was given up.
      if outcome.contains(.closed) { conclude(slot, .clientLost) }
      react(outcome, slot, at: now)
      return
    }
    schedule(slot)
  }

  /// The bound on dialling or idling is reached, or was: activity may have moved it.
  /// - Returns: whether the flow is over, or dials another address.
  private mutating func boundReached(_ slot: UInt32, at now: MonotonicInstant) -> Bool {
    switch flows[slot].relay.state {
    case .dialing:
      counters.dialsTimedOut += 1
      dialed(slot, failure: .timedOut, at: now)
      return true
    case .open, .clientFinished, .targetFinished, .bothFinished, .draining:
      let idle = rules.figures(flows[slot].rule).pointee.bounds.idleTimeout
      let bound = flows[slot].lastActivity + idle
      if bound > now {
        flows[slot].expiresAt = bound
        return false
      }
      counters.flowsExpired += 1
      conclude(slot, .idle)
      perform(flows[slot].relay.cut(), slot, at: now)
      return true
    case .closed:
      flows[slot].expiresAt = .distantFuture
      return false
    }
  }

  /// Ends a flow at once, whatever it does.
  mutating func end(_ slot: UInt32, _ why: FlowEnd) {
    conclude(slot, why)
    if flows[slot].isTCP {
      perform(flows[slot].relay.cut(), slot, at: .zero)
    } else {
      dropDatagrams(slot)
      if flows[slot].marks.contains(.hasSocket) { want(slot, .closeTarget) }
      retire(slot)
    }
  }

  /// Ends all flows of these rules, in one walk over the flows.
  mutating func cut(rules cut: [UInt32]) {
    guard !cut.isEmpty else { return }
    let cut = Set(cut)
    forEachFlow { stack, slot in
      if cut.contains(stack.flows[slot].rule) { stack.end(slot, .reloadCut) }
    }
  }

  /// Calls `body` for every living flow.
  mutating func forEachFlow(_ body: (inout Stack, UInt32) -> Void) {
    for slot in 0..<UInt32(capacity) {
      guard slot < flows.touchedCount else { return }
      if generations[Int(slot)] & 1 == 1 { body(&self, slot) }
    }
  }

  /// Ends every flow: the daemon stops. Clients are reset; targets too.
  package mutating func endAll() {
    fragments.removeAll()
    forEachFlow { stack, slot in stack.end(slot, .stopped) }
  }
}
