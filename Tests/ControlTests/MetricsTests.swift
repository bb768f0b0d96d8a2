// The metrics, read as a scraper reads them.

import Control
import TestSupport
import Testing
import Worker

@Suite("Metrics (Prometheus text format 0.0.4)") struct MetricsTests {
  static func read(_ report: StatusReport) throws -> MetricsReader {
    try #require(MetricsReader(answer("/metrics", report).body))
  }

  static func value(_ metrics: MetricsReader, _ name: String, _ labels: [String: String] = [:])
    -> UInt64?
  {
    metrics.samples[.init(name: "portferry_" + name, labels: labels)]
  }

  @Test("every family has its help, its type and its samples") func samples() throws {
    var report = try StatusReport.sample(workers: 3, flowCount: 7)
    report.reloads.applied = 2
    report.reloads.refused = 1
    report.reloads.lastWasRefused = true
    let metrics = try Self.read(report)
    #expect(Set(metrics.kinds.keys) == Set(metrics.helps.keys))
    #expect(Self.value(metrics, "build_info", ["version": "1.2.3"]) == 1)
    #expect(Self.value(metrics, "start_time_seconds") == 1_795_374_000)
    #expect(Self.value(metrics, "flows") == 21)
    #expect(Self.value(metrics, "flows_max") == 100)
    #expect(Self.value(metrics, "reloads_total", ["result": "applied"]) == 2)
    #expect(Self.value(metrics, "reloads_total", ["result": "refused"]) == 1)
    #expect(Self.value(metrics, "reload_refused") == 1)
    #expect(Self.value(metrics, "unresolved_names") == 1)
    #expect(Self.value(metrics, "rule_flows", ["rule": "web"]) == 3)
    #expect(Self.value(metrics, "rule_flows_accepted_total", ["rule": "web"]) == 30)
    #expect(Self.value(metrics, "rule_flows_refused_total", ["rule": "web"]) == 6)
    #expect(
      Self.value(metrics, "rule_octets_total", ["rule": "web", "direction": "up"]) == 3000)
    #expect(
      Self.value(metrics, "rule_octets_total", ["rule": "web", "direction": "down"])
        == 6_000_000)
    #expect(Self.value(metrics, "dropped_packets_total", ["reason": "no-rule"]) == 15)
    #expect(Self.value(metrics, "dropped_packets_total", ["reason": "zero-port"]) == 0)
    #expect(Self.value(metrics, "dials_failed_total") == 9)
    #expect(Self.value(metrics, "refusals_total") == 12)
  }

  @Test("a retired rule and its successor of the same name are one series") func sameName() throws {
    var report = try StatusReport.sample()
    report.workers[0].rules.append(.sample(name: "web", retired: true))
    report.workers[0].rules.append(.sample(name: "ssh"))
    let metrics = try Self.read(report)
    #expect(Self.value(metrics, "rule_flows", ["rule": "web"]) == 2)
    #expect(Self.value(metrics, "rule_flows", ["rule": "ssh"]) == 1)
  }

  @Test("a daemon without workers is valid") func empty() throws {
    var report = try StatusReport.sample()
    report.workers = []
    let metrics = try Self.read(report)
    #expect(Self.value(metrics, "flows") == 0)
    #expect(metrics.kinds["portferry_rule_flows"] == "gauge")
  }

  @Test("sums wrap instead of trapping, and a clock before 1970 is zero") func extremes() throws {
    var report = try StatusReport.sample(workers: 2)
    for worker in report.workers.indices {
      report.workers[worker].rules[0].octetsUp = .max
      report.workers[worker].counters[0].value = .max
      report.workers[worker].drops[0].value = .max
    }
    report.identity.startedAt = -1
    let metrics = try Self.read(report)
    #expect(
      Self.value(metrics, "rule_octets_total", ["rule": "web", "direction": "up"]) == UInt64.max - 1
    )
    #expect(Self.value(metrics, "dials_failed_total") == UInt64.max - 1)
    #expect(Self.value(metrics, "dropped_packets_total", ["reason": "no-rule"]) == UInt64.max - 1)
    #expect(Self.value(metrics, "start_time_seconds") == 0)
  }

  @Test("hostile names read back as labels and add no line", arguments: HostileText.samples)
  func hostile(name: String) throws {
    let metrics = try Self.read(try .sample(name: name))
    let plain = try Self.read(try .sample())
    #expect(metrics.samples.count == plain.samples.count)
    let rule = try #require(metrics.samples.keys.first { $0.name == "portferry_rule_flows" })
    #expect(Array((rule.labels["rule"] ?? "-").unicodeScalars) == Array(name.unicodeScalars))
    #expect(metrics.helps["portferry_dials_failed_total"] == "Help \\ of\n\(name)")
  }
}
