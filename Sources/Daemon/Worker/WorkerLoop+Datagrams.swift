import Kernel
import Stack
import Wire

// The batches of datagrams of sessions (StackOwner), and what becomes of those that are refused.

extension WorkerLoop {
  mutating func permitFragments(_ slot: UInt32) {
    sockets[Int(slot)].permitFragments(isIPv4: stack.target(slot).address.isIPv4)
  }

  mutating func putDatagrams(
    _ slot: UInt32, _ slice: Slice, segmentOctets: Int, joinedUpTo longest: Int
  ) {
    outgoing.segmentOctetsMax = longest
    if !outgoing.append(slice, segmentOctets: segmentOctets) {
      sendDatagrams(slot)
      _ = outgoing.append(slice, segmentOctets: segmentOctets)
    }
  }

  @inline(never) mutating func sendDatagrams(_ slot: UInt32) {
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

  mutating func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer {
    let limit = min(incoming.messagesExpected, messages)
    switch incoming.receive(on: sockets[Int(slot)], limit: limit) {
    case .messages(let count):
      return .messages(count, octets: incoming.octetsReceived, more: count == limit)
    case .wouldBlock: return .wouldBlock
    case .failed(let error):
      if heedReports(slot) == .nothing, !error.isMessageTooLong { return .failed(failure(error)) }
      return .failed(nil)
    }
  }

  func message(_ index: Int) -> (slice: Slice, run: DatagramRun) { incoming.message(index) }
}
