// What the tests of this target share: namespaces that clean up after themselves, plain peers on the
// loopback, waiting.
//
// A test's namespace has no name. It lives as long as the test holds its descriptor, so that the
// kernel removes it with everything inside, however the test ends.

import Glibc
import Kernel
import Primitives
import Wire

/// A network namespace of a test's own.
struct TestNamespace: ~Copyable {
  private let descriptor: Descriptor

  init() throws { descriptor = try NetworkNamespace.makeAnonymous() }

  /// Names it as a configuration would.
  var path: String { "/proc/self/fd/\(descriptor.number)" }

  /// What a command prints in the namespace, errors included.
  func output(of command: String) throws -> String {
    try NetworkNamespace.run(in: path) {
      guard let pipe = popen("\(command) 2>&1", "r") else { return "popen failed" }
      var octets: [UInt8] = []
      while case let octet = fgetc(pipe), octet != EOF {
        octets.append(UInt8(truncatingIfNeeded: octet))
      }
      pclose(pipe)
      return String(decoding: octets, as: UTF8.self)
    }
  }
}

struct TestFailure: Error { var reason: String }

/// A peer's socket, made with nothing of the code under test but the descriptor's owner.
struct PeerSocket: ~Copyable {
  let descriptor: Descriptor
  let port: UInt16

  /// Bound to a free port of an address; listening if asked to.
  init(_ address: IPAddress, type: __socket_type, listening: Bool = false) throws {
    let number = socket(address.isIPv4 ? AF_INET : AF_INET6, CInt(type.rawValue), 0)
    guard number >= 0 else { throw TestFailure(reason: "socket") }
    let made = Descriptor(adopting: number)
    guard withKernelAddress(address, port: 0, { bind(number, $0, $1) }) == 0 else {
      throw TestFailure(reason: "bind")
    }
    if listening, listen(number, 16) != 0 { throw TestFailure(reason: "listen") }
    let probe = TargetSocket(adopting: Descriptor(adopting: dup(number)))
    guard let name = probe.localName() else { throw TestFailure(reason: "getsockname") }
    descriptor = made
    port = name.port
  }

  /// Waits for a client; the socket blocks.
  func accept() throws -> Descriptor {
    let number = Glibc.accept(descriptor.number, nil, nil)
    guard number >= 0 else { throw TestFailure(reason: "accept") }
    return Descriptor(adopting: number)
  }

  /// Connects to a port of the loopback, as a UDP peer does to answer.
  func connect(to address: IPAddress, port: UInt16) throws {
    let result = withKernelAddress(address, port: port) {
      Glibc.connect(descriptor.number, $0, $1)
    }
    guard result == 0 else { throw TestFailure(reason: "connect") }
  }
}

let loopback = IPAddress(v4: 0x7f00_0001)
let loopback6 = IPAddress(high: 0, low: 1)

/// Waits until a descriptor is ready, a minute at most: as long as a busy machine may take.
func waitUntil(_ interests: EpollInterests, _ number: CInt) throws -> EpollReadiness {
  var epoll = try Epoll()
  try epoll.add(number, token: 1, interests: interests)
  let now = MonotonicClock.now()
  guard try epoll.wait(until: now + .seconds(60), now: now) == 1 else { return [] }
  return epoll.event(0).readiness
}

/// A dial that stands, whichever way it came.
func established(_ dial: consuming Dial) throws -> TargetSocket {
  switch consume dial {
  case .connected(let socket): return socket
  case .inProgress(let socket):
    _ = try waitUntil(.writable, socket.number)
    if let error = socket.pendingError() { throw error }
    return socket
  }
}

extension Transfer {
  var octetCount: Int? { if case .octets(let count) = self { count } else { nil } }
  var failure: SystemError? { if case .failed(let error) = self { error } else { nil } }
  var isEnd: Bool { if case .endOfStream = self { true } else { false } }
  var isBlocked: Bool { if case .wouldBlock = self { true } else { false } }
}

/// Sends octets as one slice.
func send(_ octets: [UInt8], on socket: borrowing TargetSocket) -> Transfer {
  var octets = octets
  return octets.withUnsafeMutableBytes { memory in
    withUnsafePointer(to: memory.slice(0..<memory.count)) {
      socket.send(UnsafeBufferPointer(start: $0, count: 1))
    }
  }
}

/// Receives into slices of these sizes.
func receive(on socket: borrowing TargetSocket, sizes: [Int]) -> (Transfer, [UInt8]) {
  var octets = [UInt8](repeating: 0, count: sizes.reduce(0, +))
  let transfer = octets.withUnsafeMutableBytes { memory in
    var offset = 0
    let slices = sizes.map { size in
      defer { offset += size }
      return memory.slice(offset..<offset + size)
    }
    return slices.withUnsafeBufferPointer { socket.receive(into: $0) }
  }
  return (transfer, Array(octets.prefix(transfer.octetCount ?? 0)))
}

extension UnsafeMutableRawBufferPointer {
  /// A part of memory that is not empty.
  func slice(_ range: Range<Int>) -> Slice {
    precondition(range.upperBound <= count && count > 0, "slice")
    return Slice(baseAddress.unsafelyUnwrapped + range.lowerBound, range.count)
  }
}
