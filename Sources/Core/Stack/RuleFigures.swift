import Configuration
import Primitives
import TCP

// A rule's numbers on one worker: all that a packet of a running flow touches of its rule. Bounds and
// timeouts are copied from the rule when its slot is opened, so that they lie beside what is counted.

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
  var connectTimeout: Interval
  var idleTimeout: Interval
  var udpTimeout: Interval
  /// Zero: off.
  var keepalive: Interval
  var activeMax: Int
  var halfOpenMax: Int
  var congestion: CongestionControl.Algorithm

  /// Of a rule that begins.
  /// - Parameter workers: among which its half-open flows are divided.
  init(_ terms: RuleTerms, workers: Int) {
    connectTimeout = terms.connectTimeout
    idleTimeout = terms.idleTimeout
    udpTimeout = terms.udpTimeout
    keepalive = terms.keepalive
    activeMax = terms.activeMax
    halfOpenMax = max(1, terms.halfOpenMax / workers)
    congestion = terms.congestion
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
