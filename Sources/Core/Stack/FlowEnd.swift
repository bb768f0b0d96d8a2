import Primitives
import Wire

// How a flow ended, or why a client got none: for the operator's log, never for the protocol.
//
// A flow keeps one octet of it, set where the cause is seen; the first cause stays, for what follows
// from it (a reset passed on, a slot given back) is no cause. A flow that comes to rest in TIME-WAIT
// is over for everybody but its endpoint, and told of then. Clients that got no flow are kept for one
// turn, a few at most. Rates are the owner's matter.

/// One cause. `word` is what an operator reads in logs and must not change once released.
@usableFromInline package enum FlowEnd: UInt8, Sendable, CaseIterable, BitwiseCopyable {
  /// It goes on.
  case none

  // Of flows that were connected.
  case finished
  case clientReset
  case clientLost
  case targetReset
  case targetLost
  case idle
  case evicted
  case reloadCut
  case stopped

  // The target could not be connected.
  case refused
  case timedOut
  case unreachable
  case prohibited
  case noSocket

  // No flow was begun.
  case notForUs
  case noRule
  case noTarget
  case ruleFull
  case flowTableFull

  /// Whether the owner was told.
  enum Telling: UInt8, BitwiseCopyable {
    case notYet
    case due
    case done
  }

  package var word: String {
    switch self {
    case .none: "none"
    case .finished: "finished"
    case .clientReset: "client-reset"
    case .clientLost: "client-lost"
    case .targetReset: "target-reset"
    case .targetLost: "target-lost"
    case .idle: "idle"
    case .evicted: "evicted"
    case .reloadCut: "reload-cut"
    case .stopped: "stopped"
    case .refused: "refused"
    case .timedOut: "timed-out"
    case .unreachable: "unreachable"
    case .prohibited: "prohibited"
    case .noSocket: "no-socket"
    case .notForUs: "not-for-us"
    case .noRule: "no-rule"
    case .noTarget: "no-target"
    case .ruleFull: "rule-full"
    case .flowTableFull: "flow-table-full"
    }
  }

  /// Whether the flow's target could not be connected.
  package var isFailure: Bool {
    switch self {
    case .refused, .timedOut, .unreachable, .prohibited, .noSocket: true
    case .none, .finished, .clientReset, .clientLost, .targetReset, .targetLost, .idle, .evicted,
      .reloadCut, .stopped, .notForUs, .noRule, .noTarget, .ruleFull, .flowTableFull:
      false
    }
  }

  init(_ failure: TargetFailure) {
    switch failure {
    case .refused: self = .refused
    case .hostUnreachable, .networkUnreachable, .tooBig: self = .unreachable
    case .prohibited: self = .prohibited
    case .timedOut: self = .timedOut
    case .exhausted: self = .noSocket
    }
  }
}

/// A client that got no flow.
package struct TurnedAway: Sendable, BitwiseCopyable {
  package var tuple: FiveTuple
  package var why: FlowEnd
  /// The rule that it met, if any.
  package var rule: UInt32?
}

extension Stack {
  /// Clients of one turn that are told of; those beyond are counted.
  static let turnedAwayMax = 16

  /// Notes how the flow ends, unless that is known.
  mutating func conclude(_ slot: UInt32, _ end: FlowEnd) {
    if flows[slot].end == .none { flows[slot].end = end }
  }

  /// The flow is over for everybody but, perhaps, its endpoint: `takeEnd` says so once.
  mutating func over(_ slot: UInt32) {
    guard flows[slot].telling == .notYet else { return }
    flows[slot].telling = .due
    want(slot, [])
  }

  /// How the flow ended, told once, when it is over and before its slot is given back.
  @usableFromInline package mutating func takeEnd(_ slot: UInt32) -> FlowEnd? {
    guard flows[slot].telling == .due else { return nil }
    flows[slot].telling = .done
    return flows[slot].end
  }

  /// Out of line: what it does to an array, no packet of a flow does.
  @inline(never) mutating func turnAway(_ tuple: FiveTuple, _ why: FlowEnd, rule: UInt32? = nil) {
    if turnedAway.count < Self.turnedAwayMax {
      turnedAway.append(TurnedAway(tuple: tuple, why: why, rule: rule))
    } else {
      turnedAwayUntold += 1
    }
  }

  /// Forgets the clients of this turn that got no flow.
  package mutating func forgetTurnedAway() {
    turnedAway.removeAll(keepingCapacity: true)
    turnedAwayUntold = 0
  }
}
