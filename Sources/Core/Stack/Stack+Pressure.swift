import Primitives
import Relay
import TCP

// What is done when the payload pool is spent: the heaviest idle flow goes.
//
// Clients that close their window, or send what lies behind a gap that they never fill, pin memory for
// as long as their flow lives, each within its own bounds. When others find the pool spent, the flow
// that keeps the most of those that have not moved an octet for a while is cut. Flows that move are left
// alone, however much they keep: they give it back by themselves. Looked for in the whole table, and
// so no more often than ten times a second.

extension Stack {
  /// A flow that carried nothing for this long may be cut for the memory that it keeps.
  static let idleBeforeCut = Interval.seconds(5)
  static let pressureInterval = Interval.milliseconds(100)

  /// Chunks that are left when the pool counts as spent.
  var chunksScarce: Int { min(64, Int(memory.chunks.capacity) / 16) }

  /// Cuts the heaviest idle flow if the pool is spent.
  mutating func relievePressure(at now: MonotonicInstant) {
    guard now >= pressureLookAt else { return }
    pressureLookAt = now + Self.pressureInterval
    guard memory.chunks.available <= chunksScarce else { return }
    var heaviest = noSlot
    var octetsMax = 0
    forEachFlow { stack, slot in
      let flow = stack.flows[slot]
      guard flow.isTCP, !flow.marks.contains(.unlinked),
        now - flow.lastActivity >= Self.idleBeforeCut
      else { return }
      let octets = stack.endpoints[Int(slot)].keptOctets(memory: stack.memory)
      if octets > octetsMax {
        octetsMax = octets
        heaviest = slot
      }
    }
    guard heaviest != noSlot else { return }
    counters.flowsEvicted += 1
    conclude(heaviest, .evicted)
    perform(flows[heaviest].relay.cut(), heaviest, at: now)
  }

  /// When the pool is to be looked at again, while flows wait for it.
  var pressureDeadline: MonotonicInstant? { starvedCount > 0 ? pressureLookAt : nil }
}
