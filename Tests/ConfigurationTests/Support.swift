// Shared by the configuration tests.

import Configuration
import TOML
import Testing
import Wire

/// The configuration of a text that is expected to be one.
func load(_ text: String) throws -> Configuration {
  try Configuration.load(Array(text.utf8), file: "p.toml").configuration
}

/// Everything that is said about a text, as an operator reads it.
func rendered(_ text: String) -> String {
  diagnostics(text).map { $0.render() }.joined(separator: "\n")
}

/// Everything that is said about a text: line, severity when it is a warning, message.
func messages(_ text: String) -> [String] {
  diagnostics(text).map { diagnostic in
    let severity = diagnostic.severity == .warning ? "warning: " : ""
    return "\(diagnostic.line): \(severity)\(diagnostic.message)"
  }
}

func diagnostics(_ text: String) -> [Diagnostic] {
  do throws(ConfigurationErrors) {
    return try Configuration.load(Array(text.utf8), file: "p.toml").warnings
  } catch {
    return error.diagnostics
  }
}

/// A file with one rule, its lines given.
func rule(_ lines: String..., name: String = "r") -> String {
  "[[forward]]\nname = \"\(name)\"\n" + lines.joined(separator: "\n") + "\n"
}

func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

func pattern(_ addresses: String, _ first: UInt16, _ last: UInt16) throws -> ListenPattern {
  let ports = PortRange(first: first, last: last)
  if addresses == "*" { return ListenPattern(addresses: .any, ports: ports) }
  return ListenPattern(addresses: .prefix(try prefix(addresses)), ports: ports)
}
