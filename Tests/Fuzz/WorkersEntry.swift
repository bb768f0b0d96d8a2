import Configuration
import Glibc
import Primitives
import Stack
import Steering
import TCP
import Wire

// Two workers of one device, driven by the program of the stack entry. In front of each instruction an
// octet says at which of them its frames arrive, and who takes no turn.
//
// What arrives at the wrong one waits in a mailbox of few places for the turn of the right one, over
// which instructions and time may go by; so do reloads. Clients are the same for both, so that two
// flows of one client would show in what it is sent; beside that, no flow may be but on its home, and
// flows of bounded rules are counted together, down to none.

@Sendable func workersEntry(_ bytes: UnsafeRawBufferPointer) {
  var input = Input(bytes)
  let settings = input.octet()
  let peers = FuzzPeer.all
  let workers = FuzzWorkers(settings: settings, rules: input.octet(), peers: peers)
  StackProgram(settings: settings, worker: workers, peers: peers)
    .run(&input) { workers.arrange($0.octet()) }
}

/// Where a worker stands among others, and how it reaches them.
struct FuzzPlace {
  let steering: Steering
  let number: Int
  unowned let workers: FuzzWorkers
}

/// Who sent a frame, and the segment in it.
struct FuzzOrigin {
  var peer: FuzzPeer
  var said: TCPHeader
}

struct FuzzHanded {
  var frame: [UInt8]
  var wasFragmented: Bool
  var origin: FuzzOrigin?
}

final class FuzzWorkers: FuzzDevice {
  private static let handedMax = 6
  private let steering = Steering(workers: 2, seed: (1, 2), homes: Homes(FuzzWorkers.memory))
  nonisolated(unsafe) private static let memory = UnsafeMutableRawPointer.allocate(
    byteCount: Homes.octets, alignment: 128)
  nonisolated(unsafe) private static let zeros: UnsafeMutableRawPointer = {
    let zeros = UnsafeMutableRawPointer.allocate(byteCount: Homes.octets, alignment: 128)
    memset(zeros, 0, Homes.octets)
    return zeros
  }()

  /// Of which packets may have come; to look at others each time would take most of a run. All after a raw
  /// fragment, since what is joined of it has whatever ports.
  private var parts: [Int]
  private let mailboxes = [FuzzMailbox(), FuzzMailbox()]
  private var workers: [FuzzWorker] = []
  /// What each has yet to take.
  private var reloads: [[RuleSet]] = [[], []]
  /// The newest rules.
  private var rules = RuleSet([])
  /// All that ever counted flows.
  private var bounded: [SharedRule] = []
  private var arrangement: UInt8 = 0
  private var framesGiven: UInt8 = 0

  init(settings: UInt8, rules: UInt8, peers: [FuzzPeer]) {
    // Each execution begins with no flows, and so without homes.
    Self.memory.initializeMemory(as: UInt8.self, repeating: 0, count: Homes.octets)
    parts = Set(peers.map { [steering] in steering.part(of: $0.tuple) }).sorted()
    workers = (0..<2).map { number in
      StackProgram.worker(
        settings, peers: peers,
        place: FuzzPlace(steering: steering, number: number, workers: self))
    }
    reload(rules)
    for number in 0..<2 { takeReloads(number) }
  }

  /// - Parameter octet: the four lowest bits are the workers at which the frames of an instruction
  ///   arrive, in turns; two more, who takes no turn; the highest, who goes first.
  func arrange(_ octet: UInt8) {
    arrangement = octet
    framesGiven = 0
  }

  // MARK: What happens

  var now: MonotonicInstant { workers[0].now }
  var givenCount: Int { max(workers[0].givenCount, workers[1].givenCount) }

  func give(_ frame: [UInt8], from peer: FuzzPeer?) { nextWorker().give(frame, from: peer) }

  func giveRaw(_ frame: UnsafeRawBufferPointer) {
    for worker in workers { worker.isExact = false }
    noteParts(of: frame)
    nextWorker().giveRaw(frame)
  }

  private func noteParts(of frame: UnsafeRawBufferPointer) {
    let octets = UnsafeRawBufferPointer(rebasing: frame.dropFirst(VirtioNetHeader.octets))
    guard parts.count < Homes.partCount, let packet = try? ParsedPacket(parsing: octets.bytes)
    else { return }
    if packet.ip.isFragment {
      parts = Array(0..<Homes.partCount)
    } else if let tuple = packet.tuple, !parts.contains(steering.part(of: tuple)) {
      parts.append(steering.part(of: tuple))
    }
  }

  private func nextWorker() -> FuzzWorker {
    defer { framesGiven = (framesGiven + 1) & 3 }
    return workers[Int(arrangement >> framesGiven & 1)]
  }

  func plan(_ plan: DialPlan, of peer: FuzzPeer) {
    for worker in workers { worker.plan(plan, of: peer) }
  }

  func resolveDial(of peer: FuzzPeer, failure: TargetFailure?) {
    for worker in workers { worker.resolveDial(of: peer, failure: failure) }
  }

  func say(_ peer: FuzzPeer, octets: Int) {
    for worker in workers { worker.say(peer, octets: octets) }
  }

  func end(_ peer: FuzzPeer, _ variant: UInt8) {
    for worker in workers { worker.end(peer, variant) }
  }

  func feed(_ peer: FuzzPeer, octets: Int) {
    for worker in workers { worker.feed(peer, octets: octets) }
  }

  func tick() { for worker in workers { worker.tick() } }
  func endAll() { for worker in workers { worker.endAll() } }

  func control(_ variant: UInt8) {
    guard variant >> 3 == 0 else {
      for worker in workers { worker.control(variant) }
      return
    }
    reload(variant)
  }

  /// Every worker takes a reload when its turn comes, all of them in order.
  private func reload(_ choice: UInt8) {
    rules = RuleSet(
      FuzzWorker.rules(choice, workers[0].habits), after: rules, isShared: true)
    for rule in rules.rules where rule.count != nil && !bounded.contains(where: { $0 === rule }) {
      bounded.append(rule)
    }
    for number in 0..<2 { reloads[number].append(rules) }
  }

  private func takeReloads(_ number: Int) {
    for rules in reloads[number] { workers[number].install(rules) }
    reloads[number].removeAll()
  }

  func advance(by interval: Interval) {
    for worker in workers { worker.advance(by: interval) }
    check()
  }

  func turn() {
    for number in arrangement & 128 == 0 ? [0, 1] : [1, 0]
    where arrangement >> (4 + number) & 1 == 0 { turn(number) }
    check()
  }

  /// - Returns: whether there was room.
  func handOver(_ handed: FuzzHanded, to worker: Int, from number: Int) -> Bool {
    require(worker != number, "a stray is another's")
    return mailboxes[worker].put(handed, atMost: Self.handedMax)
  }

  /// All that any worker has to send goes out.
  func drain() { for worker in workers { worker.drain() } }

  private func turn(_ number: Int) {
    takeReloads(number)
    for handed in mailboxes[number].take() { workers[number].takeOver(handed) }
    workers[number].turn()
  }

  // MARK: What holds

  private func check() {
    var flows = 0
    for (number, worker) in workers.enumerated() {
      if let fault = worker.stack.faultOfParts(among: parts) { fatalError("broken: \(fault)") }
      for view in worker.stack.flowViews(limit: 64, at: worker.now) {
        let isHere = steering.home(of: view.tuple) == number
        require(isHere || !worker.stack.lives(view.tuple), "a flow lives on its home")
      }
      for (index, entry) in worker.stack.rules.entries.enumerated()
      where entry?.rule.maxConnections != nil {
        flows += worker.stack.rules.figures(UInt32(index)).pointee.active
      }
    }
    require(bounded.allSatisfy { $0.count?.value ?? 0 >= 0 }, "no more end than began")
    let counted = bounded.reduce(0) { $0 + ($1.count?.value ?? 0) }
    require(counted == flows, "flows of bounded rules are counted")
  }

  /// As `Homes` says of one part after the other, which takes milliseconds under a sanitizer.
  private var noPartIsKept: Bool {
    let octets = Homes.partCount * MemoryLayout<UInt32>.stride
    return memcmp(Self.memory, Self.zeros, octets) == 0
  }

  func requireEmpty() {
    arrange(0)
    // A fragment, then what was joined of it, then what that had to say.
    for _ in 0..<3 { turn() }
    for worker in workers {
      worker.endAll()
      worker.turn()
      worker.advance(by: .seconds(60))
      worker.requireEmpty()
    }
    require(mailboxes.allSatisfy(\.isEmpty), "no mail is left")
    check()
    if !noPartIsKept {
      for worker in workers {
        for _ in 0..<Homes.partCount / Stack.partsOfTurn { worker.stack.lookAtParts() }
      }
      require(noPartIsKept, "no part is kept")
    }
    for number in 0..<2 { require(steering.homes.load(of: number) == 0, "no load is left") }
    require(bounded.allSatisfy { $0.count?.value == 0 }, "no flow is counted any more")
  }
}

final class FuzzMailbox {
  private var handed: [FuzzHanded] = []

  var isEmpty: Bool { handed.isEmpty }

  func put(_ frame: FuzzHanded, atMost count: Int) -> Bool {
    guard handed.count < count else { return false }
    handed.append(frame)
    return true
  }

  func take() -> [FuzzHanded] {
    defer { handed.removeAll() }
    return handed
  }
}
