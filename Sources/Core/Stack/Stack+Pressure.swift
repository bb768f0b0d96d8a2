import Primitives
import Relay
import TCP

// What is done when the payload pool is spent: the heaviest idle flow goes.
//
// Clients that close their window, or send what lies behind a gap that they never fill, pin memory for
// as long as their flow lives, each within its own bounds. When others find the pool spent, the flow
// that keeps the most is cut, of those that have not moved an octet for a while (`idleBeforeCut`) or, for
// as long as the pool has been spent, next to nothing beside what they keep (`PaceTable`). Flows that move
// are left alone, however much they keep: they give it back by themselves, within 16 times that
// while. Looked for in the whole table, and so no more often than ten times a second, and
// without an event only when the next flow comes of age.

extension Stack {
  static let pressureInterval = Interval.milliseconds(100)

  /// Chunks that are left when the pool counts as spent: of a small pool, fewer than the largest
  /// segment needs; while flows starve, fewer than they are asked again for. With less than that left
  /// some flow gets nothing, and would wait for as long as the others keep what they have.
  var chunksScarce: Int {
    max(
      min(64, Int(memory.chunks.capacity) / 16), ReceiveSide.chunksLeftForOrder - 1,
      starvedCount > 0 ? chunksWorthAsking - 1 : 0)
  }

  /// Cuts the heaviest idle flow if the pool is spent.
  mutating func relievePressure(at now: MonotonicInstant) {
    guard now >= pressureLookAt else { return }
    pressureLookAt = now + Self.pressureInterval
    pressureDeadline = .distantFuture
    guard memory.chunks.available <= chunksScarce else { return }
    // Twice, as our own deadline comes after `idleBeforeCut`, and may be served late.
    paces.beginWalk(at: now, lull: settings.idleBeforeCut + settings.idleBeforeCut)
    var heaviest = noSlot
    var octetsMax = 0
    var nextIdle = MonotonicInstant.distantFuture
    forEachFlow { stack, slot in
      let flow = stack.flows[slot]
      guard flow.isTCP, !flow.marks.contains(.unlinked) else { return }
      let octets = stack.endpoints.keptOctets(slot, memory: stack.memory)
      let slowSince = stack.lookAtPace(slot, kept: octets, at: now)
      guard octets > 0 else { return }
      let idleAt = min(flow.lastActivity, slowSince) + stack.settings.idleBeforeCut
      #if PLANTED_FAULTS
        if PlantedFault.isPlanted(.cutsMovingFlows), idleAt > now {
          octetsMax = octets
          heaviest = slot
          return
        }
      #endif
      if idleAt > now {
        nextIdle = min(nextIdle, idleAt)
      } else if octets > octetsMax {
        octetsMax = octets
        heaviest = slot
      }
    }
    guard heaviest != noSlot else {
      if starvedCount > 0 { pressureDeadline = max(nextIdle, pressureLookAt) }
      return
    }
    if starvedCount > 0 { pressureDeadline = pressureLookAt }
    counters.flowsEvicted += 1
    conclude(heaviest, .evicted)
    perform(flows[heaviest].relay.cut(), heaviest, at: now)
  }

  /// Since when the flow has moved next to nothing beside what it keeps.
  private mutating func lookAtPace(
    _ slot: UInt32, kept: Int, at now: MonotonicInstant
  ) -> MonotonicInstant {
    let flow = flows[slot]
    let moved = flow.octetsUp &+ flow.octetsDown &- UInt64(endpoints.unacknowledgedOctets(slot))
    return paces.look(
      slot, of: flows.touchedCount, generation: generations[Int(slot)], moved: moved, kept: kept,
      at: now)
  }
}
