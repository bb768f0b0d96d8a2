// A strict reader of Prometheus's text exposition format 0.0.4: what a scraper accepts, and what
// `promtool check metrics` complains about. Nil when the text is anything else.

struct MetricsReader {
  struct Sample: Hashable {
    var name: String
    var labels: [String: String]
  }

  private(set) var samples: [Sample: UInt64] = [:]
  private(set) var kinds: [String: String] = [:]
  private(set) var helps: [String: String] = [:]
  private var family = ""

  init?(_ text: String) {
    guard text.utf8.last == UInt8(ascii: "\n") else { return nil }
    // Octets: to Characters, "\r\n" would be one.
    for line in text.utf8.dropLast().split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    {
      guard read(Array(String(Substring(line)).unicodeScalars)) else { return nil }
    }
  }

  private mutating func read(_ line: [Unicode.Scalar]) -> Bool {
    if line.starts(with: "# HELP ".unicodeScalars) { return readHelp(Array(line.dropFirst(7))) }
    if line.starts(with: "# TYPE ".unicodeScalars) { return readType(Array(line.dropFirst(7))) }
    return readSample(line)
  }

  /// A family begins here, and never twice.
  private mutating func readHelp(_ line: [Unicode.Scalar]) -> Bool {
    let name = Self.text(line.prefix { $0 != " " })
    guard Self.isName(name, colons: true), helps[name] == nil, line.contains(" "),
      let help = Self.unescaped(line[(name.unicodeScalars.count + 1)...], quotes: false)
    else { return false }
    helps[name] = help
    family = name
    return true
  }

  private mutating func readType(_ line: [Unicode.Scalar]) -> Bool {
    let words = line.split(separator: " ", omittingEmptySubsequences: false).map { Self.text($0) }
    guard words.count == 2, words[0] == family, kinds[family] == nil,
      ["counter", "gauge"].contains(words[1]),
      (words[1] == "counter") == family.hasSuffix("_total")
    else { return false }
    kinds[family] = words[1]
    return true
  }

  private mutating func readSample(_ line: [Unicode.Scalar]) -> Bool {
    let name = Self.text(line.prefix { $0 != " " && $0 != "{" })
    guard name == family, kinds[family] != nil else { return false }
    var rest = line.dropFirst(name.unicodeScalars.count)
    var labels: [String: String] = [:]
    if rest.first == "{" {
      repeat {
        rest = rest.dropFirst()
        let label = Self.text(rest.prefix { $0 != "=" })
        rest = rest.dropFirst(label.unicodeScalars.count)
        guard Self.isName(label, colons: false), labels[label] == nil,
          rest.starts(with: "=\"".unicodeScalars)
        else { return false }
        rest = rest.dropFirst(2)
        guard let end = Self.closingQuote(rest),
          let value = Self.unescaped(rest[..<end], quotes: true)
        else { return false }
        labels[label] = value
        rest = rest[(end + 1)...]
      } while rest.first == ","
      guard rest.first == "}" else { return false }
      rest = rest.dropFirst()
    }
    let sample = Sample(name: name, labels: labels)
    guard rest.first == " ", samples[sample] == nil, let value = UInt64(Self.text(rest.dropFirst()))
    else { return false }
    samples[sample] = value
    return true
  }

  private static func text(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    var text = ""
    text.unicodeScalars.append(contentsOf: scalars)
    return text
  }

  private static func isName(_ name: String, colons: Bool) -> Bool {
    guard let first = name.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9") ~= first) else {
      return false
    }
    return name.unicodeScalars.allSatisfy { scalar in
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "_": true
      case ":": colons
      default: false
      }
    }
  }

  private static func closingQuote(_ scalars: ArraySlice<Unicode.Scalar>) -> Int? {
    var isEscaped = false
    for place in scalars.indices {
      if isEscaped {
        isEscaped = false
      } else if scalars[place] == "\\" {
        isEscaped = true
      } else if scalars[place] == "\"" {
        return place
      }
    }
    return nil
  }

  private static func unescaped(_ scalars: ArraySlice<Unicode.Scalar>, quotes: Bool) -> String? {
    var result = ""
    var rest = scalars
    while let scalar = rest.popFirst() {
      guard scalar == "\\" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      switch rest.popFirst() {
      case "\\": result += "\\"
      case "n": result += "\n"
      case "\"" where quotes: result += "\""
      default: return nil
      }
    }
    return result
  }
}
