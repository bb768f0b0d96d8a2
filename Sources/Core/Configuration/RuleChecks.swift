// What rules mean to one another: unique names, and one winner for every address and port.
//
// The most specific rule wins: an exact address before the longest prefix before *, and within that
// an exact port before the narrowest range before *. Two patterns tie when their address patterns are
// the same and their port ranges are equally wide and share a port. Such patterns are neighbours once
// all are sorted by (protocol, addresses, width, first port), so finding them costs a sort, however
// many rules a file has.

import TOML
import Wire

extension SectionReader {
  mutating func checkRules(_ rules: [RuleReading], device: DeviceConfiguration) {
    checkNames(rules)
    checkTies(rules)
    checkOwnAddresses(rules, device: device)
    checkTargets(rules, device: device)
  }

  private mutating func checkNames(_ rules: [RuleReading]) {
    var lines: [String: Int] = [:]
    for reading in rules {
      guard let name = reading.name else { continue }
      if let earlier = lines[name.text] {
        log.error(
          "the name '\(name.text)' is taken by the rule on line \(earlier)", at: name.span,
          hint: "rules are told apart by their names")
      } else {
        lines[name.text] = log.source.line(at: name.span.start)
      }
    }
  }

  /// One pattern for one protocol, with what it is sorted by.
  private struct Claim {
    var transport: TransportProtocol
    var pattern: ListenPattern
    var span: SourceSpan
    var rule: Int

    /// Equal for claims that compete for the same addresses with the same precedence.
    var addressOrder: (UInt8, Int, UInt64, UInt64, Int) {
      let width = pattern.ports.count
      switch pattern.addresses {
      case .any: return (transport.rawValue, -1, 0, 0, width)
      case .prefix(let prefix):
        let address = prefix.address
        return (transport.rawValue, prefix.length, address.high, address.low, width)
      }
    }
  }

  private mutating func checkTies(_ rules: [RuleReading]) {
    var claims: [Claim] = []
    for (index, reading) in rules.enumerated() {
      for (pattern, span) in zip(reading.listen, reading.listenSpans) {
        for transport in reading.protocols.transports {
          claims.append(Claim(transport: transport, pattern: pattern, span: span, rule: index))
        }
      }
    }
    claims.sort { a, b in
      let (first, second) = (a.addressOrder, b.addressOrder)
      if first != second { return first < second }
      return (a.pattern.ports.first, a.span.start) < (b.pattern.ports.first, b.span.start)
    }
    // A rule for both protocols ties twice with another such; once is told.
    var told: Set<SourceSpan> = []
    for (a, b) in zip(claims, claims.dropFirst())
    where a.addressOrder == b.addressOrder && b.pattern.ports.first <= a.pattern.ports.last {
      let (earlier, later) = a.span.start <= b.span.start ? (a, b) : (b, a)
      let both = SourceSpan(start: earlier.span.start, end: later.span.start)
      guard told.insert(both).inserted else { continue }
      reportTie(earlier, later, rules)
    }
  }

  private mutating func reportTie(_ earlier: Claim, _ later: Claim, _ rules: [RuleReading]) {
    let line = log.source.line(at: earlier.span.start)
    let what = "\(later.transport) \(later.pattern)"
    if earlier.rule == later.rule {
      let same =
        earlier.pattern == later.pattern ? "is listed twice" : "overlaps \(earlier.pattern)"
      log.error(
        "\(what) \(same) in one rule (line \(line))", at: later.span,
        hint: "a port belongs to one pattern")
      return
    }
    let rule = rules[earlier.rule].name.map { "rule '\($0.text)'" } ?? "the rule"
    let relation =
      earlier.pattern == later.pattern
      ? "is taken by \(rule) on line \(line)"
      : "overlaps \(earlier.pattern) of \(rule) on line \(line), which is as specific"
    log.error("\(what) \(relation)", at: later.span, hint: "the more specific rule wins; these tie")
  }

  /// The kernel answers for the interface's own addresses: packets to them never enter the device.
  /// Packets to broadcast addresses of its networks are dropped.
  private mutating func checkOwnAddresses(_ rules: [RuleReading], device: DeviceConfiguration) {
    let own = Set(device.addresses.map { IPPrefix($0.address) })
    let broadcasts = Set(device.addresses.compactMap(\.broadcast).map { IPPrefix($0) })
    for reading in rules {
      for (pattern, span) in zip(reading.listen, reading.listenSpans) {
        guard case .prefix(let prefix) = pattern.addresses else { continue }
        let what: String
        if own.contains(prefix) {
          what = "the device's own address"
        } else if broadcasts.contains(prefix) {
          what = "a broadcast address of the device's network"
        } else {
          continue
        }
        log.warning(
          "\(prefix.address) is \(what), this rule never sees a packet", at: span,
          hint: "expected another address of the device's networks")
      }
    }
  }
  /// A target that is routed into the device would be a client of its own rule: it is refused.
  private mutating func checkTargets(_ rules: [RuleReading], device: DeviceConfiguration) {
    let configuration = Configuration(device: device, forwards: rules.compactMap(\.rule))
    let own = Set(configuration.ownPrefixes(also: []))
    let exempt = Set(device.addresses.map(\.address))
    for reading in rules {
      guard let target = reading.rule?.target.host, let span = reading.targetSpan else { continue }
      let prefix: IPPrefix
      switch target {
      case .address(let address):
        if exempt.contains(address) { continue }
        prefix = IPPrefix(address)
      case .prefix(let translated): prefix = translated
      case .name, .original: continue
      }
      let covers = ((prefix.isIPv4 ? 96 : 0)...prefix.length).contains { length in
        own.contains(IPPrefix(prefix.address, length: length))
      }
      guard covers else { continue }
      log.warning(
        "the target is routed into the device itself, and refused", at: span,
        hint: "expected a target outside the device's networks and what rules listen on")
    }
  }
}
