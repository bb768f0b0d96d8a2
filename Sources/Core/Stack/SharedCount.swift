// What several workers count together: how many flows a rule with `max_connections` has on all of them.
//
// Workers share nothing that is written per packet. This is the one exception that is written at all:
// when a flow of a bounded rule begins, rests or ends, next to a dozen system calls that the same flow
// costs. Only so can the bound be exact, which an operator expects who writes 1; dividing it among the
// workers would leave some of them none. The word lies alone in its cache lines, its rule owns it
// (`SharedRule`), and the arithmetic is told, since it must be atomic where workers are threads. All of
// it is plain memory: an object would be counted by references, which every worker would write.

/// How words are counted that several workers write.
package struct SharedCounting: Sendable, BitwiseCopyable {
  package typealias Load = @Sendable @convention(c) (UnsafeMutableRawPointer) -> Int
  /// - Returns: the sum.
  package typealias Add = @Sendable @convention(c) (UnsafeMutableRawPointer, Int) -> Int

  let load: Load
  let add: Add

  /// - Parameters:
  ///   - load: reads a word, an `Int`.
  ///   - add: adds to one.
  package init(load: Load, add: Add) {
    self.load = load
    self.add = add
  }
}

/// Flows of one rule on all workers together.
package struct SharedCount: BitwiseCopyable, @unchecked Sendable {
  /// Octets that a count has for itself: its cache line, and the one that the processor fetches with it.
  private static let octets = 128

  private let word: UnsafeMutableRawPointer
  private let counting: SharedCounting

  init(_ counting: SharedCounting) {
    self.counting = counting
    word = .allocate(byteCount: Self.octets, alignment: Self.octets)
    word.initializeMemory(as: UInt8.self, repeating: 0, count: Self.octets)
  }

  func deallocate() { word.deallocate() }

  package var value: Int { counting.load(word) }

  /// Adds one unless that would exceed `bound`.
  /// - Returns: whether it did.
  package func add(within bound: Int) -> Bool {
    guard counting.add(word, 1) <= bound else {
      subtract()
      return false
    }
    return true
  }

  /// Adds one whatever the bound: what counted before counts again.
  func add() { _ = counting.add(word, 1) }

  package func subtract() { _ = counting.add(word, -1) }
}
