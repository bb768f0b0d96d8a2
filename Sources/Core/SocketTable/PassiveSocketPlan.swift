// Entries sorted into sites: the first half of building a passive socket table.
//
// Entries are ordered by protocol, family, prefix length and address, which brings those of one site
// together in the order they were given. A site of one entry holds its rule; the entries of a shared
// site are laid flat by `PortSet`.

import Wire

struct PassiveSocketPlan {
  /// The sites of one prefix length.
  struct Length {
    var prefixLength: Int  // over sixteen octets
    var sites: [PassiveSite] = []
  }

  /// TCP over IPv4, over IPv6, UDP over IPv4, over IPv6; in each the longest prefix first.
  private(set) var families: [[Length]] = [[], [], [], []]
  /// The sites of the pattern "any": TCP's, UDP's.
  private(set) var anywhere = [PassiveSite(), PassiveSite()]
  /// The port runs of shared sites, which name them by position.
  private(set) var runs: [PortRun] = []
  /// Their directories. That of n runs takes at most 2n entries: it begins at twice the first run's
  /// position.
  private(set) var directories: [UInt16] = []

  private struct Row {
    var high: UInt64
    var low: UInt64
    /// Family × 129 + what the length lacks of 128: sorts as `families` is ordered.
    var group: UInt16
    var ordinal: UInt32

    func isAtSite(of other: Row) -> Bool {
      high == other.high && low == other.low && group == other.group
    }
  }

  init(_ entries: [PassiveSocketTable.Entry]) {
    var rows: [Row] = []
    var anywhereClaims: [[PortClaim]] = [[], []]
    for (ordinal, entry) in entries.enumerated() {
      precondition(entry.rule != noRule, "rule number")
      let transport = entry.transport == .tcp ? 0 : 1
      switch entry.pattern.addresses {
      case .any:
        anywhereClaims[transport].append(PortClaim(ports: entry.pattern.ports, rule: entry.rule))
      case .prefix(let prefix):
        let family = transport * 2 + (prefix.isIPv4 ? 0 : 1)
        rows.append(
          Row(
            high: prefix.address.high, low: prefix.address.low,
            group: UInt16(family * 129 + 128 - prefix.length), ordinal: UInt32(ordinal)))
      }
    }
    rows.sort {
      ($0.group, $0.high, $0.low, $0.ordinal) < ($1.group, $1.high, $1.low, $1.ordinal)
    }

    for transport in 0..<2 where !anywhereClaims[transport].isEmpty {
      anywhere[transport] = site(of: anywhereClaims[transport])
    }
    var start = 0
    while start < rows.count {
      let row = rows[start]
      let end = rows[start...].firstIndex { !$0.isAtSite(of: row) } ?? rows.count
      var site = site(
        of: rows[start..<end].map {
          let entry = entries[Int($0.ordinal)]
          return PortClaim(ports: entry.pattern.ports, rule: entry.rule)
        })
      (site.high, site.low) = (row.high, row.low)
      append(site, family: Int(row.group) / 129, prefixLength: 128 - Int(row.group) % 129)
      start = end
    }
  }

  private mutating func append(_ site: PassiveSite, family: Int, prefixLength: Int) {
    if families[family].last?.prefixLength != prefixLength {
      families[family].append(Length(prefixLength: prefixLength))
    }
    families[family][families[family].count - 1].sites.append(site)
  }

  /// The site that the claims make up; where it stands is the caller's to say.
  private mutating func site(of claims: [PortClaim]) -> PassiveSite {
    if claims.count == 1 {
      return PassiveSite(
        firstPort: claims[0].ports.first, lastPort: claims[0].ports.last, rule: claims[0].rule)
    }
    let flat = PortSet.flatten(claims)
    let site = PassiveSite(
      firstPort: flat.first?.first ?? 1, lastPort: flat.last?.last ?? 0,
      firstRun: UInt32(runs.count),
      directoryShift: UInt16(PortSet.directoryShift(runCount: flat.count)),
      runsPerPort: PortSet.runsPerPort(flat))
    let directory = PortSet.directory(of: flat)
    runs += flat
    directories += directory
    directories += repeatElement(0, count: runs.count * 2 - directories.count)
    return site
  }
}
