import Kernel
import Logging
import Primitives
import Stack
import TCP
import Wire

// The kernel sockets of flows: one call each, for the passes of a turn (StackOwner).

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

  // MARK: Any socket

  mutating func openSocket(_ slot: UInt32) -> SocketOpening {
    let target = stack.target(slot)
    do throws(SystemError) {
      switch target.transport {
      case .tcp:
        switch try TargetSocket.dialTCP(
          target.address, port: target.port, keepalive: keepalive(slot))
        {
        case .connected(let socket):
          try adopt(socket, slot)
          return .connected
        case .inProgress(let socket):
          try adopt(socket, slot)
          return .connecting
        }
      case .udp:
        let socket = try TargetSocket.openUDP(connectedTo: target.address, port: target.port)
        if !socket.joinDatagrams() { stack.forgoTargetRuns() }
        try adopt(socket, slot)
        return .connected
      }
    } catch {
      let failure = failure(error)
      if case .exhausted = failure { alarm(error) }
      return .failed(failure)
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
    _ socket: consuming TargetSocket, _ slot: UInt32
  ) throws(SystemError) {
    try epoll.add(
      socket.number, token: stack.handle(slot).token,
      interests: stack.isTCP(slot) ? Self.targetInterests : Self.sessionInterests)
    (sockets + Int(slot)).initialize(to: socket)
  }

  private static let targetInterests: EpollInterests = [
    .readable, .writable, .urgent, .readHangup, .edgeTriggered,
  ]

  /// A session does not wait for room in its socket, and would be told of it by each datagram that leaves.
  private static let sessionInterests: EpollInterests = [.readable, .edgeTriggered]

  mutating func closeSocket(_ slot: UInt32, abort: Bool) {
    if abort { sockets[Int(slot)].abortOnClose() }
    if !stack.isTCP(slot), let lost = sockets[Int(slot)].lostDatagrams(), lost > 0 {
      stack.countDrop(.targetQueueFull, by: lost)
    }
    (sockets + Int(slot)).deinitialize(count: 1)
  }

  mutating func ended(_ slot: UInt32, _ why: FlowEnd) {
    if logsFlows { logEnd(slot, why) }
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

  mutating func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Slice>) -> SocketTransfer {
    transfer(sockets[Int(slot)].send(gather))
  }

  mutating func receive(
    _ slot: UInt32, into scatter: UnsafeBufferPointer<Slice>
  ) -> SocketTransfer {
    transfer(sockets[Int(slot)].receive(into: scatter))
  }

  private func transfer(_ transfer: Transfer) -> SocketTransfer {
    switch transfer {
    case .octets(let octets): .octets(octets)
    case .wouldBlock: .wouldBlock
    case .endOfStream: .endOfStream
    case .failed(let error): .failed(lost: isSilence(error))
    }
  }

  mutating func shutdownSocket(_ slot: UInt32) {
    if let error = sockets[Int(slot)].shutdownWrite() { logFailedShutdown(error) }
  }

  @inline(never) private func logFailedShutdown(_ error: SystemError) {
    log.debug("shutdown failed", metadata: ["error": "\(error)"])
  }

  /// Best effort: in a process that was started without CAP_NET_ADMIN, or in a user namespace, the
  /// kernel's own bound stays.
  mutating func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool {
    raisedBound = sockets[Int(slot)].raiseSendBuffer(by: octets)
    return raisedBound != nil
  }

  mutating func restoreSendBound(_ slot: UInt32) -> Bool {
    if let raisedBound { sockets[Int(slot)].restoreSendBuffer(raisedBound) }
    raisedBound = nil
    do throws(SystemError) {
      // Asked anew, the kernel notes that somebody waits for room, or says that there is some.
      try epoll.modify(
        sockets[Int(slot)].number, token: stack.handle(slot).token,
        interests: Self.targetInterests)
      return true
    } catch {
      return false
    }
  }
}
