import Configuration
import Logging
import Primitives
import Stack
import Wire

// What is going on, told to those who ask: collected between turns, in the worker's thread. Of rules, which
// may be many, only the numbers are: see `RuleSummary`.

extension WorkerLoop {
  mutating func snapshot() -> WorkerSnapshot {
    var rules: [RuleSummary] = []
    rules.reserveCapacity(stack.rules.slotCount)
    for slot in 0..<UInt32(stack.rules.slotCount) {
      guard let (shared, isRetired) = stack.rules.rule(slot) else { continue }
      let figures = stack.rules.figures(slot).pointee
      rules.append(
        RuleSummary(
          shared, activeFlows: figures.active, acceptedTotal: figures.acceptedTotal,
          refusedTotal: figures.refusedTotal, octetsUp: figures.octetsUp,
          octetsDown: figures.octetsDown, retired: isRetired))
    }
    let flows = stack.flowViews(limit: WorkerSnapshot.flowsMax, at: now).map { view in
      FlowSummary(
        tuple: view.tuple, worker: number, rule: stack.rules.name(view.rule) ?? "",
        target: view.target.endpoint(port: view.targetPort), state: view.state,
        octetsUp: view.octetsUp, octetsDown: view.octetsDown, age: view.age, idle: view.idle)
    }
    let drops = stack.drops
    return WorkerSnapshot(
      flowCount: stack.flowCount, flows: flows, rules: rules, counters: counterSamples(),
      drops: DropReason.allCases.map {
        DropSample(reason: $0.word, explanation: $0.explanation, value: drops[$0])
      })
  }

  private func counterSamples() -> [CounterSample] {
    let c = stack.counters
    return [
      CounterSample(
        name: "tun_packets_received", help: "Packets read from the device.",
        value: c.packetsReceived),
      CounterSample(
        name: "tun_octets_received", help: "Octets read from the device.", value: c.octetsReceived),
      CounterSample(
        name: "tun_packets_sent", help: "Packets written to the device.", value: framesWritten),
      CounterSample(
        name: "tun_packets_rewritten",
        help: "Packets with offload that the device refused, and took as plain ones.",
        value: refusals.rewritten),
      CounterSample(
        name: "tcp_flows_accepted", help: "TCP flows begun by a client's SYN.", value: c.tcpAccepted
      ),
      CounterSample(
        name: "udp_flows_accepted", help: "UDP sessions begun by a client's datagram.",
        value: c.udpAccepted),
      CounterSample(
        name: "dials_failed", help: "Targets that could not be reached.", value: c.dialsFailed),
      CounterSample(
        name: "dials_timed_out", help: "Targets that did not answer in time.",
        value: c.dialsTimedOut),
      CounterSample(
        name: "flows_reset", help: "TCP flows ended by a reset to the client.", value: c.flowsReset),
      CounterSample(
        name: "flows_expired", help: "Flows ended by an idle or connect time-out.",
        value: c.flowsExpired),
      CounterSample(
        name: "flows_evicted", help: "Idle flows that made room, or gave up memory, for others.",
        value: c.flowsEvicted),
      CounterSample(
        name: "syn_cookies_sent", help: "SYNs beyond max_half_open, answered and not kept.",
        value: c.cookiesSent),
      CounterSample(
        name: "syn_cookies_accepted", help: "TCP flows begun by a cookie that came back.",
        value: c.cookiesAccepted),
      CounterSample(
        name: "stalls_relieved",
        help: "Times that a stalled target's socket was made to take what was kept for it.",
        value: c.reliefs),
      CounterSample(
        name: "flows_gone", help: "TCP flows whose client did not answer any more.",
        value: c.flowsGone),
      CounterSample(
        name: "refusals", help: "Packets refused because no rule or no flow is for them.",
        value: c.refusals),
      CounterSample(
        name: "packets_handed_over",
        help: "Packets that came to one worker and were passed to the one they belong to.",
        value: c.handedOver),
      CounterSample(
        name: "echo_replies", help: "Pings answered for covered addresses.", value: c.echoReplies),
      CounterSample(
        name: "icmp_errors_sent", help: "ICMP errors sent to clients.", value: c.icmpErrors),
    ]
  }
}
