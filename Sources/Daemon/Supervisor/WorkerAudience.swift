// All workers as one, for messages that every one of them gets; from any thread.

import Synchronization
import Worker

final class WorkerAudience: Sendable {
  private let workers = Mutex<[WorkerHandle]>([])

  func add(_ worker: WorkerHandle) { workers.withLock { $0.append(worker) } }

  func removeAll() { workers.withLock { $0.removeAll() } }

  func post(_ message: WorkerMessage) {
    for worker in workers.withLock({ $0 }) { worker.post(message) }
  }
}
