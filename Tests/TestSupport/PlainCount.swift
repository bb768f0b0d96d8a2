import Stack

/// A count of stacks that take turns on one thread.
package final class PlainCount: SharedCount, @unchecked Sendable {
  package private(set) var value = 0

  package init() {}

  package func add(within bound: Int) -> Bool {
    guard value < bound else { return false }
    value += 1
    return true
  }

  package func add() { value += 1 }

  package func subtract() {
    precondition(value > 0, "no more end than began")
    value -= 1
  }
}
