import Configuration
import Primitives
import Stack
import TCP
import Wire

// A worker without a kernel: targets are counters, and the device is the one client.

struct HotWorker: ~Copyable, StackOwner {
  /// Slices of one write or read, as many as the worker has.
  private static let slicesMax = 256

  var stack: Stack
  var client: Client
  var now = MonotonicInstant(nanoseconds: 5_000_000_000)
  /// Octets that targets take in a turn.
  var appetite = Int.max
  private(set) var octetsTaken = 0
  private(set) var datagramsTaken = 0
  /// Octets that targets have yet to say.
  var waiting = 0
  /// Datagrams that targets have yet to say, and their length.
  var datagramsWaiting = 0
  let datagramOctets = 1200
  /// The targets have finished.
  var finishes = false
  private(set) var framesSent = 0
  let slices: UnsafeMutableBufferPointer<Slice>
  private let scratch: UnsafeMutableRawPointer

  /// - Parameter rules: those of several workers; nil: one that leads where the client wants to go.
  init(client: consuming Client, offloads: Bool = true, rules: RuleSet? = nil) {
    self.client = client
    var settings = StackSettings(
      mtu: 1500, maxFlows: 4096, unmatched: .drop, drainTimeout: .seconds(30),
      seed: (0x0123_4567_89AB_CDEF, 42), offloadsSegmentation: offloads, offloadsChecksum: offloads)
    settings.bufferOctetsMax = 64 << 20
    settings.offloadsDatagrams = offloads
    let rule = ForwardRule(
      name: "all", protocols: [.tcp, .udp],
      listen: [ListenPattern(addresses: .any, ports: PortRange(80))],
      target: Target(host: .original, port: .same))
    stack = Stack(settings: settings, rules: rules ?? RuleSet([rule]), at: now)
    slices = .allocate(capacity: Self.slicesMax)
    scratch = .allocate(byteCount: 2048, alignment: 64)
    scratch.initializeMemory(as: UInt8.self, repeating: 0xA5, count: 2048)
  }

  deinit {
    slices.deallocate()
    scratch.deallocate()
  }

  /// Time passes; deadlines are served.
  mutating func advance(microseconds: Int) {
    now = now + .microseconds(microseconds)
    if let due = stack.nextDeadline(), due <= now { stack.handleDeadlines(at: now) }
  }

  mutating func receive(_ frame: UnsafeRawBufferPointer) { stack.receive(frame, at: now) }

  /// What epoll would say of every socket: there is room, and something to read if `readable`.
  mutating func targetReady(_ slot: UInt32, readable: Bool) {
    stack.targetReady(slot, readable: readable, writable: true, readToEnd: false, at: now)
  }

  /// Serves everybody until nobody wants anything; what is sent is heard by the client.
  mutating func turn() {
    repeat { serve() } while stack.requestCount > 0
  }

  /// The conversation's slot, once it is open.
  private(set) var slot: UInt32 = 0

  /// The client's SYN, the target's connection, SYN-ACK, ACK.
  mutating func connect() {
    receive(client.segment(.syn, at: now))
    turn()
    receive(client.segment(.ack, at: now))
    turn()
  }

  // MARK: The owner's part

  mutating func write(_ frame: UnsafeBufferPointer<Slice>) {
    client.hear(frame)
    framesSent += 1
  }

  mutating func readBuffersAreFree() {}

  mutating func openSocket(_ slot: UInt32) -> SocketOpening {
    self.slot = slot
    return .connected
  }

  mutating func closeSocket(_ slot: UInt32, abort: Bool) {}
  mutating func ended(_ slot: UInt32, _ why: FlowEnd) {}

  mutating func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    let taken = min(Self.octets(gather), appetite)
    guard taken > 0 else { return .wouldBlock }
    appetite -= taken
    octetsTaken += taken
    return .octets(taken)
  }

  mutating func receive(
    _ slot: UInt32, into scatter: UnsafeBufferPointer<Slice>
  ) -> SocketTransfer {
    let said = min(Self.octets(scatter), waiting)
    guard said > 0 else { return finishes ? .endOfStream : .wouldBlock }
    waiting -= said
    return .octets(said)
  }

  private static func octets(_ slices: UnsafeBufferPointer<Slice>) -> Int {
    var octets = 0
    for index in 0..<slices.count { octets += slices[index].octets }
    return octets
  }

  mutating func shutdownSocket(_ slot: UInt32) {}
  mutating func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool { false }
  mutating func restoreSendBound(_ slot: UInt32) -> Bool { true }

  mutating func permitFragments(_ slot: UInt32) {}

  mutating func putDatagrams(
    _ slot: UInt32, _ slice: Slice, segmentOctets: Int, joinedUpTo longest: Int
  ) {
    datagramsTaken += DatagramRun(slice.octets, segmentOctets: segmentOctets).datagrams
    stack.uploadedDatagrams(slot, octets: slice.octets)
  }

  mutating func sendDatagrams(_ slot: UInt32) {}

  mutating func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer {
    let count = min(datagramsWaiting, messages)
    guard count > 0 else { return .wouldBlock }
    datagramsWaiting -= count
    return .messages(count, octets: count * datagramOctets, more: datagramsWaiting > 0)
  }

  func message(_ index: Int) -> (slice: Slice, run: DatagramRun) {
    (Slice(scratch, datagramOctets), DatagramRun(datagramOctets))
  }

  // MARK: What may have gone wrong

  /// What targets were given, against what clients sent.
  func failure(expecting octets: Int) -> String? {
    octetsTaken == octets ? losses() : "\(octetsTaken) of \(octets) octets arrived"
  }

  /// Packets dropped for any reason, and flows that ended unasked.
  func losses() -> String? {
    for reason in DropReason.allCases where stack.drops[reason] > 0 {
      return "\(stack.drops[reason]) packets dropped: \(reason.word)"
    }
    if stack.counters.flowsReset > 0 { return "\(stack.counters.flowsReset) flows reset" }
    return nil
  }
}
