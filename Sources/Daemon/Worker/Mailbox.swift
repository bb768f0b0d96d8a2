import Kernel
import Synchronization

// Messages to a worker: the one place where another thread reaches it.
//
// Bounded: a worker that does not read (it always does, each turn) cannot make its senders pile up
// memory. A message wakes the worker's epoll; a worker with an empty mailbox is never woken.

package final class Mailbox: Sendable {
  /// Messages that wait at most; one more is refused.
  package static let messagesMax = 4096

  private let messages = Mutex<[WorkerMessage]>([])
  private let wakeUp: EventCounter

  package init() throws(SystemError) { wakeUp = try EventCounter() }

  /// For the worker's epoll.
  package var number: CInt { wakeUp.number }

  /// - Returns: false when too many messages wait.
  @discardableResult package func post(_ message: WorkerMessage) -> Bool {
    let accepted = messages.withLock { waiting in
      guard waiting.count < Self.messagesMax else { return false }
      waiting.append(message)
      return true
    }
    if accepted { wakeUp.signal() }
    return accepted
  }

  /// Takes everything that waits.
  package func take() -> [WorkerMessage] {
    wakeUp.drain()
    return messages.withLock { waiting in
      let taken = waiting
      waiting = []
      return taken
    }
  }
}
