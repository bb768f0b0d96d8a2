import Configuration
import HotPaths
import Primitives
import Stack
import Steering
import Wire

// Workers without kernel: stacks of their own, and clients whose targets answer at once. Everything that
// a packet costs in user space is done, both ways; no system call is made. The rules are shared, as the
// daemon's workers share them.

/// A worker and its clients.
protocol Lane: ~Copyable, SendableMetatype {
  static var name: String { get }

  /// - Parameters:
  ///   - number: 0..<workers
  ///   - workers: of 1 there is nothing to steer.
  init(_ number: Int, of workers: Int, rules: RuleSet, at now: MonotonicInstant)

  /// - Returns: packets in and out.
  mutating func turn(at now: MonotonicInstant) -> Int
  mutating func install(_ rules: RuleSet, at now: MonotonicInstant)
  /// What went wrong until now, if anything did.
  func failure() -> String?
}

/// What all lanes share: a rule for each kind, and others, which a reload changes.
func laneRules(generation: Int, after previous: RuleSet? = nil) -> RuleSet {
  let echo = ForwardRule(
    name: "datagrams that come back at once", protocols: .udp,
    listen: [ListenPattern(addresses: .any, ports: PortRange(53))],
    target: Target(host: .address(IPAddress(v4: 0x7f00_0001)), port: .fixed(53)))
  let others = (0..<500).map { number in
    ForwardRule(
      name: "another rule, number \(number)",
      listen: [ListenPattern(addresses: .any, ports: PortRange(UInt16(1000 + number)))],
      target: Target(host: .original, port: .fixed(UInt16(1 + (number + generation) % 60_000))))
  }
  return RuleSet([echo, .hot()] + others, after: previous)
}

/// Flows that begin and end.
struct PathLane<Path: RuledHotPath & ~Copyable>: Lane, ~Copyable {
  static var name: String { Path.name }
  private var path: Path

  init(_ number: Int, of workers: Int, rules: RuleSet, at now: MonotonicInstant) {
    path = Path(rules: rules)
  }

  mutating func turn(at now: MonotonicInstant) -> Int { path.drive(packets: 100) }
  mutating func install(_ rules: RuleSet, at now: MonotonicInstant) { path.install(rules) }
  func failure() -> String? { path.failure() }
}

/// Datagrams of sessions that stand.
struct DatagramLane: Lane, ~Copyable {
  static let name = "datagrams"
  private static let sessions = 64
  private static let payloadOctets = 64
  private static let homes = Homes.ofProcess()

  private var stack: Stack
  private let frames: UnsafeMutablePointer<UnsafeRawBufferPointer>
  private let answer: UnsafeMutableRawPointer

  private var missing = 0

  init(_ number: Int, of workers: Int, rules: RuleSet, at now: MonotonicInstant) {
    var settings = StackSettings(
      mtu: 1500, maxFlows: 1024, unmatched: .reject, drainTimeout: .seconds(1), seed: (1, 2))
    let steering = Steering(workers: workers, seed: (3, 4), homes: Self.homes)
    if workers > 1 {
      settings.steering = steering
      settings.worker = number
    }
    stack = Stack(settings: settings, rules: rules, at: now)
    frames = .allocate(capacity: Self.sessions)
    answer = .allocate(byteCount: Self.payloadOctets, alignment: 64)
    answer.initializeMemory(as: UInt8.self, repeating: 7, count: Self.payloadOctets)
    let (client, virtual) = (IPAddress(v4: 0x0a4d_0002), IPAddress(v4: 0x0a4d_000a))
    var port: UInt16 = 10_000
    for index in 0..<Self.sessions {
      func isHere(_ port: UInt16) -> Bool {
        let tuple = FiveTuple(
          client: client, virtual: virtual, clientPort: port, virtualPort: 53, transport: .udp)
        return steering.homes.take(steering.part(of: tuple), for: number) == number
      }
      repeat { port += 1 } while workers > 1 && !isHere(port)
      let memory = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 64)
      let slice = Slice(answer, Self.payloadOctets)
      let headers = withUnsafePointer(to: slice) { payload in
        PacketWriter.udp(
          to: memory, source: client, destination: virtual, sourcePort: port, destinationPort: 53,
          payload: UnsafeBufferPointer(start: payload, count: 1),
          payloadOctets: Self.payloadOctets, checksum: .computed)
      }
      (memory + headers).copyMemory(from: answer, byteCount: Self.payloadOctets)
      (frames + index).initialize(
        to: UnsafeRawBufferPointer(start: memory, count: headers + Self.payloadOctets))
    }
  }

  deinit {
    for index in 0..<Self.sessions { frames[index].deallocate() }
    frames.deallocate()
    answer.deallocate()
  }

  mutating func install(_ rules: RuleSet, at now: MonotonicInstant) {
    stack.install(rules, unmatched: .reject, drainTimeout: .seconds(1), at: now)
  }

  func failure() -> String? { missing == 0 ? nil : "\(missing) datagrams got lost" }

  /// A turn: a datagram of each session, and its answer.
  mutating func turn(at now: MonotonicInstant) -> Int {
    var packets = 0
    for index in 0..<Self.sessions { stack.receive(frames[index], at: now) }
    var position = 0
    while position < stack.requestCount {
      let slot = stack.request(at: position)
      position += 1
      if !stack.take(.dial, of: slot).isEmpty { stack.opened(slot, connected: true, at: now) }
      guard !stack.take(.upload, of: slot).isEmpty else { continue }
      while let (slice, _) = stack.nextDatagrams(slot) {
        stack.uploadedDatagrams(slot, octets: slice.octets)
        packets += 1
      }
      stack.targetReady(slot, readable: true, writable: false, readToEnd: false, at: now)
    }
    stack.endTargetPass()
    for _ in 0..<stack.requestCount {
      let slot = stack.request(at: 0)
      if !stack.take(.read, of: slot).isEmpty {
        if stack.downloaded(slot, datagram: Slice(answer, Self.payloadOctets), at: now) {
          packets += 1
        }
        stack.drainedDatagrams(slot)
      }
      stack.endRequest(released: false)
    }
    stack.frames.removeAll()
    missing += 2 * Self.sessions - packets
    return packets
  }
}
