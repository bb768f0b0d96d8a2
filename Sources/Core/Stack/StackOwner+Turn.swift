import Primitives
import Wire

// A turn: everybody who wants something is served once, within the turn's budget.
//
//   1. First pass, target side: writes what came from clients, passes on their FINs. After it nothing
//      refers to the memory that packets were read into (the stack has copied what no target took).
//   2. Second pass, client side: reads targets, sends to clients, closes and releases. Whose target is
//      not read any more, since the budget is spent, is the next turn's first.
//   3. Third pass: dials for new conversations, which wait for those that run already, the longest
//      waiting first.
//
// Frames refer to the chunks of flows: they are written before anything can be acknowledged, or the chunks
// are given to nobody else until they are (`StackOwner.writeBehind`).
//
// The parts of a turn are not inlined, so that each one's machine code can be read by itself.

extension StackOwner where Self: ~Copyable {
  /// Makes the passes. Before it come the turn's packets, readiness and deadlines; if anything is still
  /// wanted after it, another turn is due at once.
  @inlinable package mutating func serve() {
    stack.readBudget = stack.budget.octets
    targetPass()
    readBuffersAreFree()
    clientPass()
    if stack.requestCount > 0 { dialPass() }
    stack.lookAtParts()
  }

  @inlinable @inline(never) mutating func targetPass() {
    var position = 0
    while position < stack.requestCount {
      let slot = stack.request(at: position)
      position += 1
      let isTCP = stack.isTCP(slot)
      // A session's socket is for the datagram that follows here.
      if !isTCP { while !stack.take(.dial, of: slot).isEmpty { dial(slot) } }
      if !stack.take(.upload, of: slot).isEmpty {
        if isTCP { upload(slot) } else { uploadDatagrams(slot) }
      }
      if !stack.take(.relieveTarget, of: slot).isEmpty { relieve(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty { finishTarget(slot) }
    }
    stack.endTargetPass()
  }

  @inlinable @inline(never) mutating func clientPass() {
    if !stack.frames.isEmpty { drainFrames() }
    var left = stack.requestCount
    // How many had asked for more before the first that could not be read any more.
    var ahead: Int?
    while left > 0 {
      let slot = stack.request(at: 0)
      let isTCP = stack.isTCP(slot)
      if stack.readBudget > 0 {
        if !stack.take(.read, of: slot).isEmpty {
          if isTCP { download(slot) } else { downloadDatagrams(slot) }
        }
      } else if ahead == nil, stack.wants(slot).contains(.read) {
        ahead = stack.requestCount - left
      }
      if !stack.take(.transmit, of: slot).isEmpty { transmit(slot) }
      if !stack.take(.finishTarget, of: slot).isEmpty {
        finishTarget(slot)
        transmit(slot)
      }
      if !stack.take(.resetClient, of: slot).isEmpty {
        while !stack.resetClient(slot) { drainFrames() }
      }
      let end = stack.take(.endings, of: slot)
      if !end.isDisjoint(with: .closings) {
        closeTarget(slot, abort: end.contains(.resetTarget))
      }
      if let why = stack.takeEnd(slot) { ended(slot, why) }
      if end.contains(.release) {
        closeTarget(slot, abort: false)
        stack.release(slot)
      }
      stack.endRequest(released: end.contains(.release))
      left -= 1
    }
    // Those have the next turn's first places.
    if let ahead { stack.moveToEnd(requests: ahead) }
    if !stack.frames.isEmpty { drainFrames() }
  }

  @inlinable @inline(never) mutating func dialPass() {
    var left = stack.requestCount
    var dials = 0
    // All the way round, so that the others keep their places.
    while left > 0 {
      let slot = stack.request(at: 0)
      // An address that fails at once is followed by the next, of which there are few.
      while dials < stack.budget.dials, !stack.take(.dial, of: slot).isEmpty {
        dial(slot)
        dials += 1
      }
      stack.endRequest(released: false)
      left -= 1
    }
  }

  // MARK: Sockets

  @inlinable @inline(never) mutating func dial(_ slot: UInt32) {
    closeTarget(slot, abort: false)  // a session's, of the address before
    switch openSocket(slot) {
    case .connected: stack.opened(slot, connected: true, at: now)
    case .connecting: stack.opened(slot, connected: false, at: now)
    case .failed(let failure):
      if stack.isTCP(slot) {
        stack.dialed(slot, failure: failure, at: now)
      } else {
        stack.sessionFailed(slot, failure: failure, at: now)
      }
    }
  }

  @inlinable mutating func closeTarget(_ slot: UInt32, abort: Bool) {
    guard stack.hasSocket(slot) else { return }
    closeSocket(slot, abort: abort)
    stack.closed(slot)
  }

  @inlinable mutating func finishTarget(_ slot: UInt32) {
    if stack.hasSocket(slot) { shutdownSocket(slot) }
    stack.targetFinishTold(slot, at: now)
  }

  /// Writes what the stack has put into its frame queue, behind what is being written.
  @inlinable @inline(never) package mutating func drainFrames() {
    finishWriting()
    for index in 0..<stack.frames.count {
      write(UnsafeBufferPointer(stack.frames.slices(of: index)))
    }
    stack.frames.removeAll()
  }
}
