import Configuration
import Primitives
import Stack
import Testing
import Wire

// Sets of rules, one after the other: which slot of a worker a rule has, and what is kept of sets that are
// gone. What clients see of it is in ReloadTests.

@Suite("Rule sets: any may follow any other, and what both have stays where it is")
struct RuleSetTests {
  /// Names by slot, retired ones in brackets.
  private func slots(_ world: World) -> [String] {
    world.stack.rules.entries.map { entry in
      guard let entry else { return "" }
      return entry.retired ? "(\(entry.rule.name))" : entry.rule.name
    }
  }

  private func syn(_ world: World, virtualPort: UInt16 = 80, port: UInt16 = 1) {
    world.send(tcpPacket(port: port, virtualPort: virtualPort, .syn, sequence: 1))
  }

  private func reset(_ world: World, virtualPort: UInt16 = 80, port: UInt16 = 1) {
    world.send(tcpPacket(port: port, virtualPort: virtualPort, .rst, sequence: 2))
  }

  private func three(_ names: [String] = ["a", "b", "c"]) -> [ForwardRule] {
    names.enumerated().map { rule($1, ports: PortRange(UInt16(80 + $0))) }
  }

  @Test("a rule that is the same is one object, on whatever line; each is taken once")
  func sameRule() throws {
    let first = RuleSet(three())
    var moved = three()
    moved[0].line = 7
    moved[1].idleTimeout = .seconds(1)
    moved.append(moved[0])
    let second = RuleSet(moved, after: first)
    let same = zip(first.rules, second.rules).map { $0 === $1 }
    #expect(same == [true, false, true])
    #expect(second.rules[3] !== second.rules[0])
  }

  @Test("rules in another order keep their slots, and ports find them") func reordered() {
    let world = World(rules: three())
    let rules = three()
    world.install([rules[2], rules[0], rules[1]])
    #expect(slots(world) == ["a", "b", "c"])
    for (slot, port) in [UInt16(80), 81, 82].enumerated() {
      syn(world, virtualPort: port)
      #expect(world.stack.rules.figures(UInt32(slot)).pointee.active == 1)
    }
  }

  @Test("a renamed rule is another, whose flows stay with the old one") func renamed() {
    let world = World(rules: three())
    syn(world, virtualPort: 81)
    world.install(three(["a", "other", "c"]))
    #expect(slots(world) == ["a", "(b)", "c", "other"])
    #expect(world.stack.rules.figures(1).pointee.active == 1)
    #expect(world.stack.rules.figures(3).pointee.active == 0)
    reset(world, virtualPort: 81)
    #expect(slots(world) == ["a", "", "c", "other"])
    world.install(three(["a", "third", "c"]))
    #expect(slots(world) == ["a", "", "c", "third"])
  }

  @Test("two sets in a row come to what the second one says") func twoInARow() {
    let world = World(rules: three())
    syn(world)
    let rules = three()
    let first = RuleSet([rules[1]], after: world.stack.rules.set)
    let second = RuleSet([rules[1], rules[0]], after: first)
    world.install(first)
    world.install(second)
    // The flow's rule was gone in between: it is another one.
    #expect(slots(world) == ["(a)", "b", "a"])
    #expect(world.stack.rules.figures(2).pointee.active == 0)
  }

  @Test("a set made after one that the worker never had keeps what both have")
  func otherPredecessor() {
    let world = World(rules: three())
    syn(world)
    var rules = three()
    rules[1].idleTimeout = .seconds(1)
    let unseen = RuleSet(rules, after: world.stack.rules.set)
    rules[2].idleTimeout = .seconds(1)
    world.install(RuleSet(rules, after: unseen))
    #expect(slots(world).first == "a" && Set(slots(world)) == ["a", "b", "c"])
    #expect(world.stack.rules.figures(0).pointee.acceptedTotal == 1)
    // A stranger's set has nothing in common, whatever it says.
    world.install(RuleSet(rules))
    #expect(slots(world).first == "(a)" && slots(world).count == 4)
  }

  @Test("a set that comes back finds its rule's flows with the retired one") func comesBack() {
    let world = World(rules: three())
    let first = world.stack.rules.set
    syn(world)
    world.install([])
    world.install(first)
    #expect(slots(world).first == "(a)")
    #expect(world.stack.rules.entries.count(where: { $0?.rule.name == "a" }) == 2)
    syn(world, port: 2)
    reset(world)
    #expect(!slots(world).contains("(a)") && slots(world).contains("a"))
    #expect(world.stack.flowCount == 1)
  }

  @Test("rules that drain are cut each at its own time") func drains() {
    let (a, b) = (
      rule("a", ports: PortRange(80), onReload: .drain),
      rule("b", ports: PortRange(81), onReload: .drain)
    )
    let world = World(rules: [a, b])
    func flows(after interval: Interval) -> Int {
      world.advance(by: interval)
      world.turn()
      return world.stack.flowCount
    }
    // Established, since what is half-open ends by itself.
    for (port, virtualPort) in [(UInt16(1), UInt16(80)), (2, 81)] {
      syn(world, virtualPort: virtualPort, port: port)
      let answer = world.take().last?.tcp?.sequence.rawValue ?? 0
      world.send(
        tcpPacket(
          port: port, virtualPort: virtualPort, .ack, sequence: 2, acknowledgment: answer &+ 1))
    }
    world.install([b])
    #expect(flows(after: .seconds(10)) == 2)
    world.install([])
    #expect(flows(after: .milliseconds(19_999)) == 2)
    #expect(flows(after: .milliseconds(1)) == 1)
    #expect(flows(after: .milliseconds(9_999)) == 1)
    #expect(flows(after: .milliseconds(1)) == 0)
    #expect(Set(slots(world)) == [""])
  }

  @Test("a worker holds no rules of older sets but those with flows") func memory() throws {
    let world = World(rules: three())
    weak let set = world.stack.rules.set
    weak let used = world.stack.rules.set.rules[0]
    weak let unused = world.stack.rules.set.rules[1]
    syn(world)
    world.install([rule("new", ports: PortRange(99))])
    #expect(set == nil && used != nil && unused == nil)
    reset(world)
    #expect(used == nil)
  }

  @Test("workers with different slots share one set") func shared() {
    let worlds = [World(rules: []), World(rules: three())]
    syn(worlds[1])
    let set = RuleSet(three(["x", "y", "z"]))
    for world in worlds { world.install(set) }
    #expect(slots(worlds[0]) == ["x", "y", "z"])
    #expect(slots(worlds[1]).first == "(a)" && slots(worlds[1]).count == 4)
    for world in worlds {
      syn(world, virtualPort: 82, port: 2)
      let slot = slots(world).firstIndex(of: "z") ?? 0
      #expect(world.stack.rules.figures(UInt32(slot)).pointee.active == 1)
    }
  }

  @Test("a host name keeps its addresses while rules lead there, and is forgotten then")
  func hostNames() {
    func named(_ name: String, port: UInt16, host: String = "api.example") -> ForwardRule {
      var rule = rule(name, ports: PortRange(port))
      rule.target = Target(host: .name(host), port: .fixed(443))
      return rule
    }
    let world = World(rules: [named("a", port: 80), named("b", port: 81)])
    world.stack.resolved("nobody.example", [address("203.0.113.1")])
    #expect(world.stack.rules.hostCount == 1)
    world.stack.resolved("api.example", [address("203.0.113.9"), address("203.0.113.10")])
    // Changed, and added: there is no moment without an answer.
    world.install([named("a", port: 82), named("c", port: 83)])
    for port: UInt16 in [82, 83] { syn(world, virtualPort: port) }
    #expect(world.dials.map(\.address) == [address("203.0.113.9"), address("203.0.113.9")])
    world.stack.resolved("api.example", [])
    syn(world, virtualPort: 82, port: 2)
    #expect(world.dials.count == 2)
    world.install([named("a", port: 82, host: "other.example")])
    #expect(world.stack.rules.hostCount == 2)
    for port: UInt16 in [82, 83] { reset(world, virtualPort: port) }
    #expect(world.stack.rules.hostCount == 1)
    world.install([])
    #expect(world.stack.rules.hostCount == 0)
    world.install([named("a", port: 82)])
    syn(world, virtualPort: 82)
    #expect(world.dials.count == 2)
  }

  @Test("rules come, change, move and go under flows", arguments: UInt64(0)..<40)
  func anyOrder(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let world = World(rules: [], maxFlows: 256)
    /// By name: the target's port, which says which rule it is.
    var wanted: [Int: UInt16] = [:]
    var accepted: [Int: UInt64] = [:]
    var open: [(port: UInt16, virtualPort: UInt16)] = []
    var nextPort: UInt16 = 1000
    var last = RuleSet([])
    for _ in 0..<60 {
      switch random.number(in: 0...3) {
      case 0:
        for name in 0..<6 {
          switch random.number(in: 0...4) {
          case 0: (wanted[name], accepted[name]) = (nil, nil)
          case 1: (wanted[name], accepted[name]) = (UInt16(random.number(in: 1...60_000)), 0)
          default: break
          }
        }
        var rules = wanted.map { name, port in
          rule("\(name)", ports: PortRange(UInt16(100 + name)), port: port)
        }
        rules.shuffle(using: &random)
        last = RuleSet(rules, after: last)
        world.install(last)
      case 1, 2:
        let name = random.number(in: 0...5)
        let dials = world.dials.count
        nextPort += 1
        syn(world, virtualPort: UInt16(100 + name), port: nextPort)
        #expect(world.dials.count == dials + (wanted[name] == nil ? 0 : 1))
        guard let port = wanted[name] else { continue }
        #expect(world.dials.last?.port == port)
        accepted[name, default: 0] += 1
        open.append((nextPort, UInt16(100 + name)))
      default:
        guard let index = open.indices.randomElement(using: &random) else { continue }
        let flow = open.remove(at: index)
        reset(world, virtualPort: flow.virtualPort, port: flow.port)
      }
      #expect(world.stack.flowCount == open.count)
      var live: [Int: UInt64] = [:]
      var active = 0
      for (slot, entry) in world.stack.rules.entries.enumerated() {
        guard let entry else { continue }
        let figures = world.stack.rules.figures(UInt32(slot)).pointee
        active += figures.active
        if entry.retired {
          #expect(figures.active > 0)
        } else {
          live[try #require(Int(entry.rule.name))] = figures.acceptedTotal
        }
      }
      #expect(live == accepted)
      #expect(active == open.count)
    }
    for flow in open { reset(world, virtualPort: flow.virtualPort, port: flow.port) }
    expectEmpty(world)
  }
}
