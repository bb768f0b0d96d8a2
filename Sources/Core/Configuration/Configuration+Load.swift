// From the octets of a file to a configuration, or to everything that is wrong with it.
//
// One pass finds all: the TOML parser goes on behind its errors and marks what was lost, the readers
// check whatever could be read, the rules are compared with one another. Nothing here touches the
// system: whether a namespace, a user or an address exists is found out by who uses it. A file is
// untrusted: what it can cause at most is bounded by `TOMLDocument.octetCountMax` and the bounds on
// each section.

import TOML
import Wire

/// A file that is no configuration: every error and warning, in the order of the file.
package struct ConfigurationErrors: Error, Sendable, CustomStringConvertible {
  /// At least one of them an error.
  package let diagnostics: [Diagnostic]

  /// All of them as text for people, one after the other.
  package var description: String {
    diagnostics.map { $0.render() }.joined(separator: "\n")
  }
}

/// A configuration, and what is odd about its file.
package struct LoadedConfiguration: Sendable {
  package let configuration: Configuration
  package let warnings: [Diagnostic]
}

extension Configuration {
  /// Reads a configuration file.
  /// - Parameters:
  ///   - bytes: the content.
  ///   - file: what messages call it.
  /// - Throws: everything that is wrong, up to `DiagnosticLog.errorCountMax` errors.
  package static func load(
    _ bytes: [UInt8], file: String
  ) throws(ConfigurationErrors) -> LoadedConfiguration {
    let document = TOMLDocument(parsing: bytes, file: file)
    var reader = SectionReader(log: document.log)
    let configuration = reader.configuration(document.root)
    let diagnostics = reader.log.inOrder()
    guard !reader.log.hasErrors else { throw ConfigurationErrors(diagnostics: diagnostics) }
    return LoadedConfiguration(configuration: configuration, warnings: diagnostics)
  }
}

extension SectionReader {
  private static let topLevelKeys = ["device", "daemon", "defaults", "forward"]
  private static let laterTopLevelKeys = ["publish", "dns"]

  fileprivate mutating func configuration(_ root: TOMLTable) -> Configuration {
    checkTopLevel(root)
    var configuration = Configuration()
    if let section = section("device", in: root, place: "[device]") {
      configuration.device = device(section)
    }
    if let section = section("daemon", in: root, place: "[daemon]") {
      configuration.daemon = daemon(section)
    }
    var defaults = RuleOptions()
    if let section = section("defaults", in: root, place: "[defaults]") {
      defaults = self.defaults(section)
    }
    let rules = forwards(root, defaults: defaults)
    checkRules(rules, device: configuration.device)
    configuration.forwards = rules.compactMap(\.rule)
    if rules.isEmpty, !log.hasErrors {
      log.warning("no rules: nothing is forwarded", hint: "a rule begins with [[forward]]")
    }
    return configuration
  }

  private mutating func checkTopLevel(_ root: TOMLTable) {
    for entry in root.entries where !Self.topLevelKeys.contains(entry.key.text) {
      let name = entry.key.text
      let place: String
      switch entry.value.content {
      case .table: place = "[\(name)]"
      case .array: place = "[[\(name)]]"
      default: place = name
      }
      if Self.laterTopLevelKeys.contains(name) {
        log.error("\(place) is not supported by this version", at: entry.keySpan)
        continue
      }
      let owner = Self.owner(of: name)
      log.error(
        "unknown \(place == name ? "key" : "section") \(place.quotedForMessage)",
        at: entry.keySpan,
        hint: Spelling.suggestion(for: name, among: Self.topLevelKeys) ?? owner
          ?? "expected [device], [daemon], [defaults] or [[forward]]")
    }
  }

  /// A key that stands above the section it belongs to.
  private static func owner(of key: String) -> String? {
    if deviceKeys.contains(key) { return "'\(key)' belongs to [device]" }
    if daemonKeys.contains(key) { return "'\(key)' belongs to [daemon]" }
    if forwardKeys.contains(key) { return "'\(key)' belongs to [[forward]]" }
    return nil
  }

  private mutating func forwards(_ root: TOMLTable, defaults: RuleOptions) -> [RuleReading] {
    guard let entry = root[TOMLKey("forward")] else { return [] }
    guard case .array(let elements) = entry.value.content else {
      if case .table = entry.value.content {
        log.error(
          "a rule begins with two brackets: [[forward]]", at: entry.keySpan,
          hint: "there may be many")
      } else {
        expected("rules, each beginning with [[forward]]", at: entry.value)
      }
      return []
    }
    let countMax = Configuration.forwardCountMax
    if elements.count > countMax {
      log.error(
        "more than \(countMax) rules", at: elements[countMax].span,
        hint: "one rule may listen on many addresses and ports")
    }
    return elements.prefix(countMax).compactMap { element in
      guard case .table(let table) = element.content else {
        expected("a table", at: element)
        return nil
      }
      return forward(
        Section(table: table, place: "[[forward]]", span: element.span), defaults: defaults)
    }
  }
}
