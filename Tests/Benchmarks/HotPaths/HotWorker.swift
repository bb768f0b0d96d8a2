import Configuration
import Primitives
import Stack
import TCP
import Wire

// A stack and the worker's two passes around it, without a kernel: targets are counters.

package struct HotWorker: ~Copyable {
  /// Slices of one write or read, as many as the worker has.
  private static let slicesMax = 256
  /// Octets that a flow may read from its target in a turn, as in the worker.
  private static let readBudget = 256 * 1024

  var stack: Stack
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
  /// They come in runs.
  var joinsDatagrams = false
  /// The targets have finished.
  var finishes = false
  private(set) var framesSent = 0
  private let slices: UnsafeMutableBufferPointer<Slice>
  private let scratch: UnsafeMutableRawPointer

  /// - Parameter rules: those of several workers; nil: one that leads where the client wants to go.
  init(offloads: Bool = true, rules: RuleSet? = nil) {
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

  /// Both passes; what is sent is heard by the client.
  mutating func turn(_ client: inout Client) {
    targetPass()
    clientPass(&client)
  }

  /// The conversation's slot, once it is open.
  private(set) var slot: UInt32 = 0

  /// The client's SYN, the target's connection, SYN-ACK, ACK.
  mutating func connect(_ client: inout Client) {
    receive(client.segment(.syn, at: now))
    turn(&client)
    receive(client.segment(.ack, at: now))
    turn(&client)
  }

  // MARK: Target side

  private mutating func targetPass() {
    var position = 0
    while position < stack.requestCount {
      let slot = stack.request(at: position)
      position += 1
      while !stack.take(.dial, of: slot).isEmpty {
        self.slot = slot
        stack.opened(slot, connected: true, at: now)
      }
      if !stack.take(.upload, of: slot).isEmpty {
        if stack.isTCP(slot) { upload(slot) } else { uploadDatagrams(slot) }
      }
      if !stack.take(.relieveTarget, of: slot).isEmpty, stack.beginRelief(slot) > 0 {
        stack.endRelief(slot, wasRaised: false)
      }
      if !stack.take(.finishTarget, of: slot).isEmpty { stack.targetFinishTold(slot, at: now) }
    }
    stack.endTargetPass()
  }

  private mutating func upload(_ slot: UInt32) {
    while true {
      let (count, octets) = stack.gather(slot, into: slices)
      guard count > 0 else { return }
      let taken = min(octets, appetite)
      appetite -= taken
      octetsTaken += taken
      stack.uploaded(slot, octets: taken, more: taken == octets, at: now)
      if taken < octets || count < slices.count { return }
    }
  }

  private mutating func uploadDatagrams(_ slot: UInt32) {
    let segmentOctetsMax = stack.runSegmentOctetsMax(slot, at: now)
    while let (slice, segmentOctets) = stack.nextDatagrams(
      slot, runSegmentOctetsMax: segmentOctetsMax)
    {
      let run = DatagramRun(slice.octets, segmentOctets: segmentOctets)
      datagramsTaken += run.datagrams
      stack.uploadedDatagrams(slot, octets: slice.octets)
    }
  }

  // MARK: Client side

  private mutating func clientPass(_ client: inout Client) {
    drain(&client)
    for _ in 0..<stack.requestCount {
      guard let slot = stack.beginRequest() else { break }
      if !stack.take(.read, of: slot).isEmpty {
        if stack.isTCP(slot) { download(slot, &client) } else { downloadDatagrams(slot, &client) }
      }
      if !stack.take(.transmit, of: slot).isEmpty { transmit(slot, &client) }
      if !stack.take(.finishTarget, of: slot).isEmpty {
        stack.targetFinishTold(slot, at: now)
        transmit(slot, &client)
      }
      if !stack.take(.resetClient, of: slot).isEmpty {
        while !stack.resetClient(slot) { drain(&client) }
      }
      let end = stack.take(.endings, of: slot)
      if !end.isEmpty, stack.hasSocket(slot) { stack.closed(slot) }
      _ = stack.takeEnd(slot)
      if end.contains(.release) { stack.release(slot) }
      stack.endRequest(released: end.contains(.release))
    }
    drain(&client)
  }

  private mutating func download(_ slot: UInt32, _ client: inout Client) {
    var budget = Self.readBudget
    while budget > 0, stack.hasSocket(slot) {
      let count = stack.openRoom(slot, limit: budget, slices: slices)
      guard count > 0 else { break }
      var room = 0
      for index in 0..<count { room += slices[index].octets }
      let said = min(room, waiting)
      waiting -= said
      budget -= said
      if said == 0, finishes {
        stack.targetFinished(slot, at: now)
        break
      }
      stack.downloaded(slot, octets: said, more: said == room, at: now)
      if said < room {
        if finishes {
          stack.readLater(slot)
        } else {
          stack.drained(slot)
        }
        break
      }
    }
    transmit(slot, &client)
    if budget == 0 { stack.readLater(slot) }
  }

  private mutating func downloadDatagrams(_ slot: UInt32, _ client: inout Client) {
    if joinsDatagrams { downloadRun(slot, &client) }
    while datagramsWaiting > 0 {
      datagramsWaiting -= 1
      let datagram = Slice(scratch, datagramOctets)
      while !stack.downloaded(slot, datagram: datagram, at: now) { drain(&client) }
    }
    stack.drainedDatagrams(slot)
  }

  /// All that wait as one run, gathered from as many places.
  private mutating func downloadRun(_ slot: UInt32, _ client: inout Client) {
    guard datagramsWaiting > 0 else { return }
    var run = DatagramRun(datagramOctets)
    slices[0] = Slice(scratch, datagramOctets)
    var count = 1
    while count < datagramsWaiting, run.join(DatagramRun(datagramOctets)) {
      slices[count] = Slice(scratch, datagramOctets)
      count += 1
    }
    guard stack.joinsDatagrams(slot, run, at: now) else { return }
    while !stack.downloaded(
      slot, run: run, UnsafeBufferPointer(start: slices.baseAddress, count: count), at: now)
    { drain(&client) }
    datagramsWaiting -= count
  }

  private mutating func transmit(_ slot: UInt32, _ client: inout Client) {
    while !stack.transmit(slot, at: now) { drain(&client) }
    drain(&client)
  }

  private mutating func drain(_ client: inout Client) {
    for index in 0..<stack.frames.count { client.hear(stack.frames.slices(of: index)) }
    framesSent += stack.frames.count
    stack.frames.removeAll()
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
