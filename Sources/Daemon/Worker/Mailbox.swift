import Kernel
import Synchronization

// Messages to a worker: the one place where another thread reaches it.
//
// Bounded: a worker that does not read (it always does, each turn) cannot make its senders pile up
// memory. New rules, names' addresses and the end are taken beyond the bound: of names there are as many
// as the configuration has, and losing one is worse. Who asks for a snapshot is always answered: with nil
// when the message is refused or the worker has ended. So is who asks whether his messages were reached.
// A message wakes the worker's epoll; a worker with an empty mailbox is never woken.

package final class Mailbox: Sendable {
  /// Messages that wait at most; one more is refused.
  package static let messagesMax = 4096

  private struct State {
    var waiting: [WorkerMessage] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  private let wakeUp: EventCounter

  package init() throws(SystemError) { wakeUp = try EventCounter() }

  /// For the worker's epoll.
  package var number: CInt { wakeUp.number }

  /// - Returns: false when the message is refused: too many wait, or nobody reads any more.
  @discardableResult package func post(_ message: WorkerMessage) -> Bool {
    let accepted = state.withLock { state in
      guard !state.isClosed, state.waiting.count < Self.messagesMax || message.mustArrive else {
        return false
      }
      state.waiting.append(message)
      return true
    }
    if accepted { wakeUp.signal() } else { message.refuse() }
    return accepted
  }

  /// Takes everything that waits.
  package func take() -> [WorkerMessage] {
    wakeUp.drain()
    return state.withLock { state in
      let taken = state.waiting
      state.waiting = []
      return taken
    }
  }

  /// The worker has ended: refuses what waits, and all that comes.
  package func close() {
    let left = state.withLock { state in
      let left = state.waiting
      state = State(waiting: [], isClosed: true)
      return left
    }
    for message in left { message.refuse() }
  }
}

extension WorkerMessage {
  fileprivate var mustArrive: Bool {
    switch self {
    case .install, .resolved, .ownPrefixes, .reached, .stop: true
    case .mtu, .deviceOverflowed, .snapshot: false
    }
  }

  /// Tells the sender, where one waits for an answer.
  fileprivate func refuse() {
    switch self {
    case .snapshot(let receive): receive(nil)
    case .reached(let tell): tell()
    case .install, .resolved, .mtu, .deviceOverflowed, .ownPrefixes, .stop: break
    }
  }
}
