import Primitives
import TCP

// The flows that make room for new ones, oldest first: UDP sessions that nobody uses, TCP endpoints
// in TIME-WAIT. A list through the flows themselves.

struct YieldingList: BitwiseCopyable {
  var oldest = noSlot
  var newest = noSlot
}

extension Stack {
  /// Puts a flow at the young end of the list, or moves it there.
  mutating func yieldLast(_ slot: UInt32) {
    guard yielding.newest != slot else { return }
    leaveYielding(slot)
    flows[slot].marks.insert(.yields)
    flows[slot].older = yielding.newest
    flows[slot].newer = noSlot
    if yielding.newest == noSlot {
      yielding.oldest = slot
    } else {
      flows[yielding.newest].newer = slot
    }
    yielding.newest = slot
  }

  mutating func leaveYielding(_ slot: UInt32) {
    guard flows[slot].marks.contains(.yields) else { return }
    flows[slot].marks.remove(.yields)
    let older = flows[slot].older
    let newer = flows[slot].newer
    if older == noSlot { yielding.oldest = newer } else { flows[older].newer = newer }
    if newer == noSlot { yielding.newest = older } else { flows[newer].older = older }
    flows[slot].older = noSlot
    flows[slot].newer = noSlot
  }

  /// Ends the oldest flow that gives way, if its slot can be had at once; a UDP session's socket
  /// must be closed by the owner first, so its slot comes free in the same turn, and nil is said now.
  mutating func evictOldest() -> Bool {
    let slot = yielding.oldest
    guard slot != noSlot else { return false }
    if flows[slot].marks.contains(.hasSocket) {
      counters.flowsEvicted += 1
      leaveYielding(slot)
      end(slot)
      return false
    }
    guard !flows[slot].marks.contains(.queued) else { return false }
    counters.flowsEvicted += 1
    if flows[slot].isTCP { endpoints[Int(slot)].release(memory: &memory) }
    close(slot)
    return true
  }
}
