import Configuration
import Primitives
import SocketTable
import TOML
import Wire

// Parsers of what a person writes: TOML, a configuration, addresses and prefixes.
//
// Whatever the text says, there is an answer, and every diagnostic can be shown. What was accepted
// must be of use: a configuration makes a socket table, and differs from itself in nothing.

@Sendable func tomlEntry(_ bytes: UnsafeRawBufferPointer) {
  let document = TOMLDocument(parsing: Array(bytes), file: "fuzz.toml")
  let diagnostics = document.log.inOrder()
  require(document.isValid || !diagnostics.isEmpty, "an invalid document has an error")
  diagnostics.forEach(show)
  walk(document.root, depth: 0)
}

/// A diagnostic's text holds nothing that drives a terminal.
private func show(_ diagnostic: Diagnostic) {
  require(diagnostic.line >= 0 && diagnostic.column >= 0 && diagnostic.length >= 1, "position")
  for octet in diagnostic.description.utf8 {
    // Tabs stay, so that the caret stands where it should.
    require(
      (octet >= 0x20 && octet != 0x7F) || octet == 0x09 || octet == 0x0A,
      "a diagnostic is printable")
  }
}

private func walk(_ table: TOMLTable, depth: Int) {
  require(depth <= TOMLDocument.depthMax + 1, "depth is bounded")
  for entry in table.entries {
    _ = table[entry.key]
    walk(entry.value, depth: depth + 1)
  }
}

private func walk(_ value: TOMLValue, depth: Int) {
  switch value.content {
  case .table(let table): walk(table, depth: depth)
  case .array(let elements):
    for element in elements { walk(element, depth: depth + 1) }
  default: break
  }
}

@Sendable func configurationEntry(_ bytes: UnsafeRawBufferPointer) {
  do throws(ConfigurationErrors) {
    let loaded = try Configuration.load(Array(bytes), file: "fuzz.toml")
    loaded.warnings.forEach(show)
    use(loaded.configuration)
  } catch {
    require(!error.diagnostics.isEmpty, "a refusal has a reason")
    error.diagnostics.forEach(show)
    _ = error.description
  }
}

private func use(_ configuration: Configuration) {
  require(
    ReloadDifference(from: configuration, to: configuration).isEmpty, "no difference from itself")
  _ = configuration.routedPrefixes
  var patterns: [PassiveSocketTable.Entry] = []
  for (index, rule) in configuration.forwards.enumerated() {
    _ = rule.targetText
    _ = rule.listenText
    for pattern in rule.listen {
      for transport in rule.protocols.transports {
        patterns.append((pattern: pattern, transport: transport, rule: UInt32(index)))
      }
    }
  }
  let table = PassiveSocketTable(patterns)
  for entry in patterns {
    let address: IPAddress
    switch entry.pattern.addresses {
    case .any: address = IPAddress(v4: 0x0a4d_0001)
    case .prefix(let prefix): address = prefix.address
    }
    require(
      table.rule(for: address, port: entry.pattern.ports.first, transport: entry.transport) != nil,
      "a pattern is found")
    require(table.covers(address), "a pattern is covered")
  }
}

@Sendable func addressEntry(_ bytes: UnsafeRawBufferPointer) {
  let text = String(decoding: bytes, as: UTF8.self)
  if let address = IPAddress(text) {
    require(IPAddress(address.description) == address, "an address's text is read again")
    require(IPPrefix(text) == IPPrefix(address), "an address is a prefix")
  }
  guard let prefix = IPPrefix(text) else {
    require(!IPPrefix.hasHostBits(text), "what is no prefix has no host bits")
    return
  }
  require(IPPrefix(prefix.description) == prefix, "a prefix's text is read again")
  require(!IPPrefix.hasHostBits(prefix.description), "its text has no host bits")
  require(prefix.contains(prefix.address), "a prefix contains its first address")
  let other =
    prefix.isIPv4 ? IPAddress(v4: 0xC633_6425) : IPAddress(high: .max / 3, low: .max / 5)
  require(prefix.contains(prefix.replacingPrefix(of: other)), "translation leads into the prefix")
}
