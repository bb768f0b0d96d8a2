// What several workers count together: how many flows a rule with `max_connections` has on all of them.
//
// Workers share nothing that is written per packet of a flow. This is written, as `Homes` are, when a
// flow of a bounded rule begins, rests or ends, next to a dozen system calls that the same flow costs.
// Only so can the bound be exact, which an operator expects who writes 1; dividing it among the workers
// would leave some of them none. The word lies alone in its cache lines, its rule owns it (`SharedRule`).
// It is plain memory: an object would be counted by references, which every worker would write.

import Synchronization

/// Flows of one rule on all workers together.
package struct SharedCount: BitwiseCopyable, @unchecked Sendable {
  /// Octets that a count has for itself: its cache line, and the one that the processor fetches with it.
  private static let octets = 128

  private let word: UnsafeMutablePointer<Atomic<Int>>

  init() {
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: Self.octets, alignment: Self.octets)
    word = memory.bindMemory(to: Atomic<Int>.self, capacity: 1)
    word.initialize(to: Atomic(0))
  }

  func deallocate() { word.deallocate() }

  package var value: Int { word.pointee.load(ordering: .relaxed) }

  /// Adds one unless that would exceed `bound`.
  /// - Returns: whether it did.
  package func add(within bound: Int) -> Bool {
    guard word.pointee.add(1, ordering: .relaxed).newValue <= bound else {
      subtract()
      return false
    }
    return true
  }

  /// Adds one whatever the bound: what counted before counts again.
  func add() { word.pointee.add(1, ordering: .relaxed) }

  package func subtract() { word.pointee.subtract(1, ordering: .relaxed) }
}
