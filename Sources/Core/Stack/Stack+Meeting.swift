import Configuration
import Primitives
import SocketTable
import TCP
import Wire

// What a client meets at a port, and which of the target's addresses is dialled next.
//
// A target has one address, or those of a host name, which are tried in their order until one
// connects. `connect_timeout` bounds all attempts of a TCP flow together: each gets an equal share of
// what is left of it, so that a silent address cannot use up the others' time, and one that fails at
// once leaves its share to them. A failure is told to the client after the last address; if any of
// them refused, that is what it is told. When this host itself has no socket to give, no other address
// is tried.

/// One address of a rule's target.
struct DialTarget: BitwiseCopyable {
  var address: IPAddress
  var port: UInt16
  /// Its number among the target's addresses.
  var attempt: UInt8
}

extension Stack {
  enum Meeting {
    case rule(UInt32, DialTarget)
    /// A rule, but nowhere to lead: its host name has no address, or it leads back to the device.
    case nowhere(UInt32)
    /// A rule that has as many flows as it may have.
    case full(UInt32)
    case nobody
  }

  func meet(_ tuple: FiveTuple) -> Meeting {
    guard let socket = rules.passiveSocket(for: tuple) else { return .nobody }
    let rule = socket.rule
    guard !rules.isFull(rule) else { return .full(rule) }
    let port = rules.port(rule, for: tuple.virtualPort, in: socket.ports)
    guard let target = dialTarget(rule, virtual: tuple.virtual, port: port, from: 0) else {
      return .nowhere(rule)
    }
    return .rule(rule, target)
  }

  /// Counts and notes a client that no rule is for.
  mutating func meetNobody(_ tuple: FiveTuple) {
    let isCovered = rules.table.covers(tuple.virtual)
    memory.drops.count(isCovered ? .noRule : .notForUs)
    turnAway(tuple, isCovered ? .noRule : .notForUs)
  }

  /// The first address from number `attempt` on that does not lead back to the device.
  private func dialTarget(
    _ rule: UInt32, virtual: IPAddress, port: UInt16, from attempt: Int
  ) -> DialTarget? {
    var attempt = attempt
    while let number = UInt8(exactly: attempt),
      let address = rules.address(rule, virtual: virtual, attempt: attempt)
    {
      if !ownPrefixes.contains(address) {
        return DialTarget(address: address, port: port, attempt: number)
      }
      attempt += 1
    }
    return nil
  }

  /// Until when the TCP flow's present attempt may take.
  func attemptBound(_ slot: UInt32, at now: MonotonicInstant) -> MonotonicInstant {
    let flow = flows[slot]
    let end = connectBound(slot)
    guard end > now else { return end }
    let left = max(1, rules.addressCount(flow.rule) - Int(flow.attempt))
    return now + Interval(nanoseconds: (end - now).nanoseconds / Int64(left))
  }

  /// When the last attempt must have connected.
  func connectBound(_ slot: UInt32) -> MonotonicInstant {
    flows[slot].openedAt + rules.figures(flows[slot].rule).pointee.bounds.connectTimeout
  }

  /// Has the flow dial its target's next address after a failed attempt, whose socket the owner closes
  /// in this turn: that of TCP might connect yet, while the next address waits to be dialled; a session
  /// does not wait, and its socket is closed as it dials. False when there is none, or no time left.
  mutating func dialNext(
    _ slot: UInt32, after failure: TargetFailure, at now: MonotonicInstant
  ) -> Bool {
    if case .exhausted = failure { return false }
    let flow = flows[slot]
    guard !flow.marks.contains(.unlinked), now < connectBound(slot),
      let next = dialTarget(
        flow.rule, virtual: flow.tuple.virtual, port: flow.targetPort,
        from: Int(flow.attempt) + 1)
    else { return false }
    flows[slot].target = next.address
    flows[slot].attempt = next.attempt
    want(slot, .dial)
    if flow.isTCP {
      if flow.marks.contains(.hasSocket) { want(slot, .closeTarget) }
      flows[slot].expiresAt = connectBound(slot)
      schedule(slot)
    }
    return true
  }

  /// Takes the prefixes that lead back into the device and its addresses: see `StackSettings`. Running
  /// flows are not looked at again.
  package mutating func setOwnPrefixes(
    _ prefixes: [IPPrefix], addresses: [InterfaceAddress]
  ) {
    settings.ownPrefixes = prefixes
    settings.ownAddresses = addresses
    ownPrefixes = OwnPrefixes(prefixes, except: addresses.map(\.address))
    broadcasts = DirectedBroadcasts(of: addresses)
  }
}
