import Primitives
import TCP
import Testing
import Wire

// One endpoint under a script: the test plays the client (inject, expect), the target (targetTakes,
// targetSays) and the clock (advance). The verbs are in Verbs.swift.
//
// A script does what a worker's turn does: a segment goes in, the target takes what it wants, the rest
// is settled, frames come out and are parsed back. Injected payload is overwritten when the turn
// ends, so that whatever still points at it is seen. After every step the edges of the sequence space
// are checked, and at the end that the endpoint gives back everything. The first surprise is reported
// with the trace so far; the rest of the script is then skipped.

final class Script: @unchecked Sendable {
  @TaskLocal static var current: Script?

  /// How much of what is offered the target takes at once.
  enum Appetite {
    case everything
    case nothing
    case octets(Int)
  }

  static let clientStart = SequenceNumber(0xFFFF_FC00)
  static let serverStart = SequenceNumber(0xFFFF_F800)
  static let clientClock: UInt32 = 0xFFFF_FF00

  var endpoint: TCPEndpoint?
  /// The kernel's TCP in the endpoint's place (KernelPeer.swift).
  var kernel: KernelPeer?
  var memory: TCPMemory
  var frames = FrameQueue()
  var now = MonotonicInstant(nanoseconds: 3_000_000_000)
  let settings: TCPSettings
  let isIPv4: Bool
  let path: TCPPath

  // the client's side of the handshake
  var clientScale = 0
  var serverScale = 0
  var usesTimestamps = false
  var lastServerTimestamp: UInt32 = 0
  /// Segments that went out and were not expected yet.
  var outbox: [TraceSegment] = []
  /// The right edges: what the client offered, and what it was offered.
  var clientEdge = 0
  var serverEdge: Int?

  /// Payloads of this turn's segments.
  var arrivals: [UnsafeMutableRawBufferPointer] = []
  /// More of them come in this turn.
  var isGathering = false

  // the target's side
  var appetite: Appetite
  var takenByTarget = 0
  var saidByTarget = 0
  var finishTold = false
  var events: SegmentOutcome = []

  /// Whether the endpoint sleeps after every turn that lets it: nobody must see that.
  private let sleeps: Bool
  private var hasSlept = false

  private var trace: [String] = []
  private(set) var failed = false

  init(
    listening port: UInt16, target: Appetite, settings: TCPSettings, isIPv4: Bool, offload: Bool,
    cutsReduced: Bool, memoryOctets: Int, sleeps: Bool
  ) {
    self.sleeps = sleeps
    self.settings = settings
    self.isIPv4 = isIPv4
    appetite = target
    memory = TCPMemory(octets: memoryOctets, flows: 16)
    let client = isIPv4 ? IPAddress("192.0.2.7") : IPAddress("2001:db8::7")
    let virtual = isIPv4 ? IPAddress("10.77.0.10") : IPAddress("fd77::10")
    path = TCPPath(
      tuple: FiveTuple(
        client: client ?? .anyIPv6, virtual: virtual ?? .anyIPv6,
        clientPort: KernelPeer.isChosen ? KernelPeer.nextClientPort() : 40_000, virtualPort: port,
        transport: .tcp),
      checksum: offload ? .offloaded : .computed, burstOctets: offload ? 65_400 : 0,
      cutsReduced: cutsReduced)
  }

  /// Runs a script against a fresh endpoint that nobody has sent a SYN to yet, and again against one
  /// that sleeps whenever it may.
  /// - Parameters:
  ///   - mss: our own, from the MTU.
  ///   - offload: whether frames may be super-packets.
  ///   - cutsReduced: whether one of them may carry CWR.
  static func run(
    listening port: UInt16 = 80, target: Appetite = .everything, mss: UInt16 = 1000,
    window: UInt32 = 960 * 1024, algorithm: CongestionControl.Algorithm = .newReno,
    isIPv4: Bool = true, offload: Bool = false, cutsReduced: Bool = true,
    memoryOctets: Int = 32 << 20, keepalive: Interval = .zero, _ body: () throws -> Void
  ) throws {
    for sleeps in KernelPeer.isChosen ? [false] : [false, true] {
      let script = Script(
        listening: port, target: target,
        settings: TCPSettings(
          segmentOctets: mss, windowOctets: window, algorithm: algorithm, keepalive: keepalive),
        isIPv4: isIPv4, offload: offload, cutsReduced: cutsReduced, memoryOctets: memoryOctets,
        sleeps: sleeps)
      script.chooseKernel(
        usual: window == 960 * 1024 && !offload && memoryOctets == 32 << 20 && keepalive == .zero)
      try Script.$current.withValue(script) { try body() }
      script.finish()
      guard !script.failed else { return }
    }
  }

  /// Nothing may be left unexpected, and nothing kept.
  private func finish() {
    if let kernel, !failed { wait(kernel, forSegments: 0, #_sourceLocation) }
    if !outbox.isEmpty { fail("the script ends, and this was never expected", #_sourceLocation) }
    endpoint?.release(memory: &memory)
    if memory.chunks.count + memory.sent.count + memory.stores.count + memory.pending.count > 0 {
      fail(
        "kept after release: \(memory.chunks.count) chunks, \(memory.sent.count) records, "
          + "\(memory.stores.count) stores, \(memory.pending.count) slices", #_sourceLocation)
    }
    if kernel != nil, !failed { end(.same, "") }
  }

  // MARK: The trace

  func note(_ line: String) {
    let milliseconds = Int(now.nanoseconds / 1_000_000) - 3_000
    trace.append("\(milliseconds) ms  \(line)")
  }

  func fail(_ problem: String, _ location: SourceLocation) {
    guard !failed else { return }
    guard kernel == nil else { return end(.differs, problem) }
    failed = true
    let waiting = outbox.map { "  unexpected  < \($0.description)" }
    Issue.record(
      "\(problem)\n\((trace + waiting).joined(separator: "\n"))", sourceLocation: location)
  }

  /// A script against the kernel ends; what it came to is written down.
  func end(_ verdict: Verdict, _ why: String) {
    failed = true
    let waiting = outbox.map { "  unexpected  < \($0.description)" }
    tell(verdict, why, verdict == .differs ? trace + waiting : [])
  }

  // MARK: A turn

  /// Feeds the target, keeps what it left, sends what may be sent.
  func turn(_ location: SourceLocation) {
    if let kernel { return turn(kernel, location) }
    feedTarget(location)
    endpoint?.settle(memory: &memory)
    transmit(location)
    checkEdges(location)
    sleep()
  }

  private func sleep() {
    guard sleeps, let endpoint, let dormant = DormantEndpoint(endpoint, settings: settings) else {
      return
    }
    if !hasSlept { note("the endpoint sleeps, here and later") }
    hasSlept = true
    self.endpoint = dormant.woken(settings: settings)
  }

  func feedTarget(_ location: SourceLocation) {
    let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 256)
    defer { slices.deallocate() }
    while endpoint != nil {
      let (count, offered) = endpoint?.gather(memory: memory, into: slices) ?? (0, 0)
      var wanted: Int
      switch appetite {
      case .everything: wanted = offered
      case .nothing: wanted = 0
      case .octets(let left):
        wanted = min(left, offered)
        appetite = .octets(left - wanted)
      }
      guard count > 0, wanted > 0 else { break }
      let took = wanted
      for slice in slices[..<count] where wanted > 0 {
        let octets = min(slice.octets, wanted)
        check(slice, octets: octets, from: takenByTarget, location)
        takenByTarget += octets
        wanted -= octets
      }
      endpoint?.took(took, at: now, memory: &memory)
    }
    tellFinish()
  }

  /// The target hears of the client's FIN when everything before it was taken.
  func tellFinish() {
    guard endpoint?.isFinishReady == true else { return }
    finishTold = true
    events.formUnion(endpoint?.finishWasTaken(at: now) ?? [])
  }

  private func check(_ slice: Slice, octets: Int, from taken: Int, _ location: SourceLocation) {
    guard let base = slice.base else { return }
    for offset in 0..<octets {
      let octet = base.load(fromByteOffset: offset, as: UInt8.self)
      guard octet == patternOctet(taken + 1 + offset, fromClient: true) else {
        return fail("the target was given a wrong octet at \(taken + 1 + offset)", location)
      }
    }
  }

  func transmit(_ location: SourceLocation) {
    var rounds = 0
    while let done = endpoint?.transmit(at: now, path: path, memory: &memory, frames: &frames) {
      drain(location)
      rounds += 1
      if rounds > 1000 { return fail("transmission does not end", location) }
      if done { return }
    }
  }

  private var edges: (taken: Int, next: Int, advertised: Int) = (1, 1, 1)

  private func checkEdges(_ location: SourceLocation) {
    guard let receive = endpoint?.receive else { return }
    let now = (
      taken: receive.taken.distance(from: Self.clientStart),
      next: receive.next.distance(from: Self.clientStart),
      advertised: receive.advertised.distance(from: Self.clientStart)
    )
    if now.taken < edges.taken || now.next < edges.next || now.advertised < edges.advertised {
      fail("an edge moved back: \(edges) to \(now)", location)
    }
    if now.taken > now.next || now.next > now.advertised + 1 {  // a FIN may lie behind the edge
      fail("edges out of order: \(now)", location)
    }
    edges = now
  }
}
