import Primitives
import Stack
import Wire

// The target side: a kernel socket as the worker sees it, and the server behind it.
//
// The socket takes what its send buffer has room for and no more, gives what the server has said,
// reports readiness once per change (edge-triggered, like the daemon's epoll), and fails after a
// reset. Everything that it takes is compared with what the client's stream carries.

final class TargetModel {
  let plan: TargetPlan
  let flow: Int
  let isStray: Bool
  private let uploadKey: Int
  private let downloadKey: Int
  private(set) var isConnected = false
  private(set) var connectedAt = MonotonicInstant.zero
  private(set) var isClosed = false
  private(set) var wasAborted = false
  /// Octets that `send` took.
  private(set) var taken = 0
  /// The worker shut down its sending half.
  private(set) var isFinished = false
  private var consumed = 0
  private var hasStalled = false
  private var takeAt = MonotonicInstant.distantFuture
  /// Octets that the server said, and that the worker read.
  private(set) var said = 0
  private(set) var read = 0
  private var sayAt = MonotonicInstant.distantFuture
  private(set) var saidAll = false
  private(set) var hasReset = false
  private var connectAt = MonotonicInstant.distantFuture
  private(set) var connectFailed = false
  private var wasFull = false
  /// Octets that the socket takes beyond its bound, while it is made to.
  private var extraOctets = 0
  private var errorTold = false
  /// A change that the worker has not been told of.
  var eventPending = false
  /// The event queue's note.
  var armedAt = MonotonicInstant.distantFuture
  var dropsAnOctet = false
  /// Octets of the payload pool that the flow has kept after a turn, at most.
  var keptOctetsMax = 0

  init(
    _ plan: TargetPlan, flow: Int, isStray: Bool, uploadKey: Int, downloadKey: Int
  ) {
    self.plan = plan
    self.flow = flow
    self.isStray = isStray
    self.uploadKey = uploadKey
    self.downloadKey = downloadKey
  }

  /// Octets of what the server said before it reset count too.
  var total: Int { plan.resetAt.map { min($0, plan.download) } ?? plan.download }
  var isDone: Bool { isClosed }

  var nextDeadline: MonotonicInstant {
    isClosed ? .distantFuture : min(connectAt, min(takeAt, sayAt))
  }

  func dial(at now: MonotonicInstant) {
    switch plan.dial {
    case .connected: connected(at: now)
    case .later, .refused, .unreachable: connectAt = now + plan.dialDelay
    case .silent: break
    }
  }

  private func connected(at now: MonotonicInstant) {
    isConnected = true
    connectedAt = now
    eventPending = true
    if !isStray { sayAt = now + plan.sayDelay }
  }

  func timer(at now: MonotonicInstant) {
    guard !isClosed else { return }
    if connectAt <= now {
      connectAt = .distantFuture
      if plan.dial == .later { connected(at: now) } else { connectFailed = true }
      eventPending = true
    }
    if takeAt <= now { take(at: now) }
    if sayAt <= now { say(at: now) }
  }

  // MARK: The server

  private var sawEnd: Bool { isFinished && consumed == taken }

  private func say(at now: MonotonicInstant) {
    sayAt = .distantFuture
    guard !saidAll, !hasReset else { return }
    // The socket's receive buffer is bounded: an unread server waits.
    let room = 256 * 1024 - (said - read)
    let n = min(total - said, plan.sayOctets, max(0, room))
    if n > 0 {
      said += n
      eventPending = true
    }
    if said < total {
      sayAt = now + (n > 0 ? plan.sayPause : .milliseconds(1))
    } else if plan.resetAt != nil {
      hasReset = true
      takeAt = .distantFuture
      eventPending = true
    } else {
      endIfDone()
    }
  }

  private func endIfDone() {
    guard isConnected, !saidAll, said == total, !hasReset, plan.resetAt == nil,
      plan.ending == .afterSending || (plan.ending == .afterPeersEnd && sawEnd)
    else { return }
    saidAll = true
    eventPending = true
  }

  private func take(at now: MonotonicInstant) {
    takeAt = .distantFuture
    if let stall = plan.stallAt, !hasStalled, consumed >= stall {
      hasStalled = true
      takeAt = now + plan.stall
      return
    }
    var n = min(taken - consumed, plan.takeOctets)
    if let stall = plan.stallAt, !hasStalled { n = min(n, max(1, stall - consumed)) }
    consumed += n
    if let resetAt = plan.resetAtTaken, consumed >= resetAt {
      hasReset = true
      sayAt = .distantFuture
      eventPending = true
      return
    }
    if consumed < taken { takeAt = now + plan.takePause }
    if wasFull, taken - consumed <= plan.bufferOctets * 2 / 3 {
      wasFull = false
      eventPending = true
    }
    endIfDone()
  }

  // MARK: The worker's calls

  var isWritable: Bool { hasReset || taken - consumed <= plan.bufferOctets * 2 / 3 }
  var isReadable: Bool { read < said || saidAll || hasReset }
  var hasHungUp: Bool { saidAll || hasReset }

  func send(_ slices: UnsafeBufferPointer<Slice>, at now: MonotonicInstant) throws -> SocketTransfer
  {
    if isFinished { throw Violation("flow \(flow): a write after the shutdown") }
    if hasReset {
      errorTold = true
      return .failed(lost: false)
    }
    var room = plan.bufferOctets + extraOctets - (taken - consumed)
    guard room > 0 else {
      wasFull = true
      return .wouldBlock
    }
    var octets = 0
    for slice in slices where room > 0 {
      guard let base = slice.base, slice.octets > 0 else {
        throw Violation("flow \(flow): an empty slice")
      }
      let n = min(slice.octets, room)
      if let wrong = Pattern.mismatch(base, key: uploadKey, offset: taken, count: n) {
        throw Violation("flow \(flow): octet \(taken + wrong) towards the target is wrong")
      }
      taken += n
      octets += n
      room -= n
    }
    if dropsAnOctet, taken > 0 {
      dropsAnOctet = false
      taken -= 1
      consumed = min(consumed, taken)
    }
    if room == 0 { wasFull = true }
    if takeAt == .distantFuture { takeAt = now + plan.takePause }
    return .octets(octets)
  }

  /// Raises the socket's bound by so much, or sets it back by 0: it then tells when it has room.
  func buffersMore(_ octets: Int) {
    extraOctets = octets
    if octets == 0 {
      wasFull = !isWritable
      eventPending = true
    }
  }

  func receive(_ slices: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    guard read < said else {
      // A socket tells its error once; after that it is at its end.
      if hasReset, !errorTold { return .failed(lost: false) }
      if hasReset { return .endOfStream }
      return saidAll ? .endOfStream : .wouldBlock
    }
    var octets = 0
    for slice in slices {
      guard let base = slice.base else { continue }
      let n = min(slice.octets, said - read)
      Pattern.fill(base, key: downloadKey, offset: read, count: n)
      read += n
      octets += n
    }
    return .octets(octets)
  }

  func shutdownWrite(at now: MonotonicInstant) {
    isFinished = true
    if takeAt == .distantFuture { takeAt = now }
  }

  func close(abort: Bool) {
    isClosed = true
    wasAborted = abort
  }
}
