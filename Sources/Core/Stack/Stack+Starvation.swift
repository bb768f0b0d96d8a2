import Primitives
import TCP

// Flows whose target has something to say, and that found the payload pool spent by others.
//
// Kernel sockets tell of readiness once, and a flow without anything in flight hears nothing more from
// its client: nobody would come back to it. It is marked instead, and asked to read again when the
// pool has a share to give. Marks are looked for in the whole table, which only happens when the
// pool was spent and is no longer.

extension Stack {
  /// Chunks that must be free before starved flows are asked again: one for each, so that the table
  /// is not searched for nothing, but no more than flows that are not starved leave for long.
  var chunksWorthAsking: Int {
    min(64, max(2, Int(memory.chunks.capacity) / 4), starvedCount + 2)
  }

  /// The flow could not read for want of chunks.
  mutating func starve(_ slot: UInt32) {
    guard !flows[slot].marks.contains(.starved) else { return }
    flows[slot].marks.insert(.starved)
    starvedCount += 1
    pressureDeadline = min(pressureDeadline, pressureLookAt)
  }

  mutating func leaveStarved(_ slot: UInt32) {
    guard flows[slot].marks.contains(.starved) else { return }
    flows[slot].marks.remove(.starved)
    starvedCount -= 1
    if starvedCount == 0 { pressureDeadline = .distantFuture }
  }

  /// Asks starved flows to read again, if there is something for them.
  mutating func feedStarved() {
    guard starvedCount > 0, memory.chunks.available >= chunksWorthAsking else { return }
    forEachFlow { stack, slot in
      guard stack.flows[slot].marks.contains(.starved) else { return }
      stack.leaveStarved(slot)
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.forgetsStarvedFlow) { return }
      #endif
      stack.want(slot, .read)
    }
  }
}
