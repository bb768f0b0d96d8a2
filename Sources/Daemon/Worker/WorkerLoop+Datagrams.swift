import Kernel
import Stack
import Wire

// Datagrams of sessions, by the batch, and runs of them: towards targets and from them.

extension WorkerLoop {
  mutating func uploadDatagrams(_ slot: UInt32) {
    guard stack.hasSocket(slot) else { return }
    if stack.takeFragmentPermission(slot) {
      sockets[Int(slot)].permitFragments(isIPv4: stack.target(slot).address.isIPv4)
    }
    outgoing.segmentOctetsMax = stack.runSegmentOctetsMax(slot, at: now)
    while let (slice, segmentOctets) = stack.nextDatagrams(
      slot, runSegmentOctetsMax: outgoing.segmentOctetsMax)
    {
      if !outgoing.append(slice, segmentOctets: segmentOctets) {
        sendDatagrams(slot)
        _ = outgoing.append(slice, segmentOctets: segmentOctets)
      }
    }
    sendDatagrams(slot)
  }

  /// Sends what waits. UDP may drop: what the socket has no room for is counted and gone.
  private mutating func sendDatagrams(_ slot: UInt32) {
    // One behind the other.
    var refusals = 0
    while outgoing.count > 0 {
      switch outgoing.send(on: sockets[Int(slot)]) {
      case .messages:
        stack.uploadedDatagrams(slot, octets: outgoing.octetsSent)
        refusals = 0
      case .wouldBlock:
        stack.countDrop(.targetWriteFailed, by: outgoing.count)
        outgoing.removeAll()
      case .failed(let error):
        // An earlier datagram's ICMP error comes with the next call, once: this one is not lost.
        let heard = heedReports(slot)
        if heard != .network, isRefusalOfRun(error), let octets = outgoing.split() {
          if !error.isOutOfMemory { stack.runWasRefused(slot, segmentOctets: octets, at: now) }
          outgoing.segmentOctetsMax = stack.runSegmentOctetsMax(slot, at: now)
          continue
        }
        if error.isMessageTooLong, heard != .network {
          stack.countDrop(.datagramTooLarge, by: outgoing.removeFirst())
        } else {
          // For want of memory a datagram is lost, and nothing is wrong with its target.
          if heard == .nothing, !error.isOutOfMemory {
            stack.sessionFailed(slot, failure: failure(error), at: now)
          }
          refusals += 1
          if refusals > 1 {
            stack.countDrop(.targetWriteFailed, by: outgoing.removeFirst())
          }
        }
      }
    }
  }

  /// Whether datagrams that are longer than the path takes, that the kernel or the interface cannot cut, or
  /// that there is no memory for together may leave one by one all the same.
  private func isRefusalOfRun(_ error: SystemError) -> Bool {
    error.isInvalid || error.isMessageTooLong || error.isInputOutput || error.isOutOfMemory
  }

  mutating func downloadDatagrams(_ slot: UInt32) {
    var budget = Self.messageBudget
    var octetBudget = Self.datagramOctetBudget
    // What a message is expected to cost: where the device takes no runs, a long one's datagrams, until
    // some are there.
    var costEach = stack.offloadsDatagrams ? 1 : DatagramRun.datagramsMax
    while budget > 0, octetBudget > 0, stack.hasSocket(slot) {
      let limit = max(1, min(incoming.messagesExpected, budget / costEach))
      switch incoming.receive(on: sockets[Int(slot)], limit: limit) {
      case .messages(let count):
        var index = 0
        var cost = 0
        while index < count {
          let passed = passDatagrams(slot, from: index)
          index += passed.messages
          cost += passed.cost
        }
        drainFrames()
        budget -= cost
        readBudget -= max(incoming.octetsReceived, cost * Self.datagramCost)
        costEach = (cost + count - 1) / count
        octetBudget -= incoming.octetsReceived
        if count < limit {
          stack.drainedDatagrams(slot)
          return
        }
      case .wouldBlock:
        stack.drainedDatagrams(slot)
        return
      case .failed(let error):
        if heedReports(slot) == .nothing, !error.isMessageTooLong {
          stack.sessionFailed(slot, failure: failure(error), at: now)
        }
        budget -= 1
      }
    }
    stack.readLater(slot)
  }

  /// Passes received messages on: as many at once as make a run, where the device takes that.
  /// - Returns: how many, and what they cost of the budget: the datagrams, where those were passed one by
  ///   one.
  private mutating func passDatagrams(
    _ slot: UInt32, from index: Int
  ) -> (messages: Int, cost: Int) {
    let (messages, run, slices) = incoming.run(from: index)
    if run.datagrams > 1,
      stack.joinsDatagrams(slot, run, at: now)
    {
      while !stack.downloaded(slot, run: run, slices, at: now) { drainFrames() }
      return (messages, messages)
    }
    for slice in slices {
      var offset = 0
      repeat {
        let octets = min(run.segmentOctets, slice.octets - offset)
        let datagram = Slice(slice.base.map { $0 + offset }, octets)
        while !stack.downloaded(slot, datagram: datagram, at: now) { drainFrames() }
        offset += octets
      } while offset < slice.octets
    }
    return (messages, run.datagrams)
  }
}
