// One TCP flow's two sides joined: which half is open, and what an event on one side asks of the
// other.
//
// A pure lifecycle machine. Events come from the client side (the endpoint) and from the target side
// (the kernel socket); each returns the actions that the owner of both carries out. Half-close is
// passed on exactly: the client's FIN becomes SHUT_WR once everything before it was written, the
// target's end of stream becomes FIN behind its last octet, and the other half stays open as long as
// it likes. A reset is passed on as a reset: the client's at once, the target's behind every octet
// that came before it. Idle bounds and memory are the owner's matter.

import Primitives

/// What to do now.
package struct RelayActions: FlagSet, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Answer the client's SYN.
  package static let answerClient = RelayActions(rawValue: 1 << 0)
  /// Tell the client that the target is not to be had: reset or ICMP.
  package static let refuseClient = RelayActions(rawValue: 1 << 1)
  /// Shut down the target socket's sending half.
  package static let finishTarget = RelayActions(rawValue: 1 << 2)
  /// Send FIN behind the last octet to the client.
  package static let finishClient = RelayActions(rawValue: 1 << 3)
  /// Close the target's socket: all that came from it was read, all that goes to it was written.
  package static let closeTarget = RelayActions(rawValue: 1 << 4)
  /// Close the target's socket so that it sees a reset.
  package static let resetTarget = RelayActions(rawValue: 1 << 5)
  /// Reset the client.
  package static let resetClient = RelayActions(rawValue: 1 << 6)
  /// Reset the client once it has acknowledged everything.
  package static let drainClient = RelayActions(rawValue: 1 << 7)
  /// The flow is over.
  package static let release = RelayActions(rawValue: 1 << 8)
}

package struct Relay: Equatable, Sendable, BitwiseCopyable {
  package enum State: UInt8, Sendable, BitwiseCopyable {
    /// The target is being connected; the client's SYN is held.
    case dialing
    case open
    /// The client has finished, and the target was told.
    case clientFinished
    /// The target has finished, and the client is told behind the last octet.
    case targetFinished
    /// Both have; the client's endpoint sees to the rest, the target's socket is closed.
    case bothFinished
    /// The target is gone by a reset; the client still gets what came before it.
    case draining
    case closed
  }

  package private(set) var state: State = .dialing

  package init() {}

  /// Whether the target's socket may still be written to.
  package var writesTarget: Bool {
    switch state {
    case .open, .targetFinished: true
    case .dialing, .clientFinished, .bothFinished, .draining, .closed: false
    }
  }

  /// Whether the target's socket may still be read.
  package var readsTarget: Bool {
    switch state {
    case .open, .clientFinished: true
    case .dialing, .targetFinished, .bothFinished, .draining, .closed: false
    }
  }

  // Within this module `==` is a comparison of octets, elsewhere a call by way of the conformance.
  package var isDialing: Bool { state == .dialing }
  package var isTargetFinished: Bool { state == .targetFinished }
  package var isDraining: Bool { state == .draining }

  package mutating func targetConnected() -> RelayActions {
    switch state {
    case .dialing:
      state = .open
      return .answerClient
    case .open, .clientFinished, .targetFinished, .bothFinished, .draining, .closed: return []
    }
  }

  /// The target could not be connected.
  package mutating func targetFailed() -> RelayActions {
    switch state {
    case .dialing:
      state = .closed
      return [.refuseClient, .closeTarget, .release]
    case .open, .clientFinished, .targetFinished, .bothFinished, .draining, .closed: return []
    }
  }

  /// The client's FIN is in, and everything before it was written to the target.
  package mutating func clientFinished() -> RelayActions {
    switch state {
    case .open:
      state = .clientFinished
      return .finishTarget
    case .targetFinished:
      state = .bothFinished
      return [.finishTarget, .closeTarget]
    case .dialing, .clientFinished, .bothFinished, .draining, .closed: return []
    }
  }

  /// The target's end of stream was read.
  package mutating func targetFinished() -> RelayActions {
    switch state {
    case .open:
      state = .targetFinished
      return .finishClient
    case .clientFinished:
      state = .bothFinished
      return [.finishClient, .closeTarget]
    case .dialing, .targetFinished, .bothFinished, .draining, .closed: return []
    }
  }

  /// The target reset the connection, or writing to it failed for good. Everything that it said
  /// was read.
  package mutating func targetReset() -> RelayActions {
    switch state {
    case .dialing: return targetFailed()
    case .open, .clientFinished, .targetFinished:
      state = .draining
      return [.closeTarget, .drainClient]
    case .bothFinished, .draining, .closed: return []
    }
  }

  /// The client has acknowledged everything that came before the target's reset.
  package mutating func clientDrained() -> RelayActions {
    switch state {
    case .draining:
      state = .closed
      return [.resetClient, .release]
    case .dialing, .open, .clientFinished, .targetFinished, .bothFinished, .closed: return []
    }
  }

  /// The client reset the connection, or is gone for good.
  package mutating func clientReset() -> RelayActions {
    switch state {
    case .dialing, .open, .clientFinished, .targetFinished:
      state = .closed
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.hidesReset) { return [.closeTarget, .release] }
      #endif
      return [.resetTarget, .release]
    case .bothFinished, .draining:
      state = .closed
      return .release
    case .closed: return []
    }
  }

  /// The client's endpoint has ended in good order.
  package mutating func clientClosed() -> RelayActions { clientReset() }

  /// A bound was reached, or an operator asked: both sides are cut.
  package mutating func cut() -> RelayActions {
    switch state {
    case .dialing, .open, .clientFinished, .targetFinished:
      state = .closed
      return [.resetClient, .resetTarget, .release]
    case .bothFinished, .draining:
      state = .closed
      return [.resetClient, .release]
    case .closed: return []
    }
  }
}
