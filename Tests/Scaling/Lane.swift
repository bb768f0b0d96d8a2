import Configuration
import Primitives
import Stack
import Steering
import Wire

// A worker without kernel: a stack of its own, and UDP clients whose datagrams their targets echo at
// once. Everything that a datagram costs in user space is done, both ways; no system call is made.

struct Lane: ~Copyable {
  static let sessions = 64
  private static let payloadOctets = 64

  private var stack: Stack
  private let frames: UnsafeMutablePointer<UnsafeRawBufferPointer>
  private let answer: UnsafeMutableRawPointer

  /// - Parameters:
  ///   - number: 0..<workers
  ///   - workers: of 1 there is nothing to steer.
  init(_ number: Int, of workers: Int, at now: MonotonicInstant) {
    var settings = StackSettings(
      mtu: 1500, maxFlows: 1024, unmatched: .reject, drainTimeout: .seconds(1), seed: (1, 2))
    let steering = Steering(workers: workers, seed: (3, 4))
    if workers > 1 {
      settings.steering = steering
      settings.worker = number
    }
    let rule = ForwardRule(
      name: "echo", protocols: .udp,
      listen: [ListenPattern(addresses: .any, ports: PortRange(53))],
      target: Target(host: .address(IPAddress(v4: 0x7f00_0001)), port: .fixed(53)))
    stack = Stack(settings: settings, rules: [rule], at: now)
    frames = .allocate(capacity: Self.sessions)
    answer = .allocate(byteCount: Self.payloadOctets, alignment: 64)
    answer.initializeMemory(as: UInt8.self, repeating: 7, count: Self.payloadOctets)
    let (client, virtual) = (IPAddress(v4: 0x0a4d_0002), IPAddress(v4: 0x0a4d_000a))
    var port: UInt16 = 10_000
    for index in 0..<Self.sessions {
      func isHere(_ port: UInt16) -> Bool {
        let tuple = FiveTuple(
          client: client, virtual: virtual, clientPort: port, virtualPort: 53, transport: .udp)
        return steering.worker(of: tuple) == number
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

  /// A turn: a datagram of each session, and its answer.
  /// - Returns: packets in and out; fewer than twice the sessions when something went wrong.
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
      guard let slot = stack.beginRequest() else { break }
      if !stack.take(.read, of: slot).isEmpty {
        if stack.downloaded(slot, datagram: Slice(answer, Self.payloadOctets), at: now) {
          packets += 1
        }
        stack.drainedDatagrams(slot)
      }
      stack.endRequest(released: false)
    }
    stack.frames.removeAll()
    return packets
  }
}
