import Configuration
import Primitives
import Stack

extension World {
  /// A reload, as far as the stack is concerned: rules that it has already are the same.
  func install(_ rules: [ForwardRule]) {
    install(RuleSet(rules, after: stack.rules.set))
  }

  func install(_ rules: RuleSet) {
    stack.install(rules, unmatched: .reject, drainTimeout: .seconds(30), at: now)
  }
}
