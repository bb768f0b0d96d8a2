import Kernel
import Stack

// What the network says about a session's datagrams, passed on to its client.

extension WorkerLoop {
  /// Reports that one look takes; the rest waits for the next error.
  static let reportsMax = 16

  enum Heard { case nothing, network, host }

  /// Reads the error queue of a session's socket and tells the client what it means: each meaning once.
  /// - Returns: `host` when this host itself refused to send a datagram, `network` when reports are
  ///   about datagrams that were sent.
  @discardableResult
  mutating func heedReports(_ slot: UInt32) -> Heard {
    var heard = Heard.nothing
    var told: TargetFailure?
    for _ in 0..<Self.reportsMax {
      guard stack.hasSocket(slot), let report = sockets[Int(slot)].nextReport() else { break }
      if heard != .host { heard = report.isLocal ? .host : .network }
      let meaning = failure(report)
      if meaning != told { stack.sessionFailed(slot, failure: meaning, at: now) }
      told = meaning
    }
    return heard
  }

  private func failure(_ report: SocketReport) -> TargetFailure {
    if report.error.isMessageTooLong { return .tooBig(mtu: report.mtu) }
    return report.isProhibited ? .prohibited : failure(report.error)
  }
}
