import Primitives
import Stack
import TCP

// How a flow may end where the stack ends it by itself: a client that is given up, and a flow that is cut
// for its memory. What is known of the client is only what has reached the stack.

extension Conversation {
  /// The stack says how the flow ended.
  func ended(_ why: FlowEnd, in run: Plan, at now: MonotonicInstant) throws {
    guard target?.isStray != true else { return }
    end = why
    switch why {
    case .clientLost: try clientLost(in: run, at: now)
    case .evicted:
      guard run.idleBeforeCut < .seconds(3600) else { throw fault("cuts who may wait") }
      let age = now - (target?.connectedAt ?? .zero)
      guard age >= run.idleBeforeCut else {
        throw fault("cuts a flow that is \(age.milliseconds) ms old")
      }
      let moved = octetsAcknowledged(within: run.idleBeforeCut, before: now)
      // The most that was kept after a turn: within one it may have been a little more.
      let kept = (target?.keptOctetsMax ?? 0) + 2 * ChunkPool.chunkOctets
      guard plan.client.isOdd || moved * 16 <= 2 * kept else {
        throw fault("cuts a flow that keeps \(kept) octets and has just moved \(moved)")
      }
    case .idle:
      guard run.keepalive != nil, peer.outcome == .vanished, !plan.client.isOdd, isAllAcknowledged
      else { return }
      throw fault("keeps a dead client, idle")
    default: break
    }
  }

  /// SYN and FIN, which move no data, are counted as well.
  private func octetsAcknowledged(within interval: Interval, before now: MonotonicInstant) -> Int {
    let earlier = acknowledgments.last { now - $0.at > interval }?.offset ?? 0
    return (acknowledgments.last?.offset ?? 0) - earlier
  }

  /// A client that answers is not given up, nor one whose silence is short.
  private func clientLost(in run: Plan, at now: MonotonicInstant) throws {
    guard !plan.client.isOdd, acknowledgedByClient > 0 else { return }
    var least = Interval.seconds(20)
    if let keepalive = run.keepalive {
      let spacing = TCPEndpoint.keepaliveSpacing(keepalive).nanoseconds
      let questions = Int64(TCPEndpoint.keepaliveProbesMax)
      least = min(
        least, Interval(nanoseconds: keepalive.nanoseconds + (questions - 1) * spacing))
    }
    guard now - lastArrival >= least else {
      throw fault("gives up a client heard \((now - lastArrival).milliseconds) ms ago")
    }
  }
}
