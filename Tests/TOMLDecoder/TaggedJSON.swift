// toml-test's notation: tables and arrays as JSON's own, everything else as {"type": …, "value": …}.

import TOML

func taggedJSON(_ table: TOMLTable) -> String {
  let members = table.entries.map { "\(quoted($0.key.text)): \(taggedJSON($0.value))" }
  return "{" + members.joined(separator: ", ") + "}"
}

func taggedJSON(_ value: TOMLValue) -> String {
  switch value.content {
  case .table(let table): return taggedJSON(table)
  case .array(let elements): return "[" + elements.map(taggedJSON).joined(separator: ", ") + "]"
  case .string(let text): return tagged("string", text)
  case .integer(let number): return tagged("integer", String(number))
  case .float(let number): return tagged("float", number.isNaN ? "nan" : String(number))
  case .boolean(let flag): return tagged("bool", String(flag))
  case .offsetDateTime(let instant): return tagged("datetime", String(describing: instant))
  case .localDateTime(let local): return tagged("datetime-local", String(describing: local))
  case .localDate(let date): return tagged("date-local", String(describing: date))
  case .localTime(let time): return tagged("time-local", String(describing: time))
  case .invalid: return "null"
  }
}

private func tagged(_ type: String, _ value: String) -> String {
  "{\"type\": \"\(type)\", \"value\": \(quoted(value))}"
}

private func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
