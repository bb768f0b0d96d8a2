import Balancing
import Configuration
import Primitives
import SocketTable
import Wire

// The rules as a worker sees them, old ones included.
//
// Each rule stands in a slot, and a flow remembers it; the set of rules that all workers share leads
// from address and port to a rule's place in the configuration, `slots` from there to the slot. A
// reload brings another set and keeps the slot of a rule that is the same in both. A rule that was removed
// or changed is retired: no port leads to it any more, and its slot goes when its last flow has gone. So
// there are never more rules than a configuration may have and flows together, and a new rule always
// finds a slot.
//
// To take a set costs some nanoseconds for each of its rules, and some more for each that is new: no
// text is looked at, and no reference counted but for retired rules with flows. Slots are plain memory of
// this worker's: where flows begin and end, nothing is written that others write, save the count of a
// bounded rule (`SharedCount`).

/// What an address and a port lead to.
struct PassiveSocket: BitwiseCopyable {
  var rule: UInt32
  /// Of the most specific pattern that matched.
  var ports: PortRange
}

package struct RuleBook: ~Copyable {
  /// A slot.
  private struct Entry: BitwiseCopyable {
    enum Standing: BitwiseCopyable {
      case vacant
      case live
      /// The slot itself holds the rule.
      case retired
    }

    var standing = Standing.live
    var onReload: RuleTerms.Policy
    var target: TargetChoice
    /// The target's name in `hosts`, or `noHost`.
    var host: UInt32
    var count: SharedCount?
    var rule: Unmanaged<SharedRule>
    var name: UnsafeRawBufferPointer
    /// When flows of a retired rule are cut.
    var cutAt = MonotonicInstant.distantFuture

    init(_ terms: RuleTerms, host: UInt32) {
      self.host = host
      onReload = terms.onReload
      target = terms.target
      count = terms.count
      rule = terms.rule
      name = terms.name
    }
  }

  /// A rule as those see it who look.
  package struct View {
    package var rule: ForwardRule
    package var retired: Bool
  }

  /// The newest rules; they hold what live slots refer to.
  package private(set) var set = RuleSet([])
  private(set) var table: PassiveSocketTable
  /// By a rule's place in the set: its slot.
  private var slots: UnsafeMutablePointer<UInt32>
  private var hosts: HostTable
  private let entriesBase: UnsafeMutablePointer<Entry>
  private let figuresBase: UnsafeMutablePointer<RuleFigures>
  /// Slots that have ever had a rule.
  package private(set) var slotCount = 0
  /// Slots without a rule.
  private var vacant: [UInt32] = []
  /// Rules at once, retired ones included.
  private let rulesMax: Int
  /// Workers among which a rule's half-open flows are divided.
  private let workers: Int

  /// - Parameters:
  ///   - flowsMax: flows at a time, each of which may keep one retired rule.
  ///   - workers: how many there are, this one included.
  init(flowsMax: Int, workers: Int = 1) {
    self.workers = workers
    rulesMax = Configuration.forwardCountMax + flowsMax
    entriesBase = .allocate(capacity: rulesMax)
    figuresBase = .allocate(capacity: rulesMax)
    // Names that a reload is about to leave stand beside those that it brings.
    hosts = HostTable(capacity: rulesMax + Configuration.forwardCountMax)
    slots = .allocate(capacity: 1)
    table = set.table
  }

  deinit {
    for index in 0..<slotCount where entriesBase[index].standing == .retired {
      entriesBase[index].rule.release()
    }
    entriesBase.deallocate()
    figuresBase.deallocate()
    slots.deallocate()
  }

  package func figures(_ slot: UInt32) -> UnsafeMutablePointer<RuleFigures> {
    precondition(Int(slot) < slotCount, "rule slot")
    return figuresBase + Int(slot)
  }

  private func entry(_ slot: UInt32) -> UnsafeMutablePointer<Entry> {
    precondition(Int(slot) < slotCount, "rule slot")
    return entriesBase + Int(slot)
  }

  // MARK: For those who look, not on the data path

  /// The rule in a slot, and whether it is retired; nil in a vacant one.
  package func rule(_ slot: UInt32) -> (shared: SharedRule, isRetired: Bool)? {
    let entry = entry(slot).pointee
    guard entry.standing != .vacant else { return nil }
    return (entry.rule.takeUnretainedValue(), entry.standing == .retired)
  }

  /// All slots.
  package var entries: [View?] {
    (0..<UInt32(slotCount)).map { slot in
      rule(slot).map { View(rule: $0.shared.rule, retired: $0.isRetired) }
    }
  }

  /// A copy of the name of the rule in a slot, made without counting a reference to it; nil in a vacant
  /// one.
  package func name(_ slot: UInt32) -> String? {
    let entry = entry(slot)
    guard entry.pointee.standing != .vacant else { return nil }
    return String(decoding: entry.pointee.name, as: UTF8.self)
  }

  /// Host names that are kept.
  package var hostCount: Int { hosts.count }

  // MARK: Where flows begin

  /// The rule that a client meets, and by which of its port ranges.
  func passiveSocket(for tuple: FiveTuple) -> PassiveSocket? {
    guard
      let number = table.rule(
        for: tuple.virtual, port: tuple.virtualPort, transport: tuple.transport)
    else { return nil }
    let pattern = set.patterns[Int(number)]
    return PassiveSocket(rule: slots[Int(pattern.rule)], ports: pattern.ports)
  }

  /// The address that attempt number `attempt` of a flow to `virtual` dials.
  func address(_ slot: UInt32, virtual: IPAddress, attempt: Int) -> IPAddress? {
    let entry = entry(slot)
    return entry.pointee.target.address(
      for: virtual, resolved: hosts.addresses(entry.pointee.host), attempt: attempt)
  }

  /// How many attempts have an address.
  func addressCount(_ slot: UInt32) -> Int {
    let entry = entry(slot)
    return entry.pointee.target.addressCount(resolved: hosts.addresses(entry.pointee.host))
  }

  /// The port to dial for a client that named `port`, met by a pattern with `range`.
  func port(_ slot: UInt32, for port: UInt16, in range: PortRange) -> UInt16 {
    entry(slot).pointee.target.port(for: port, in: range)
  }

  // MARK: Reload

  /// Takes another set of rules; a rule that it has too keeps its slot.
  /// - Returns: slots whose flows are to be cut now.
  mutating func install(
    _ newSet: RuleSet, drainTimeout: Interval, at now: MonotonicInstant
  ) -> [UInt32] {
    let fresh = UnsafeMutablePointer<UInt32>.allocate(capacity: max(1, newSet.count))
    fresh.initialize(repeating: noSlot, count: newSet.count)
    keep(newSet, fresh)
    var cut: [UInt32] = []
    for index in 0..<set.count where slots[index] != noSlot {
      if retire(slots[index], drainTimeout: drainTimeout, at: now) { cut.append(slots[index]) }
    }
    for index in 0..<newSet.count where fresh[index] == noSlot {
      let terms = newSet.terms[index]
      fresh[index] = open(
        terms, host: terms.host == noHost ? noHost : hosts.use(newSet.hosts[Int(terms.host)]))
    }
    hosts.purge()
    slots.deallocate()
    slots = fresh
    table = newSet.table
    set = newSet
    return cut
  }

  /// Moves the slots of rules that both sets have.
  private mutating func keep(_ newSet: RuleSet, _ fresh: UnsafeMutablePointer<UInt32>) {
    var old = 0
    var new = 0
    while old < set.count, new < newSet.count {
      let (left, right) = (set.places[old], newSet.places[new])
      if left.address == right.address {
        fresh[Int(right.rule)] = slots[Int(left.rule)]
        slots[Int(left.rule)] = noSlot
      }
      if left.address <= right.address { old += 1 }
      if right.address <= left.address { new += 1 }
    }
  }

  /// Lets no port lead to a rule any more; without flows its slot is vacant at once.
  /// - Returns: whether its flows are to be cut now.
  private mutating func retire(
    _ slot: UInt32, drainTimeout: Interval, at now: MonotonicInstant
  ) -> Bool {
    let entry = entry(slot)
    guard figures(slot).pointee.held > 0 else {
      vacate(slot)
      return false
    }
    entry.pointee.standing = .retired
    _ = entry.pointee.rule.retain()
    switch entry.pointee.onReload {
    case .keep: return false
    case .drain:
      let cutAt = now + drainTimeout
      entry.pointee.cutAt = cutAt
      nextCut = min(cutAt, nextCut ?? .distantFuture)
      return false
    case .reset: return true
    }
  }

  private mutating func open(_ terms: RuleTerms, host: UInt32) -> UInt32 {
    let slot: UInt32
    if let free = vacant.popLast() {
      slot = free
    } else {
      slot = UInt32(slotCount)
      slotCount += 1
      precondition(slotCount <= rulesMax, "a retired rule has flows")
    }
    (entriesBase + Int(slot)).initialize(to: Entry(terms, host: host))
    (figuresBase + Int(slot)).initialize(to: RuleFigures(terms.bounds, workers: workers))
    return slot
  }

  private mutating func vacate(_ slot: UInt32) {
    let entry = entry(slot)
    entry.pointee.standing = .vacant
    entry.pointee.cutAt = .distantFuture
    hosts.leave(entry.pointee.host)
    vacant.append(slot)
  }

  /// A host name's newest answer.
  mutating func resolved(_ name: String, _ addresses: [IPAddress]) {
    hosts.resolved(name, addresses)
  }

  // MARK: Figures

  /// Whether the rule has as many flows as it may have, on all workers together.
  func isFull(_ slot: UInt32) -> Bool {
    let figures = figures(slot)
    guard figures.pointee.bounds.activeMax != .max else { return false }
    return (entry(slot).pointee.count?.value ?? figures.pointee.active)
      >= figures.pointee.bounds.activeMax
  }

  /// A flow of the rule begins.
  /// - Returns: false when it may not: another worker's flow took the last place since `isFull`.
  func flowBegins(_ slot: UInt32) -> Bool {
    let figures = figures(slot)
    if let count = entry(slot).pointee.count, !count.add(within: figures.pointee.bounds.activeMax) {
      return false
    }
    figures.pointee.held += 1
    figures.pointee.acceptedTotal += 1
    return true
  }

  /// A flow of the rule went to rest in TIME-WAIT, where it does not count. Out of line: what every
  /// segment passes calls through no pointer.
  @inline(never) func flowRests(_ slot: UInt32) {
    figures(slot).pointee.resting += 1
    entry(slot).pointee.count?.subtract()
  }

  /// A flow rests no more: it ends next.
  func flowLeavesRest(_ slot: UInt32) {
    figures(slot).pointee.resting -= 1
    entry(slot).pointee.count?.add()
  }

  /// A flow of the rule ended.
  mutating func flowEnded(_ slot: UInt32) {
    let figures = figures(slot)
    figures.pointee.held -= 1
    entry(slot).pointee.count?.subtract()
    if figures.pointee.held == 0, entry(slot).pointee.standing == .retired { collect(slot) }
  }

  /// A retired rule's last flow has gone: the one time that ends write what other workers may write, once
  /// for each rule that a reload takes away.
  @inline(never) private mutating func collect(_ slot: UInt32) {
    let rule = entry(slot).pointee.rule
    vacate(slot)
    hosts.purge()
    rule.release()
  }

  // MARK: Cuts

  /// When the next retired rule's flows are to be cut; asked every turn. Early when that rule has
  /// gone by itself: looking at all rules whenever one goes would cost more.
  private(set) var nextCut: MonotonicInstant?

  /// The rules whose flows are to be cut now.
  mutating func dueCuts(at now: MonotonicInstant) -> [UInt32] {
    var due: [UInt32] = []
    nextCut = nil
    for slot in 0..<UInt32(slotCount) where entry(slot).pointee.cutAt != .distantFuture {
      if entry(slot).pointee.cutAt <= now {
        entry(slot).pointee.cutAt = .distantFuture
        due.append(slot)
      } else {
        nextCut = min(entry(slot).pointee.cutAt, nextCut ?? .distantFuture)
      }
    }
    return due
  }
}
