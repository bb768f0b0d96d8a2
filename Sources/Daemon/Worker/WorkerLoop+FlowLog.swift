import Configuration
import Logging
import Primitives
import Stack
import Wire

// What the log says about flows, at `info`: one line for each that was connected, when it is over, and
// one for each client that got none. A client can cause the latter at the price of a packet, so they
// are bounded, and the next line says how many were left out.

extension WorkerLoop {
  /// One line for a flow that is over. Out of line, like all that logs: the passes over flows hold nothing
  /// of what a line costs.
  @inline(never) mutating func logEnd(_ slot: UInt32, _ why: FlowEnd) {
    let view = stack.flowView(slot, at: now)
    var fields = fields(view.tuple, rule: view.rule, why)
    fields["target"] = "\(view.target.endpoint(port: view.targetPort))"
    fields["milliseconds"] = "\(view.age.milliseconds)"
    guard !why.isFailure else { return logFailure("flow failed", fields) }
    fields["up"] = "\(view.octetsUp)"
    fields["down"] = "\(view.octetsDown)"
    log.info("flow ended", metadata: fields)
  }

  /// Lines for the clients that got no flow in this turn.
  mutating func logTurnedAway() {
    if logsFlows {
      for client in stack.turnedAway {
        logFailure("client turned away", fields(client.tuple, rule: client.rule, client.why))
      }
      failureLinesLeftOut += stack.turnedAwayUntold
    }
    stack.forgetTurnedAway()
  }

  private mutating func logFailure(_ message: Logger.Message, _ fields: Logger.Metadata) {
    guard failureLines.take(at: now) else {
      failureLinesLeftOut += 1
      return
    }
    var fields = fields
    if failureLinesLeftOut > 0 { fields["left_out"] = "\(failureLinesLeftOut)" }
    failureLinesLeftOut = 0
    log.info(message, metadata: fields)
  }

  private func fields(_ tuple: FiveTuple, rule: UInt32?, _ why: FlowEnd) -> Logger.Metadata {
    var fields: Logger.Metadata = [
      "protocol": "\(tuple.transport)", "reason": "\(why.word)",
      "client": "\(tuple.client.endpoint(port: tuple.clientPort))",
      "virtual": "\(tuple.virtual.endpoint(port: tuple.virtualPort))",
    ]
    if let rule, let name = stack.rules.name(rule) { fields["rule"] = "\(name)" }
    return fields
  }
}
