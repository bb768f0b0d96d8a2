import Kernel
import Logging
import Primitives
import Stack
import TCP
import Wire

// The three passes over the flows that want something, and the kernel sockets they are about.

extension WorkerLoop {
  /// An event of a flow's socket.
  @inline(never) mutating func targetEvent(_ token: UInt64, _ readiness: EpollReadiness) {
    guard let slot = stack.slot(FlowHandle(token: token)), stack.hasSocket(slot) else { return }
    if stack.isDialing(slot) {
      guard !readiness.isDisjoint(with: .dialed) else { return }
      if !readiness.isDisjoint(with: .dead), let error = sockets[Int(slot)].pendingError() {
        stack.dialed(slot, failure: failure(error), at: now)
        return
      }
      stack.dialed(slot, failure: nil, at: now)
    }
    if readiness.contains(.failed), !stack.isTCP(slot) { heedReports(slot) }
    stack.targetReady(
      slot, readable: readiness.contains(.readable), writable: readiness.contains(.writable),
      readToEnd: !readiness.isDisjoint(with: .readToEnd),
      dead: !readiness.isDisjoint(with: .dead), at: now)
  }

  /// First pass: what goes towards targets.
  @inline(never) mutating func targetPass() {
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

  /// Second pass: what comes from targets and goes to clients, and the end of flows.
  @inline(never) mutating func clientPass() {
    if !stack.frames.isEmpty { drainFrames() }
    var left = stack.requestCount
    // How many had asked for more before the first that could not be read any more.
    var ahead: Int?
    while left > 0, let slot = stack.beginRequest() {
      let isTCP = stack.isTCP(slot)
      if readBudget > 0 {
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
      if let why = stack.takeEnd(slot), logsFlows { logEnd(slot, why) }
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

  /// Third pass: connects to the targets of new conversations, the longest waiting first.
  @inline(never) mutating func dialPass() {
    var left = stack.requestCount
    var dials = 0
    // All the way round, so that the others keep their places.
    while left > 0, let slot = stack.beginRequest() {
      // An address that fails at once is followed by the next, of which there are few.
      while dials < Self.dialsMax, !stack.take(.dial, of: slot).isEmpty {
        dial(slot)
        dials += 1
      }
      stack.endRequest(released: false)
      left -= 1
    }
  }

  // MARK: Sockets

  private mutating func dial(_ slot: UInt32) {
    closeTarget(slot, abort: false)  // that of the address before
    let target = stack.target(slot)
    do throws(SystemError) {
      switch target.transport {
      case .tcp:
        switch try TargetSocket.dialTCP(
          target.address, port: target.port, keepalive: keepalive(slot))
        {
        case .connected(let socket): try adopt(socket, slot, connected: true)
        case .inProgress(let socket): try adopt(socket, slot, connected: false)
        }
      case .udp:
        let socket = try TargetSocket.openUDP(connectedTo: target.address, port: target.port)
        if !socket.joinDatagrams() { stack.forgoTargetRuns() }
        try adopt(socket, slot, connected: true)
      }
    } catch {
      let failure = failure(error)
      if case .exhausted = failure { alarm(error) }
      switch target.transport {
      case .tcp: stack.dialed(slot, failure: failure, at: now)
      case .udp: stack.sessionFailed(slot, failure: failure, at: now)
      }
    }
  }

  /// The rule's keep-alive in the kernel's terms: the target is asked as the client is.
  private func keepalive(_ slot: UInt32) -> SocketKeepalive? {
    let idle = stack.keepalive(slot)
    guard idle > .zero else { return nil }
    func seconds(_ interval: Interval) -> Int { (interval.milliseconds + 999) / 1000 }
    return SocketKeepalive(
      idle: seconds(idle), spacing: seconds(TCPEndpoint.keepaliveSpacing(idle)),
      probes: TCPEndpoint.keepaliveProbesMax)
  }

  private mutating func adopt(
    _ socket: consuming TargetSocket, _ slot: UInt32, connected: Bool
  ) throws(SystemError) {
    try epoll.add(
      socket.number, token: stack.handle(slot).token,
      interests: stack.isTCP(slot) ? Self.targetInterests : Self.sessionInterests)
    (sockets + Int(slot)).initialize(to: socket)
    stack.opened(slot, connected: connected, at: now)
  }

  private static let targetInterests: EpollInterests = [
    .readable, .writable, .urgent, .readHangup, .edgeTriggered,
  ]

  /// A session does not wait for room in its socket, and would be told of it by each datagram that leaves.
  private static let sessionInterests: EpollInterests = [.readable, .edgeTriggered]

  private mutating func closeTarget(_ slot: UInt32, abort: Bool) {
    guard stack.hasSocket(slot) else { return }
    if abort { sockets[Int(slot)].abortOnClose() }
    if !stack.isTCP(slot), let lost = sockets[Int(slot)].lostDatagrams(), lost > 0 {
      stack.countDrop(.targetQueueFull, by: lost)
    }
    (sockets + Int(slot)).deinitialize(count: 1)
    stack.closed(slot)
  }

  private mutating func finishTarget(_ slot: UInt32) {
    if stack.hasSocket(slot), let error = sockets[Int(slot)].shutdownWrite() {
      logFailedShutdown(error)
    }
    stack.targetFinishTold(slot, at: now)
  }

  @inline(never) private func logFailedShutdown(_ error: SystemError) {
    log.debug("shutdown failed", metadata: ["error": "\(error)"])
  }

  /// What a kernel error means to the client.
  func failure(_ error: SystemError) -> TargetFailure {
    if error.isRefused || error.isReset { return .refused }
    if error.isTimedOut { return .timedOut }
    if error.isNetworkUnreachable { return .networkUnreachable }
    if error.isUnreachable { return .hostUnreachable }
    if error.isNotPermitted { return .prohibited }
    if error.isOutOfDescriptors || error.isOutOfMemory || error.isOutOfPorts || error.isOutOfWatches
    {
      return .exhausted
    }
    return .hostUnreachable
  }

  /// Whether the kernel gave a target up that it heard nothing more of.
  private func isSilence(_ error: SystemError) -> Bool {
    error.isTimedOut || error.isUnreachable || error.isNetworkUnreachable
  }

  /// One clear line, at most every second, for what an operator must mend.
  @inline(never) private mutating func alarm(_ error: SystemError) {
    guard now - lastAlarm > .seconds(1) else { return }
    lastAlarm = now
    log.error("no socket for a new flow", metadata: ["error": "\(error)"])
  }

  // MARK: TCP

  private mutating func upload(_ slot: UInt32) {
    while true {
      let (count, octets) = stack.gather(slot, into: slices)
      guard count > 0 else { return }
      let gather = UnsafeBufferPointer(rebasing: slices[..<count])
      switch sockets[Int(slot)].send(gather) {
      case .octets(let sent):
        stack.uploaded(slot, octets: sent, more: sent == octets, at: now)
        if sent < octets || count < slices.count { return }
      case .wouldBlock, .endOfStream:
        stack.uploaded(slot, octets: 0, more: false, at: now)
        return
      case .failed(let error):
        stack.targetWriteFailed(slot, lost: isSilence(error), at: now)
        return
      }
    }
  }

  /// Has a stalled target's socket take what is kept for it, so that it can be acknowledged. Best
  /// effort: in a process that was started without CAP_NET_ADMIN, or in a user namespace, the
  /// kernel's own bound stays.
  private mutating func relieve(_ slot: UInt32) {
    let octets = stack.beginRelief(slot)
    guard octets > 0 else { return }
    let bound = sockets[Int(slot)].raiseSendBuffer(by: octets)
    upload(slot)
    if let bound { sockets[Int(slot)].restoreSendBuffer(bound) }
    stack.endRelief(slot, wasRaised: bound != nil)
    do throws(SystemError) {
      // Asked anew, the kernel notes that somebody waits for room, or says that there is some.
      try epoll.modify(
        sockets[Int(slot)].number, token: stack.handle(slot).token,
        interests: Self.targetInterests)
    } catch {
      stack.targetWriteFailed(slot, at: now)
    }
  }

  private mutating func download(_ slot: UInt32) {
    var budget = Self.readBudget
    while budget > 0, stack.hasSocket(slot) {
      let count = stack.openRoom(slot, limit: budget, slices: slices)
      guard count > 0 else { break }
      let scatter = UnsafeBufferPointer(rebasing: slices[..<count])
      let room = scatter.reduce(0) { $0 + $1.octets }
      switch sockets[Int(slot)].receive(into: scatter) {
      case .octets(let octets):
        stack.downloaded(slot, octets: octets, more: octets == room, at: now)
        budget -= octets
        readBudget -= octets
        if octets < room, !stack.readsToEnd(slot) { budget = -1 }
      case .wouldBlock:
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.drained(slot)
        budget = -1
      case .endOfStream:
        stack.targetFinished(slot, at: now)
        budget = -1
      case .failed(let error):
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.targetFailed(slot, lost: isSilence(error), at: now)
        budget = -1
      }
    }
    transmit(slot)
    if budget == 0 { stack.readLater(slot) }
  }

  private mutating func transmit(_ slot: UInt32) {
    while !stack.transmit(slot, at: now) { drainFrames() }
    // Frames refer to the flow's chunks: they go out before anything can be acknowledged.
    if !stack.frames.isEmpty { drainFrames() }
  }
}
