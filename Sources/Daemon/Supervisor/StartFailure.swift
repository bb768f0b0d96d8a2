// Why the daemon did not start, for the person at the terminal.

import Control
import Kernel
import Netlink
import TunDevice

package struct StartFailure: Error, Sendable, CustomStringConvertible {
  /// Whole lines, ready to be printed.
  package let description: String

  /// One sentence.
  init(_ sentence: String) { description = "portferry: \(sentence)\n" }

  /// What is wrong with the configuration.
  init(_ outcome: ConfigurationFile.Outcome) { description = outcome.text }

  /// The errors of the layers below are sentences by themselves.
  init(_ error: any Error) {
    switch error {
    case let failure as StartFailure: self = failure
    case let error as SystemError: self.init("a system call failed: \(error)")
    default: self.init("\(error)")
    }
  }
}
