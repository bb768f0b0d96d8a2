// What several workers count together: how many flows a rule with `max_connections` has on all of them.
//
// Workers share nothing that is written per packet. This is the one exception that is written at all:
// when a flow of a bounded rule begins, rests or ends, next to a dozen system calls that the same flow
// costs. Only so can the bound be exact, which an operator expects who writes 1; dividing it among the
// workers would leave some of them none. Whoever owns the workers makes it, atomic; a stack only counts.

package protocol SharedCount: AnyObject, Sendable {
  var value: Int { get }
  /// Adds one unless that would exceed `bound`.
  /// - Returns: whether it did.
  func add(within bound: Int) -> Bool
  /// Adds one whatever the bound: what counted before counts again.
  func add()
  func subtract()
}
