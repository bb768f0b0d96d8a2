import Primitives
import Wire

// A flow's octets, towards its target and from it.

extension StackOwner where Self: ~Copyable {
  /// Until nothing waits, or the socket is full.
  @inlinable @inline(never) mutating func upload(_ slot: UInt32) {
    while true {
      let (count, octets) = stack.gather(slot, into: slices)
      guard count > 0 else { return }
      switch send(slot, UnsafeBufferPointer(rebasing: slices[..<count])) {
      case .octets(let sent):
        stack.uploaded(slot, octets: sent, more: sent == octets, at: now)
        if sent < octets || count < slices.count { return }
      case .wouldBlock, .endOfStream:
        stack.uploaded(slot, octets: 0, more: false, at: now)
        return
      case .failed(let lost):
        stack.targetWriteFailed(slot, lost: lost, at: now)
        return
      }
    }
  }

  /// Has a stalled target's socket take what is kept for it, so that it can be acknowledged. Where the
  /// bound of its buffer cannot be raised, it stays kept.
  @inlinable @inline(never) mutating func relieve(_ slot: UInt32) {
    let octets = stack.beginRelief(slot)
    guard octets > 0 else { return }
    let wasRaised = raiseSendBound(slot, by: octets)
    upload(slot)
    let isTold = restoreSendBound(slot)
    stack.endRelief(slot, wasRaised: wasRaised)
    if !isTold { stack.targetWriteFailed(slot, lost: false, at: now) }
  }

  /// Until the target has no more to say, the client's buffer is full, or the flow's part is read.
  @inlinable @inline(never) mutating func download(_ slot: UInt32) {
    let part = stack.readPart(slot, at: now)
    var read = 0
    var limit = stack.firstRoom(slot, of: part)
    var goesOn = true
    while goesOn, read < part, stack.hasSocket(slot) {
      let count = stack.openRoom(slot, limit: limit, at: now, slices: slices)
      guard count > 0 else {
        goesOn = false
        break
      }
      var room = 0
      for index in 0..<count { room += slices[index].octets }
      switch receive(slot, into: UnsafeBufferPointer(rebasing: slices[..<count])) {
      case .octets(let octets):
        stack.downloaded(slot, octets: octets, more: octets == room, at: now)
        read += octets
        stack.readBudget -= octets
        limit = part - read
        if octets < room, !stack.readsToEnd(slot) { goesOn = false }
      case .wouldBlock:
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.drained(slot)
        goesOn = false
      case .endOfStream:
        stack.targetFinished(slot, at: now)
        goesOn = false
      case .failed(let lost):
        stack.downloaded(slot, octets: 0, more: false, at: now)
        stack.targetFailed(slot, lost: lost, at: now)
        goesOn = false
      }
    }
    stack.noteRead(slot, octets: read, at: now)
    transmit(slot)
    if goesOn, read == part { stack.readLater(slot) }
  }

  @inlinable @inline(never) mutating func transmit(_ slot: UInt32) {
    while !stack.transmit(slot, at: now) { drainFrames() }
    if stack.frames.isEmpty { return }
    // Frames refer to the flow's chunks: they go out before anything can be acknowledged, or the chunks are
    // held until they have.
    if stack.mayWriteBehind(at: now), writeBehind() { return }
    drainFrames()
  }
}
