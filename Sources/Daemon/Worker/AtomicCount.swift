import Stack
import Synchronization

/// Flows of one rule on all workers. It lies between paddings, so that nothing else on the heap shares
/// its cache line, or the one that the processor fetches with it.
package final class AtomicCount: SharedCount {
  private let front = Padding()
  private let count = Atomic<Int>(0)
  private let back = Padding()

  package init() {}

  package var value: Int { count.load(ordering: .relaxed) }

  package func add(within bound: Int) -> Bool {
    guard count.add(1, ordering: .relaxed).newValue <= bound else {
      subtract()
      return false
    }
    return true
  }

  package func add() { count.add(1, ordering: .relaxed) }

  package func subtract() { count.subtract(1, ordering: .relaxed) }

  /// 128 octets that nobody writes.
  private struct Padding: Sendable {
    private let words = [16 of UInt64](repeating: 0)
  }
}
