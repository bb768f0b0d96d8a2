// `portferry check`: reads a configuration and says everything that is wrong with it. Touches nothing.

import ArgumentParser
import Configuration
import Glibc
import Supervisor

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a configuration file without changing anything.",
    discussion: """
      Reports everything that is wrong with the file in one go: the place, the line, what was \
      expected. Exits with 0 when the daemon would take the file and 1 otherwise; warnings alone do \
      not fail. Needs no privileges.

      With --format json, standard output gets an array of objects with the members file, line, \
      column, message, hint and severity; it is empty when there is nothing to say.
      """)

  enum Format: String, ExpressibleByArgument, CaseIterable {
    case text
    case json
  }

  @OptionGroup var file: ConfigurationOption

  @Option(help: "How to report.")
  var format = Format.text

  func run() throws {
    let outcome = ConfigurationFile.load(file.path)
    switch format {
    case .json: emit(outcome.json, to: STDOUT_FILENO)
    case .text:
      emit(outcome.text, to: STDERR_FILENO)
      if let configuration = outcome.configuration {
        let rules = configuration.forwards.count
        emit("\(file.path): ok, \(rules) \(rules == 1 ? "rule" : "rules")\n", to: STDOUT_FILENO)
      }
    }
    if outcome.configuration == nil { throw ExitCode(1) }
  }
}
