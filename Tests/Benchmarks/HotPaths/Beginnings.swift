import Configuration
import Primitives
import Stack
import Wire

// Flows that begin and end. What rules say is shared by all workers, who only read it: no reference to
// it may be counted, for the count would be written by all of them.

/// A path that can stand on rules which it shares with other workers.
package protocol RuledHotPath: HotPath, ~Copyable, SendableMetatype {
  /// - Parameter rules: one of them takes the path's clients, at port 80.
  init(rules: RuleSet)
  /// The rules of a reload.
  mutating func install(_ rules: RuleSet)
}

/// Whole connections: SYN, target, an octet, both FINs.
package struct Connections: RuledHotPath, ~Copyable {
  package static let name = "connections, opened and closed"
  private static let packetsEach = 5
  private var world: HotWorld

  package init() { world = HotWorld() }

  package init(rules: RuleSet) { world = HotWorld(rules: rules) }

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: Self.packetsEach) { world in
      world.worker.client.restart()
      world.worker.finishes = false
      world.worker.connect()
      world.send(.pushed, payloadOctets: 1)
      world.worker.finishes = true
      world.wake()
      world.send(.finished)
      world.send(.ack)
      world.sent += 1
    }
  }

  package mutating func install(_ rules: RuleSet) { world.install(rules) }

  /// A host name's newest answer.
  package mutating func resolved(_ name: String, _ addresses: [IPAddress]) {
    world.worker.stack.resolved(name, addresses)
  }

  package func failure() -> String? {
    let left = world.worker.stack.flowCount
    return left == 0 ? world.uploadFailure() : "\(left) flows are left"
  }
}

/// The same to a host name, under a bound that workers share.
package struct BoundedConnections: HotPath, ~Copyable {
  package static let name = "connections to a host name, under a bound"
  private var connections: Connections
  private let rules: RuleSet

  package init() {
    rules = RuleSet([.hot(to: .name("api.example"), maxConnections: 1)], isShared: true)
    connections = Connections(rules: rules)
    connections.resolved("api.example", [IPAddress(v4: 0xCB00_7105), IPAddress(v4: 0xCB00_7106)])
  }

  package mutating func drive(packets: Int) -> Int { connections.drive(packets: packets) }

  package func failure() -> String? {
    let count = rules.rules[0].count?.value
    return count == 0 ? connections.failure() : "a bound counts \(count ?? -1) flows of none"
  }
}

/// Sessions of one query and its answer, ended by silence.
package struct Sessions: RuledHotPath, ~Copyable {
  package static let name = "sessions, begun and ended"
  private var world: HotWorld

  package init() { world = HotWorld() }

  package init(rules: RuleSet) { world = HotWorld(rules: rules) }

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets, each: 2) { world in
      world.sendDatagrams(octets: 64)
      world.worker.datagramsWaiting = 1
      world.wake()
      world.worker.advance(microseconds: Self.silence)
      world.worker.turn()
      world.sent += 1
    }
  }

  /// Beyond `udp_timeout`, in microseconds.
  private static let silence = ForwardRule.udpTimeoutDefault.microseconds + 1_000_000

  package mutating func install(_ rules: RuleSet) { world.install(rules) }

  package func failure() -> String? {
    let left = world.worker.stack.flowCount
    guard left == 0 else { return "\(left) flows are left" }
    guard Int(world.worker.stack.counters.udpAccepted) == world.sent else {
      return "a session outlived its silence"
    }
    return world.failure(of: "queries", came: world.worker.datagramsTaken)
      ?? world.failure(of: "answers", came: world.worker.framesSent)
  }
}

/// Connections to a rule that leads nowhere: refused.
package struct TurnedAway: HotPath, ~Copyable {
  package static let name = "clients that are turned away"
  private var world = HotWorld(rules: RuleSet([.hot(to: .name("nobody.example"))]))

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    world.drive(packets: packets) { world in
      world.worker.client.restart()
      world.send(.syn)
      world.worker.stack.forgetTurnedAway()
      world.sent += 1
    }
  }

  package func failure() -> String? {
    world.failure(of: "refusals", came: Int(world.worker.stack.counters.refusals))
  }
}

extension HotWorld {
  mutating func install(_ rules: RuleSet) {
    worker.stack.install(
      rules, unmatched: .drop, drainTimeout: .seconds(30), at: worker.now)
  }
}

extension ForwardRule {
  /// Takes TCP and UDP at port 80 of every address.
  package static func hot(
    to host: TargetHost = .original, maxConnections: Int? = nil
  ) -> ForwardRule {
    ForwardRule(
      name: "a rule whose name is no small string", protocols: [.tcp, .udp],
      listen: [ListenPattern(addresses: .any, ports: PortRange(80))],
      target: Target(host: host, port: .same), maxConnections: maxConnections)
  }
}
