// The report as Prometheus text exposition format 0.0.4: what `GET /metrics` answers.
//
// Names follow Prometheus's conventions: prefix `portferry_`, base units, counters end in `_total`.
// Label values are escaped (a rule's name is the user's choice). A family's HELP and TYPE stand once,
// directly before all of its samples, as the format demands.

import Primitives
import Worker

extension StatusReport {
  /// The Content-Type that the format asks for.
  static let metricsContentType = "text/plain; version=0.0.4; charset=utf-8"

  var metrics: String {
    var text = MetricsText()
    text.family("portferry_build_info", .gauge, "The running version.")
    text.sample([("version", identity.version)], 1)
    text.family(
      "portferry_start_time_seconds", .gauge, "When the daemon started, seconds since 1970.")
    text.sample([], UInt64(max(0, identity.startedAt)))
    text.family("portferry_flows", .gauge, "Flows now.")
    text.sample([], UInt64(max(0, flowCount)))
    text.family("portferry_flows_max", .gauge, "Bound on flows (daemon.max_flows).")
    text.sample([], UInt64(max(0, identity.flowCountMax)))
    text.family("portferry_reloads_total", .counter, "Reloads by result.")
    text.sample([("result", "applied")], reloads.applied)
    text.sample([("result", "refused")], reloads.refused)
    text.family(
      "portferry_reload_refused", .gauge,
      "1 while the newest reload was refused, so that the file is not what runs.")
    text.sample([], reloads.lastWasRefused ? 1 : 0)
    text.family(
      "portferry_unresolved_names", .gauge, "Host names of targets without an address now.")
    text.sample([], UInt64(unresolvedNames.count))
    writeRules(to: &text)
    text.family(
      "portferry_dropped_packets_total", .counter,
      "Packets discarded, by reason (portferry(1) explains them).")
    for drop in drops { text.sample([("reason", drop.reason)], drop.value) }
    for counter in counters {
      let suffix = counter.name.hasSuffix("_total") ? "" : "_total"
      text.family("portferry_\(counter.name)\(suffix)", .counter, counter.help)
      text.sample([], counter.value)
    }
    return text.text
  }

  private func writeRules(to text: inout MetricsText) {
    let totals = ruleTotals
    text.family("portferry_rule_flows", .gauge, "Flows now, by rule.")
    for rule in totals { text.sample([("rule", rule.name)], UInt64(max(0, rule.activeFlows))) }
    text.family("portferry_rule_flows_accepted_total", .counter, "Flows opened, by rule.")
    for rule in totals { text.sample([("rule", rule.name)], rule.accepted) }
    text.family("portferry_rule_flows_refused_total", .counter, "Flows refused, by rule.")
    for rule in totals { text.sample([("rule", rule.name)], rule.refused) }
    text.family(
      "portferry_rule_octets_total", .counter,
      "Payload octets, by rule and direction (up: client to target).")
    for rule in totals {
      text.sample([("rule", rule.name), ("direction", "up")], rule.octetsUp)
      text.sample([("rule", rule.name), ("direction", "down")], rule.octetsDown)
    }
  }
}

private struct MetricsText {
  enum Kind: String {
    case counter
    case gauge
  }

  private(set) var text = ""
  private var name = ""

  mutating func family(_ name: String, _ kind: Kind, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n"
    text += "# TYPE \(name) \(kind.rawValue)\n"
  }

  mutating func sample(_ labels: [(name: String, value: String)], _ value: UInt64) {
    text += name
    if !labels.isEmpty {
      let pairs = labels.map { "\($0.name)=\"\(Self.escaped($0.value, quotes: true))\"" }
      text += "{\(pairs.joined(separator: ","))}"
    }
    text += " \(value)\n"
  }

  private static func escaped(_ string: String, quotes: Bool) -> String {
    var result = ""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
