import Primitives
import Wire

// A session's datagrams, by the batch, and runs of them: towards its target and from it.

extension StackOwner where Self: ~Copyable {
  /// All that wait. UDP may drop: what the socket has no room for is gone.
  @inlinable @inline(never) mutating func uploadDatagrams(_ slot: UInt32) {
    guard stack.hasSocket(slot) else { return }
    if stack.takeFragmentPermission(slot) { permitFragments(slot) }
    while true {
      // Less, once the kernel has refused a run.
      let longest = stack.runSegmentOctetsMax(slot, at: now)
      guard let (slice, segmentOctets) = stack.nextDatagrams(slot, runSegmentOctetsMax: longest)
      else { break }
      putDatagrams(slot, slice, segmentOctets: segmentOctets, joinedUpTo: longest)
    }
    sendDatagrams(slot)
  }

  /// Until the target has no more to say, or the session's part is read.
  @inlinable @inline(never) mutating func downloadDatagrams(_ slot: UInt32) {
    var messages = stack.budget.sessionMessages
    var octetsLeft = stack.budget.sessionOctets
    // What a message is expected to cost: where the device takes no runs, a long one's datagrams, until
    // some are there.
    var costEach = stack.offloadsDatagrams ? 1 : DatagramRun.datagramsMax
    while messages > 0, octetsLeft > 0, stack.hasSocket(slot) {
      switch receiveDatagrams(slot, atMost: max(1, messages / costEach)) {
      case .messages(let count, let octets, let more):
        var index = 0
        var cost = 0
        while index < count {
          let passed = passDatagrams(slot, from: index, of: count)
          index += passed.messages
          cost += passed.cost
        }
        drainFrames()
        messages -= cost
        stack.readBudget -= max(octets, cost * stack.budget.datagramOctetsMin)
        costEach = (cost + count - 1) / count
        octetsLeft -= octets
        if !more {
          stack.drainedDatagrams(slot)
          return
        }
      case .wouldBlock:
        stack.drainedDatagrams(slot)
        return
      case .failed(let failure):
        if let failure { stack.sessionFailed(slot, failure: failure, at: now) }
        messages -= 1
      }
    }
    stack.readLater(slot)
  }

  /// Passes received messages on: as many at once as make a run, where the device takes that.
  /// - Returns: how many, and what they cost of the budget: the datagrams, where those were passed one by
  ///   one.
  @inlinable mutating func passDatagrams(
    _ slot: UInt32, from index: Int, of count: Int
  ) -> (messages: Int, cost: Int) {
    let first = message(index)
    var run = first.run
    var joined = 1
    slices[0] = first.slice
    while joined < slices.count, index + joined < count {
      let next = message(index + joined)
      guard run.join(next.run) else { break }
      slices[joined] = next.slice
      joined += 1
    }
    if run.datagrams > 1, stack.joinsDatagrams(slot, run, at: now) {
      let pieces = UnsafeBufferPointer(rebasing: slices[..<joined])
      while !stack.downloaded(slot, run: run, pieces, at: now) { drainFrames() }
      return (joined, joined)
    }
    for position in 0..<joined {
      let slice = slices[position]
      var offset = 0
      repeat {
        let octets = min(run.segmentOctets, slice.octets - offset)
        let datagram = Slice(slice.base?.advanced(by: offset), octets)
        while !stack.downloaded(slot, datagram: datagram, at: now) { drainFrames() }
        offset += octets
      } while offset < slice.octets
    }
    return (joined, run.datagrams)
  }
}
