// The memory of a passive socket table: how it is laid out, built and searched.
//
// Six blocks, each allocated once: the families, the prefix lengths in use (`Level`), the tags, the sites
// (addresses with rules), the port runs of sites that several rules share, and the directories of
// those runs. Sites are aligned so that none lies across two cache lines. After `init` nothing is
// written, which is why the unchecked promise to be `Sendable` holds.

import Wire

/// The ports at one address pattern.
struct PassiveSite: BitwiseCopyable {
  var high: UInt64 = 0
  var low: UInt64 = 0
  /// The ports that have a rule here, or the span of them if the site is shared.
  var firstPort: UInt16 = 1
  var lastPort: UInt16 = 0
  /// The rule; `noRule` if several share the site.
  var rule: UInt32 = noRule
  /// Of a shared site: where its port runs begin, the shift from port to directory bucket, and the runs
  /// for each port of the span, less one, over 65 536.
  var firstRun: UInt32 = 0
  var directoryShift: UInt16 = 0
  var runsPerPort: UInt16 = 0

  var isVacant: Bool { firstPort > lastPort }
}

final class PassiveSocketStorage: @unchecked Sendable {
  /// The hash table of one prefix length.
  private struct Level: BitwiseCopyable {
    var maskHigh: UInt64
    var maskLow: UInt64
    var firstGroup: UInt32
    var groupCount: UInt32
  }

  /// What stands for one protocol and family: levels, longest prefix first, and the pattern "any".
  private struct Family: BitwiseCopyable {
    var firstLevel: Int
    var endLevel: Int
    var anywhere: PassiveSite
  }

  private static let groupSites = 8
  /// Sites for which a group of eight is made: full groups, which a search walks past, stay few.
  private static let groupLoad = 5
  private static let tagOnes: UInt64 = 0x0101_0101_0101_0101
  private static let tagMarks: UInt64 = 0x8080_8080_8080_8080

  private let levels: UnsafeMutablePointer<Level>
  private let tags: UnsafeMutablePointer<UInt64>  // a group's eight tags; zero: no site
  private let sites: UnsafeMutablePointer<PassiveSite>
  private let runs: UnsafeMutablePointer<PortRun>
  private let directories: UnsafeMutablePointer<UInt16>
  private let families: UnsafeMutablePointer<Family>  // in the order of the plan's

  init(_ entries: [PassiveSocketTable.Entry]) {
    precondition(entries.count <= 1 << 28, "passive socket count")
    let plan = PassiveSocketPlan(entries)
    var families: [Family] = []
    var groupCount: UInt32 = 0
    var made: [Level] = []
    for (index, lengths) in plan.families.enumerated() {
      let firstLevel = made.count
      for length in lengths {
        let mask = Self.mask(length.prefixLength)
        let groups = UInt32((length.sites.count + Self.groupLoad - 1) / Self.groupLoad)
        made.append(
          Level(
            maskHigh: mask.high, maskLow: mask.low, firstGroup: groupCount, groupCount: groups))
        groupCount += groups
      }
      families.append(
        Family(
          firstLevel: firstLevel, endLevel: made.count, anywhere: plan.anywhere[index / 2]))
    }

    self.families = Self.copy(families)
    levels = Self.copy(made)
    tags = Self.copy([UInt64](repeating: 0, count: Int(groupCount)))
    let siteCount = Int(groupCount) * Self.groupSites
    sites = UnsafeMutableRawPointer.allocate(
      byteCount: max(1, siteCount) * MemoryLayout<PassiveSite>.stride, alignment: 64
    ).bindMemory(to: PassiveSite.self, capacity: max(1, siteCount))
    runs = Self.copy(plan.runs)
    directories = Self.copy(plan.directories)

    for (level, length) in zip(made, plan.families.joined()) {
      for site in length.sites { store(site, at: level) }
    }
  }

  deinit {
    families.deallocate()
    levels.deallocate()
    tags.deallocate()
    sites.deallocate()
    runs.deallocate()
    directories.deallocate()
  }

  /// The rule, or `noRule`.
  func rule(for address: IPAddress, port: UInt16, transport: TransportProtocol) -> UInt32 {
    let family = family(address, transport)
    for index in family.pointee.firstLevel..<family.pointee.endLevel {
      guard let site = find(address, at: levels[index]) else { continue }
      let rule = rule(at: sites[site], port: port)
      if rule != noRule { return rule }
    }
    return rule(at: family.pointee.anywhere, port: port)
  }

  func covers(_ address: IPAddress, transport: TransportProtocol) -> Bool {
    let family = family(address, transport).pointee
    return !family.anywhere.isVacant
      || (family.firstLevel..<family.endLevel).contains { find(address, at: levels[$0]) != nil }
  }

  @inline(__always)
  private func family(
    _ address: IPAddress, _ transport: TransportProtocol
  ) -> UnsafeMutablePointer<Family> {
    // A switch, because `==` of an enumeration with raw values is a generic call here.
    switch transport {
    case .tcp: families + (address.isIPv4 ? 0 : 1)
    case .udp: families + (address.isIPv4 ? 2 : 3)
    }
  }

  @inline(__always)
  private func rule(at site: PassiveSite, port: UInt16) -> UInt32 {
    if port < site.firstPort || port > site.lastPort { return noRule }
    if site.rule != noRule { return site.rule }
    // Where the runs are of one length, all those ports of their own, the place is known; the directory's
    // memory is not waited for.
    let ports = Int(port - site.firstPort)
    let step = ports * (Int(site.runsPerPort) + 1)
    let likely = runs[Int(site.firstRun) + (step >> 16)]
    if port >= likely.first, port <= likely.last { return likely.rule }
    // The last run that begins at the port or before: one of the bucket's, or the one before them.
    let bucket = Int(site.firstRun) * 2 + (Int(port) >> Int(site.directoryShift))
    let low = max(0, Int(directories[bucket]) - 1)
    var run = Int(site.firstRun) + low
    var count = Int(directories[bucket + 1]) - low
    while count > 1 {
      let half = count / 2
      run = runs[run + half].first <= port ? run + half : run
      count -= half
    }
    let found = runs[run]
    return port >= found.first && port <= found.last ? found.rule : noRule
  }

  // MARK: Hash table

  @inline(__always)
  private func find(_ address: IPAddress, at level: Level) -> Int? {
    let high = address.high & level.maskHigh
    let low = address.low & level.maskLow
    let (start, pattern) = Self.place(high, low, level)
    var group = start
    while true {
      let index = Int(level.firstGroup + group)
      let word = tags[index]
      // Bytes that equal the tag become zero, and a zero borrows its top bit. A false match, possible
      // right above a true one, fails the comparison; it never is a vacant site's.
      let differing = word ^ pattern
      var matches = (differing &- Self.tagOnes) & ~differing & Self.tagMarks
      while matches != 0 {
        let site = index * Self.groupSites + matches.trailingZeroBitCount / 8
        if sites[site].low == low && sites[site].high == high { return site }
        matches &= matches &- 1
      }
      if word & Self.tagMarks != Self.tagMarks { return nil }
      group = group + 1 == level.groupCount ? 0 : group + 1
    }
  }

  private func store(_ site: PassiveSite, at level: Level) {
    let (start, pattern) = Self.place(site.high, site.low, level)
    var group = start
    while true {
      let index = Int(level.firstGroup + group)
      let vacant = ~tags[index] & Self.tagMarks
      if vacant != 0 {
        let position = vacant.trailingZeroBitCount / 8
        tags[index] |= pattern & (0xff << UInt64(position * 8))
        (sites + index * Self.groupSites + position).initialize(to: site)
        return
      }
      group = group + 1 == level.groupCount ? 0 : group + 1
    }
  }

  /// The group where a search begins, and the tag it looks for, in every byte of a word. The hash has
  /// no secret: what a client can choose is whether to find a long run, and the rules bound that.
  @inline(__always)
  private static func place(_ high: UInt64, _ low: UInt64, _ level: Level) -> (UInt32, UInt64) {
    let mixed = (high ^ 0xA076_1D64_78BD_642F) &* 0xE703_7ED1_A0B4_28DB ^ low
    let product = mixed.multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    let hash = product.high ^ product.low
    let group = ((hash >> 32) &* UInt64(level.groupCount)) >> 32
    return (UInt32(truncatingIfNeeded: group), (hash & 0x7f | 0x80) &* tagOnes)
  }

  private static func mask(_ length: Int) -> (high: UInt64, low: UInt64) {
    (length >= 64 ? .max : ~(UInt64.max >> length), length <= 64 ? 0 : .max << (128 - length))
  }

  private static func copy<T: BitwiseCopyable>(_ values: [T]) -> UnsafeMutablePointer<T> {
    let memory = UnsafeMutablePointer<T>.allocate(capacity: max(1, values.count))
    memory.initialize(from: values, count: values.count)
    return memory
  }
}
