// Reports to render, and the daemon's answer to a request as an HTTP client would get it.

import Configuration
import Control
import Primitives
import Stack
import TestSupport
import Testing
import Wire
import Worker

extension StatusReport {
  /// A small daemon: `name` stands wherever a configuration, a name server or a peer has its say.
  static func sample(
    name: String = "web", workers: Int = 1, flowCount: Int = 1, retired: Bool = false
  ) throws -> StatusReport {
    let worker = WorkerSnapshot(
      flowCount: flowCount, flows: [try .sample(name: name)],
      rules: [.sample(name: name, retired: retired)],
      counters: [
        CounterSample(name: "dials_failed", help: "Help \\ of\n\(name)", value: 3),
        CounterSample(name: "refusals_total", help: "Refusals.", value: 4),
      ],
      drops: [
        DropSample(reason: "no-rule", explanation: "nobody <is> there", value: 5),
        DropSample(reason: "zero-port", explanation: "a port is zero", value: 0),
        DropSample(reason: "device-queue-full", explanation: "no room", value: 0),
      ])
    return StatusReport(
      identity: .init(
        version: "1.2.3", device: "ferry0", flowCountMax: 100, startedAt: 1_795_374_000),
      uptime: .seconds(90_061), reloads: .init(), unresolvedNames: [name],
      workers: Array(repeating: worker, count: workers))
  }
}

extension RuleSummary {
  static func sample(name: String, retired: Bool = false) -> RuleSummary {
    let address = IPPrefix(IPAddress(v4: 0x0A4D_000A))
    let rule = ForwardRule(
      name: name,
      listen: [ListenPattern(addresses: .prefix(address), ports: PortRange(80))],
      target: Target(host: .name(name), port: .fixed(8080)))
    return RuleSummary(
      SharedRule(rule), activeFlows: 1, acceptedTotal: 10, refusedTotal: 2, octetsUp: 1000,
      octetsDown: 2_000_000, retired: retired)
  }
}

extension FlowSummary {
  static func sample(name: String) throws -> FlowSummary {
    FlowSummary(
      tuple: FiveTuple(
        client: try #require(IPAddress("10.77.0.2")), virtual: try #require(IPAddress("fd00::10")),
        clientPort: 40_000, virtualPort: 80, transport: .tcp),
      rule: name, target: name, state: "ESTABLISHED", octetsUp: 17, octetsDown: 4300,
      age: .milliseconds(1500), idle: .milliseconds(40))
  }
}

/// What `GET target` answers.
func answer(
  _ target: String, _ report: StatusReport, wantsHTML: Bool = false
) -> StatusResponse {
  switch StatusRequest.parse(isGetOrHead: true, target: target, wantsHTML: wantsHTML) {
  case .report(let request): request.response(report)
  case .answer(let response): response
  }
}
