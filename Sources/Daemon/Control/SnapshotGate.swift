// Reports for requests, at a bounded rate and without a stale one.
//
// A report costs every worker a part of a turn, so requests share: at most one report is being taken,
// whoever comes meanwhile waits for the next (never for the one under way, which might be older than
// the request), and two reports are at least `spacing` apart. A worker that does not answer within
// `patience` costs the waiting requests a 503 and nothing else. Timers exist only while a request
// waits. Lives on one event loop.

import NIOCore

/// Takes a report at once or a little later and hands it over, once, on any thread.
package typealias StatusSource = @Sendable (@escaping @Sendable (StatusReport) -> Void) -> Void

final class SnapshotGate {
  private static let spacing = TimeAmount.milliseconds(100)
  private static let patience = TimeAmount.seconds(2)

  private typealias Waiter = (StatusReport?) -> Void

  private let loop: any EventLoop
  private let source: StatusSource
  private var waiting: [Waiter] = []
  private var served: [Waiter] = []
  private var isAsking = false
  private var nextIsScheduled = false
  private var round: UInt64 = 0
  private var earliestNext = NIODeadline.uptimeNanoseconds(0)
  private var timeout: Scheduled<Void>?

  init(loop: any EventLoop, source: @escaping StatusSource) {
    self.loop = loop
    self.source = source
  }

  /// Calls `body` on the loop with a report taken after this call; with nil when none came in time.
  func report(_ body: @escaping (StatusReport?) -> Void) {
    loop.preconditionInEventLoop()
    waiting.append(body)
    askWhenDue()
  }

  private func askWhenDue() {
    guard !isAsking, !nextIsScheduled, !waiting.isEmpty else { return }
    let now = NIODeadline.now()
    guard now < earliestNext else { return ask(now) }
    nextIsScheduled = true
    loop.assumeIsolated().scheduleTask(in: earliestNext - now) {
      self.nextIsScheduled = false
      self.ask(.now())
    }
  }

  private func ask(_ now: NIODeadline) {
    isAsking = true
    served = waiting
    waiting = []
    round &+= 1
    earliestNext = now + Self.spacing
    let thisRound = round
    let bound = NIOLoopBound(self, eventLoop: loop)
    let loop = loop
    timeout = loop.assumeIsolated().scheduleTask(in: Self.patience) {
      self.answer(nil, round: thisRound)
    }
    source { report in loop.execute { bound.value.answer(report, round: thisRound) } }
  }

  private func answer(_ report: StatusReport?, round: UInt64) {
    guard isAsking, round == self.round else { return }
    isAsking = false
    timeout?.cancel()
    timeout = nil
    let waiters = served
    served = []
    for waiter in waiters { waiter(report) }
    askWhenDue()
  }
}
