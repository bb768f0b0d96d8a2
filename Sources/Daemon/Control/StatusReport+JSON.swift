// The report as JSON: what `GET /api/v1/status` answers.
//
// Intervals are whole milliseconds, octet and packet counts are integers. Members may be added in
// v1, none is renamed or taken away.

import Primitives
import Wire
import Worker

extension StatusReport {
  var json: String {
    var json = JSONText()
    json.object { json in
      json.member("version", identity.version)
      json.member("device", identity.device)
      json.member("started_at", identity.startedAt)
      json.member("uptime_ms", uptime.milliseconds)
      json.member("flow_count", flowCount)
      json.member("flow_count_max", identity.flowCountMax)
      json.member("workers", workers.count)
      json.key("reloads")
      json.object { json in
        json.member("applied", reloads.applied)
        json.member("refused", reloads.refused)
        json.member("last_was_refused", reloads.lastWasRefused)
      }
      json.key("unresolved_names")
      json.array(unresolvedNames) { json, name in json.value(name) }
      json.key("rules")
      json.array(rules, Self.writeRule)
      json.key("flows")
      json.array(flows, Self.writeFlow)
      json.key("counters")
      json.object { json in
        for counter in counters { json.member(counter.name, counter.value) }
      }
      json.key("drops")
      json.object { json in
        for drop in drops { json.member(drop.reason, drop.value) }
      }
      json.key("drop_explanations")
      json.object { json in
        for drop in drops { json.member(drop.reason, drop.explanation) }
      }
    }
    return json.text + "\n"
  }

  private static func writeRule(_ json: inout JSONText, _ rule: RuleSummary) {
    json.object { json in
      json.member("name", rule.name)
      json.member("listen", rule.listen)
      json.member("target", rule.target)
      json.member("active_flows", rule.activeFlows)
      json.member("accepted_total", rule.acceptedTotal)
      json.member("refused_total", rule.refusedTotal)
      json.member("octets_up", rule.octetsUp)
      json.member("octets_down", rule.octetsDown)
      json.member("retired", rule.retired)
    }
  }

  private static func writeFlow(_ json: inout JSONText, _ flow: FlowSummary) {
    json.object { json in
      json.member("protocol", flow.tuple.transport.description)
      json.member("client", flow.tuple.client.endpoint(port: flow.tuple.clientPort))
      json.member("virtual", flow.tuple.virtual.endpoint(port: flow.tuple.virtualPort))
      json.member("worker", flow.worker)
      json.member("rule", flow.rule)
      json.member("target", flow.target)
      json.member("state", flow.state)
      json.member("octets_up", flow.octetsUp)
      json.member("octets_down", flow.octetsDown)
      json.member("age_ms", flow.age.milliseconds)
      json.member("idle_ms", flow.idle.milliseconds)
    }
  }
}
