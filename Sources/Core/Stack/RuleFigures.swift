import Configuration
import Primitives
import TCP

// A rule's numbers on one worker: all that a packet of a running flow touches of its rule. Bounds are copied
// from the rule when its slot is opened, so that they lie beside what is counted.

/// What bounds the flows of a rule.
struct RuleBounds: BitwiseCopyable {
  var connectTimeout: Interval
  var idleTimeout: Interval
  var udpTimeout: Interval
  /// Zero: off.
  var keepalive: Interval
  var activeMax: Int
  var halfOpenMax: Int
  var congestion: CongestionControl.Algorithm

  init(_ rule: ForwardRule) {
    connectTimeout = rule.connectTimeout
    idleTimeout = rule.idleTimeout
    udpTimeout = rule.udpTimeout
    keepalive = rule.keepalive ?? .zero
    activeMax = rule.maxConnections ?? .max
    halfOpenMax = rule.maxHalfOpen
    congestion = CongestionControl.Algorithm(rule.congestion)
  }
}

/// What is counted and bounded per rule.
package struct RuleFigures: BitwiseCopyable, Sendable {
  /// Flows of the rule, those in TIME-WAIT included.
  var held = 0
  /// Flows of the rule that rest in TIME-WAIT.
  var resting = 0
  package var active: Int { held - resting }
  /// Flows whose client has not answered yet.
  package var halfOpen = 0
  package var acceptedTotal: UInt64 = 0
  package var refusedTotal: UInt64 = 0
  package var octetsUp: UInt64 = 0
  package var octetsDown: UInt64 = 0
  var bounds: RuleBounds

  /// Of a rule that begins.
  /// - Parameter workers: among which its half-open flows are divided.
  init(_ bounds: RuleBounds, workers: Int) {
    self.bounds = bounds
    self.bounds.halfOpenMax = max(1, bounds.halfOpenMax / workers)
  }
}

extension CongestionControl.Algorithm {
  init(_ algorithm: CongestionAlgorithm) {
    switch algorithm {
    case .cubic: self = .cubic
    case .newReno: self = .newReno
    }
  }
}
