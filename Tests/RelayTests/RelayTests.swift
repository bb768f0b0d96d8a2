import Primitives
import Relay
import Testing

// The relay as a table: every state, every event, what is done and where it leads.

@Suite("Relay: every state, every event")
struct RelayTests {
  enum Event: CaseIterable {
    case targetConnected, targetFailed, clientFinished, targetFinished, targetReset, clientDrained
    case clientReset, clientClosed, cut
  }

  private func apply(_ event: Event, _ relay: inout Relay) -> RelayActions {
    switch event {
    case .targetConnected: relay.targetConnected()
    case .targetFailed: relay.targetFailed()
    case .clientFinished: relay.clientFinished()
    case .targetFinished: relay.targetFinished()
    case .targetReset: relay.targetReset()
    case .clientDrained: relay.clientDrained()
    case .clientReset: relay.clientReset()
    case .clientClosed: relay.clientClosed()
    case .cut: relay.cut()
    }
  }

  /// A relay that was led to a state.
  private func relay(in state: Relay.State) -> Relay {
    var relay = Relay()
    let way: [Event] =
      switch state {
      case .dialing: []
      case .open: [.targetConnected]
      case .clientFinished: [.targetConnected, .clientFinished]
      case .targetFinished: [.targetConnected, .targetFinished]
      case .bothFinished: [.targetConnected, .clientFinished, .targetFinished]
      case .draining: [.targetConnected, .targetReset]
      case .closed: [.targetFailed]
      }
    for event in way { _ = apply(event, &relay) }
    return relay
  }

  private static let states: [Relay.State] = [
    .dialing, .open, .clientFinished, .targetFinished, .bothFinished, .draining, .closed,
  ]

  /// What is not in the table changes nothing and asks for nothing.
  private static let table: [(Relay.State, Event, Relay.State, RelayActions)] = [
    (.dialing, .targetConnected, .open, .answerClient),
    (.dialing, .targetFailed, .closed, [.refuseClient, .closeTarget, .release]),
    (.dialing, .targetReset, .closed, [.refuseClient, .closeTarget, .release]),
    (.dialing, .clientReset, .closed, [.resetTarget, .release]),
    (.dialing, .clientClosed, .closed, [.resetTarget, .release]),
    (.dialing, .cut, .closed, [.resetClient, .resetTarget, .release]),
    (.open, .clientFinished, .clientFinished, .finishTarget),
    (.open, .targetFinished, .targetFinished, .finishClient),
    (.open, .targetReset, .draining, [.closeTarget, .drainClient]),
    (.open, .clientReset, .closed, [.resetTarget, .release]),
    (.open, .clientClosed, .closed, [.resetTarget, .release]),
    (.open, .cut, .closed, [.resetClient, .resetTarget, .release]),
    (.clientFinished, .targetFinished, .bothFinished, [.finishClient, .closeTarget]),
    (.clientFinished, .targetReset, .draining, [.closeTarget, .drainClient]),
    (.clientFinished, .clientReset, .closed, [.resetTarget, .release]),
    (.clientFinished, .clientClosed, .closed, [.resetTarget, .release]),
    (.clientFinished, .cut, .closed, [.resetClient, .resetTarget, .release]),
    (.targetFinished, .clientFinished, .bothFinished, [.finishTarget, .closeTarget]),
    (.targetFinished, .targetReset, .draining, [.closeTarget, .drainClient]),
    (.targetFinished, .clientReset, .closed, [.resetTarget, .release]),
    (.targetFinished, .clientClosed, .closed, [.resetTarget, .release]),
    (.targetFinished, .cut, .closed, [.resetClient, .resetTarget, .release]),
    (.bothFinished, .clientReset, .closed, .release),
    (.bothFinished, .clientClosed, .closed, .release),
    (.bothFinished, .cut, .closed, [.resetClient, .release]),
    (.draining, .clientDrained, .closed, [.resetClient, .release]),
    (.draining, .clientReset, .closed, .release),
    (.draining, .clientClosed, .closed, .release),
    (.draining, .cut, .closed, [.resetClient, .release]),
  ]

  @Test(
    "a transition leads where the table says, and asks for what it says", arguments: Event.allCases)
  func transitions(event: Event) {
    for state in Self.states {
      var relay = relay(in: state)
      #expect(relay.state == state)
      let actions = apply(event, &relay)
      let row = Self.table.first { $0.0 == state && $0.1 == event }
      #expect(relay.state == row?.2 ?? state, "\(event) in \(state)")
      #expect(actions == row?.3 ?? [], "\(event) in \(state)")
    }
  }

  @Test("the flow is given up exactly when the state becomes closed")
  func releases() {
    for state in Self.states {
      for event in Event.allCases {
        var relay = relay(in: state)
        let actions = apply(event, &relay)
        let closes = relay.state == .closed && state != .closed
        #expect(actions.contains(.release) == closes, "\(event) in \(state)")
      }
    }
  }

  @Test("the target is read and written in just the halves that are open")
  func halves() {
    #expect(Self.states.filter { relay(in: $0).readsTarget } == [.open, .clientFinished])
    #expect(Self.states.filter { relay(in: $0).writesTarget } == [.open, .targetFinished])
  }
}
