import Primitives
import TCP

// The flows that make room for new ones, oldest first: UDP sessions that are silent, TCP endpoints in
// TIME-WAIT. Two lists through the flows themselves, one for each protocol, so that neither kind is
// ended for the other's sake: a session costs a descriptor, a resting endpoint only a slot.

struct YieldingList: BitwiseCopyable {
  var oldest = noSlot
  var newest = noSlot
}

extension Stack {
  /// Puts a flow at the young end of its list, or moves it there.
  mutating func yieldLast(_ slot: UInt32) {
    let isTCP = flows[slot].isTCP
    var list = isTCP ? resting : silentSessions
    guard list.newest != slot else { return }
    leaveYielding(slot)
    list = isTCP ? resting : silentSessions
    flows[slot].marks.insert(.yields)
    flows[slot].older = list.newest
    flows[slot].newer = noSlot
    if list.newest == noSlot { list.oldest = slot } else { flows[list.newest].newer = slot }
    list.newest = slot
    if isTCP { resting = list } else { silentSessions = list }
  }

  mutating func leaveYielding(_ slot: UInt32) {
    guard flows[slot].marks.contains(.yields) else { return }
    flows[slot].marks.remove(.yields)
    let isTCP = flows[slot].isTCP
    var list = isTCP ? resting : silentSessions
    let older = flows[slot].older
    let newer = flows[slot].newer
    if older == noSlot { list.oldest = newer } else { flows[older].newer = newer }
    if newer == noSlot { list.newest = older } else { flows[newer].older = older }
    flows[slot].older = noSlot
    flows[slot].newer = noSlot
    if isTCP { resting = list } else { silentSessions = list }
  }

  private static let restingLooksMax = 64

  /// Gives the slot of the oldest endpoint in TIME-WAIT back at once. False when there is none; then
  /// the oldest session is ended, whose slot comes free when its socket is closed, within the turn.
  mutating func evictResting() -> Bool {
    var slot = resting.oldest
    var looks = Self.restingLooksMax
    // Those that something came for are still wanted this turn.
    while slot != noSlot, looks > 0, !givesWayAtOnce(slot) {
      slot = flows[slot].newer
      looks -= 1
    }
    guard slot != noSlot, looks > 0 else {
      _ = evictSession()
      return false
    }
    counters.flowsEvicted += 1
    endpoints[slot].release(memory: &memory)
    close(slot)
    return true
  }

  /// Ends the session that has been silent longest. False when there is none to end.
  mutating func evictSession() -> Bool {
    let slot = silentSessions.oldest
    guard slot != noSlot else { return false }
    counters.flowsEvicted += 1
    leaveYielding(slot)
    end(slot, .evicted)
    return true
  }
}
