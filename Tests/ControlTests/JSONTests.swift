// JSON: the writer by itself, then the report, both read back by a strict reader.

import Control
import Primitives
import TestSupport
import Testing
import Worker

@Suite("JSON text (RFC 8259)") struct JSONTextTests {
  static func written(_ body: (inout JSONText) -> Void) -> String {
    var json = JSONText()
    body(&json)
    return json.text
  }

  @Test("commas and colons stand where they must, nesting and empty ones included")
  func structure() {
    let text = Self.written { json in
      json.object { json in
        json.member("a", 1)
        json.key("b")
        json.array([[], [1], [2, 3]]) { json, inner in
          json.array(inner) { json, number in json.value(number) }
        }
        json.key("c")
        json.object { _ in }
        json.member("d", true)
        json.key("e")
        json.null()
        json.member("f", "g")
      }
    }
    #expect(text == #"{"a":1,"b":[[],[1],[2,3]],"c":{},"d":true,"e":null,"f":"g"}"#)
  }

  @Test("integers of every width are written in full") func numbers() {
    #expect(Self.written { $0.value(UInt64.max) } == "18446744073709551615")
    #expect(Self.written { $0.value(Int64.min) } == "-9223372036854775808")
    #expect(Self.written { $0.value(UInt8(0)) } == "0")
  }

  @Test("every string reads back, as a value and as a name", arguments: HostileText.samples)
  func strings(text: String) {
    let json = Self.written { json in json.object { $0.member(text, text) } }
    // Scalars, not characters: equality of strings would not see another normal form.
    guard case .object(let members) = JSONValue(json), let (name, value) = members.first,
      members.count == 1, case .string(let string) = value
    else {
      Issue.record("\(json)")
      return
    }
    #expect(Array(name.unicodeScalars) == Array(text.unicodeScalars))
    #expect(Array(string.unicodeScalars) == Array(text.unicodeScalars))
    #expect(json.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
  }

  @Test("every control character and every corner of Unicode reads back") func allControls() {
    for value in Array(0...0x2ff) + [0xd7ff, 0xe000, 0xfffe, 0xffff, 0x10000, 0x10ffff] as [UInt32]
    {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let text = "x\(Character(scalar))y"
      #expect(JSONValue(Self.written { $0.value(text) }) == .string(text), "\(value)")
    }
  }
}

@Suite("Status as JSON") struct StatusJSONTests {
  @Test("the report's members have their values") func members() throws {
    var report = try StatusReport.sample(workers: 2)
    report.droppedPackets = 7
    report.reloads.applied = 3
    report.reloads.refused = 1
    report.reloads.lastWasRefused = true
    let json = try #require(JSONValue(answer("/api/v1/status", report).body))
    #expect(json["version"] == .string("1.2.3"))
    #expect(json["device"] == .string("ferry0"))
    #expect(json["started_at"] == .number("1795374000"))
    #expect(json["uptime_ms"] == .number("90061000"))
    #expect(json["flow_count"] == .number("2"))
    #expect(json["flow_count_max"] == .number("100"))
    #expect(json["reloads"]?["applied"] == .number("3"))
    #expect(json["reloads"]?["refused"] == .number("1"))
    #expect(json["reloads"]?["last_was_refused"] == .bool(true))
    #expect(json["unresolved_names"] == .array([.string("web")]))
    #expect(json["counters"]?["dials_failed"] == .number("6"))
    #expect(json["drops"]?["no-rule"] == .number("10"))
    #expect(json["drops"]?["zero-port"] == .number("0"))
    #expect(json["drops"]?["device-queue-full"] == .number("7"))
    #expect(json["drop_explanations"]?["zero-port"] == .string("a port is zero"))
    #expect(json["workers"] == .number("2"))
    let rule = json["rules"]?[0]
    #expect(rule?["name"] == .string("web"))
    #expect(rule?["active_flows"] == .number("2"))
    #expect(rule?["accepted_total"] == .number("20"))
    #expect(rule?["refused_total"] == .number("4"))
    #expect(rule?["octets_up"] == .number("2000"))
    #expect(rule?["octets_down"] == .number("4000000"))
    #expect(rule?["retired"] == .bool(false))
    #expect(json["rules"]?[1] == nil)
    let flow = json["flows"]?[0]
    #expect(flow?["worker"] == .number("0"))
    #expect(flow?["protocol"] == .string("tcp"))
    #expect(flow?["client"] == .string("10.77.0.2:40000"))
    #expect(flow?["virtual"] == .string("[fd00::10]:80"))
    #expect(flow?["state"] == .string("ESTABLISHED"))
    #expect(flow?["age_ms"] == .number("1500"))
    #expect(flow?["idle_ms"] == .number("40"))
  }

  @Test("several workers' rules are one list, and their newest flows another") func joined() throws
  {
    var report = try StatusReport.sample(workers: 3)
    report.workers[1].rules.append(.sample(name: "old", retired: true))
    report.workers[2].rules.insert(.sample(name: "old", retired: true), at: 0)
    for worker in report.workers.indices {
      let flow = try FlowSummary.sample(name: "web")
      report.workers[worker].flows = (0..<WorkerSnapshot.flowsMax).map { number in
        var each = flow
        each.worker = worker
        each.age = .milliseconds(number * 3 + worker)
        return each
      }
    }
    let json = try #require(JSONValue(answer("/api/v1/status", report).body))
    #expect(json["rules"]?[0]?["name"] == .string("web"))
    #expect(json["rules"]?[0]?["active_flows"] == .number("3"))
    #expect(json["rules"]?[1]?["name"] == .string("old"))
    #expect(json["rules"]?[1]?["active_flows"] == .number("2"))
    #expect(json["rules"]?[2] == nil)
    for place in [0, 1, 500, 999] {
      #expect(json["flows"]?[place]?["age_ms"] == .number("\(place)"))
      #expect(json["flows"]?[place]?["worker"] == .number("\(place % 3)"))
    }
    #expect(json["flows"]?[1000] == nil)
  }

  @Test("a daemon without workers is valid JSON") func empty() throws {
    var report = try StatusReport.sample()
    report.workers = []
    report.unresolvedNames = []
    let json = try #require(JSONValue(answer("/api/v1/status", report).body))
    #expect(json["flows"] == .array([]))
    #expect(json["rules"] == .array([]))
    #expect(json["drops"] == .object([:]))
  }

  @Test("hostile names read back as they are", arguments: HostileText.samples)
  func hostile(name: String) throws {
    let json = try #require(JSONValue(answer("/api/v1/status", try .sample(name: name)).body))
    #expect(json["rules"]?[0]?["name"] == .string(name))
    #expect(json["flows"]?[0]?["target"] == .string(name))
    #expect(json["unresolved_names"] == .array([.string(name)]))
  }
}
