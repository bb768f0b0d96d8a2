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
      let moved = octetsAcknowledged(within: run.idleBeforeCut, before: now)
      guard plan.client.isOdd || moved * 16 < max(32, keptOctetsMax(in: run)) else {
        throw fault("cuts a flow that has just moved \(moved) octets")
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

  /// What the flow may keep at most: all that it carries, and a chunk that is hardly filled at
  /// either end and on either side of a gap.
  private func keptOctetsMax(in run: Plan) -> Int {
    min(
      run.memoryOctets,
      plan.target.download + plan.client.upload + 4 * ChunkPool.chunkOctets)
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
