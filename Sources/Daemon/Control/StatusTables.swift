// The report as tables: the one content of the page, whether for a browser or for a terminal.

import Primitives
import Wire
import Worker

struct StatusTable: Equatable {
  struct Column: Equatable {
    var title: String
    /// Numbers stand at the right of their column.
    var isNumber = false
    /// Sentences may be broken into lines.
    var isSentence = false

    init(_ title: String) { self.title = title }

    static func sentence(_ title: String) -> Column {
      var column = Column(title)
      column.isSentence = true
      return column
    }

    static func number(_ title: String) -> Column {
      var column = Column(title)
      column.isNumber = true
      return column
    }
  }

  var title: String
  var columns: [Column]
  var rows: [[String]]
  /// Said in place of a table without rows.
  var empty: String
}

extension StatusReport {
  /// Pairs of name and value for the head of the page.
  var summary: [(name: String, value: String)] {
    let refused = reloads.refused > 0 ? ", \(reloads.refused) refused" : ""
    return [
      ("version", identity.version), ("up for", StatusUnits.duration(uptime)),
      ("flows", "\(flowCount) of \(identity.flowCountMax)"),
      ("rules", "\(rules.count(where: { !$0.retired }))"),
      ("reloads", "\(reloads.applied) applied\(refused)"),
    ]
  }

  /// What the reader should know before all else.
  var notices: [String] {
    var notices: [String] = []
    if reloads.lastWasRefused {
      notices.append(
        "The newest reload was refused: the file on disk is not what runs. The log says why.")
    }
    if !unresolvedNames.isEmpty {
      notices.append("Without an address: \(unresolvedNames.joined(separator: ", ")).")
    }
    return notices
  }

  var tables: [StatusTable] { [ruleTable, flowTable, dropTable, counterTable] }

  private var ruleTable: StatusTable {
    StatusTable(
      title: "Rules",
      columns: [
        .init("rule"), .sentence("listens on"), .init("leads to"), .number("flows"),
        .number("accepted"), .number("refused"), .number("up"), .number("down"),
      ],
      rows: rules.map { rule in
        [
          rule.retired ? "\(rule.name) (retired)" : rule.name,
          StatusUnits.list(rule.listen), rule.target,
          "\(rule.activeFlows)", "\(rule.acceptedTotal)", "\(rule.refusedTotal)",
          StatusUnits.octets(rule.octetsUp), StatusUnits.octets(rule.octetsDown),
        ]
      }, empty: "No rule.")
  }

  private var flowTable: StatusTable {
    let flows = flows
    return StatusTable(
      title: flows.count < flowCount ? "Flows (newest \(flows.count) of \(flowCount))" : "Flows",
      columns: [
        .init("protocol"), .init("client"), .init("virtual"), .init("rule"), .init("target"),
        .init("state"), .number("up"), .number("down"), .number("age"), .number("idle"),
      ],
      rows: flows.map { flow in
        [
          flow.tuple.transport.description, flow.tuple.client.endpoint(port: flow.tuple.clientPort),
          flow.tuple.virtual.endpoint(port: flow.tuple.virtualPort), flow.rule, flow.target,
          flow.state, StatusUnits.octets(flow.octetsUp), StatusUnits.octets(flow.octetsDown),
          StatusUnits.duration(flow.age), StatusUnits.duration(flow.idle),
        ]
      }, empty: "No flow.")
  }

  private var dropTable: StatusTable {
    StatusTable(
      title: "Drops", columns: [.init("reason"), .number("packets"), .sentence("meaning")],
      rows: drops.filter { $0.value > 0 }.map { [$0.reason, "\($0.value)", $0.explanation] },
      empty: "Nothing was dropped.")
  }

  private var counterTable: StatusTable {
    StatusTable(
      title: "Counters", columns: [.init("counter"), .number("value"), .sentence("meaning")],
      rows: counters.map { counter in
        let isOctets = counter.name.contains("octets")
        let value = isOctets ? StatusUnits.octets(counter.value) : "\(counter.value)"
        return [counter.name, value, counter.help]
      }, empty: "No counter.")
  }
}

/// Numbers as people read them.
package enum StatusUnits {
  /// `17 B`, `4.2 KiB`, `128 MiB`: three digits are enough to see what moves.
  package static func octets(_ count: UInt64) -> String {
    var unit = 0
    var divisor: UInt64 = 1
    let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while unit + 1 < names.count, count / divisor >= 1024 {
      divisor <<= 10
      unit += 1
    }
    let whole = count / divisor
    guard unit > 0, whole < 100 else { return "\(whole) \(names[unit])" }
    // Tenths of the unit below first: the remainder times ten can pass 64 bits.
    let tenths = (count % divisor) / max(1, divisor >> 10) * 10 / 1024
    return "\(whole).\(tenths) \(names[unit])"
  }

  /// The beginning of a list joined by ", ", and how many more there are: a rule may have thousands
  /// of patterns.
  package static func list(_ text: String) -> String {
    let charactersMax = 80
    guard text.utf8.count > charactersMax else { return text }
    let items = text.split(separator: ", ")
    var shown = items.prefix(1).map(String.init)
    var characters = shown.first?.utf8.count ?? 0
    for item in items.dropFirst() {
      characters += 2 + item.utf8.count
      guard characters <= charactersMax else { break }
      shown.append(String(item))
    }
    let left = items.count - shown.count
    return shown.joined(separator: ", ") + (left > 0 ? " and \(left) more" : "")
  }

  /// The two largest units: `3 d 4 h`, `2 min 5 s`, `12 s`, `40 ms`.
  package static func duration(_ interval: Interval) -> String {
    let milliseconds = max(0, interval.milliseconds)
    guard milliseconds >= 1000 else { return "\(milliseconds) ms" }
    let seconds = milliseconds / 1000
    switch seconds {
    case ..<60: return "\(seconds) s"
    case ..<3600: return "\(seconds / 60) min \(seconds % 60) s"
    case ..<86400: return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
    default: return "\(seconds / 86400) d \(seconds % 86400 / 3600) h"
    }
  }
}
