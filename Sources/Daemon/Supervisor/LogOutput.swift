// Where log lines go, in which form, and from which level on.
//
// One output serves every logger of the process. A line is one write(2) to standard error: lines of
// different threads do not mix, nothing is buffered, and journald gets them as they come. A line that
// the reader cannot take is lost rather than waited for twice: the daemon's work matters more.
// Level and form follow a reload; both are atomics that loggers read.

import Configuration
import Glibc
import Logging
import Synchronization

package final class LogOutput: Sendable {
  private let isJSON: Atomic<Bool>
  private let threshold: Atomic<Int>

  package init(_ configuration: LogConfiguration) {
    isJSON = Atomic(configuration.format == .json)
    threshold = Atomic(Self.rank(configuration.level))
  }

  /// Takes another level and form, at once and for every logger.
  package func follow(_ configuration: LogConfiguration) {
    isJSON.store(configuration.format == .json, ordering: .relaxed)
    threshold.store(Self.rank(configuration.level), ordering: .relaxed)
  }

  var format: LogFormat { isJSON.load(ordering: .relaxed) ? .json : .text }

  var level: Logger.Level {
    let rank = threshold.load(ordering: .relaxed)
    return Logger.Level.allCases.indices.contains(rank) ? Logger.Level.allCases[rank] : .notice
  }

  /// A logger for a part of the daemon; `component` is the word in its lines.
  package func logger(_ component: String) -> Logger {
    Logger(label: component) { LineLogHandler(component: $0, output: self) }
  }

  func write(_ line: String) {
    var line = line
    line.withUTF8 { octets in _ = Glibc.write(STDERR_FILENO, octets.baseAddress, octets.count) }
  }

  private static func rank(_ level: LogLevel) -> Int {
    let level: Logger.Level =
      switch level {
      case .trace: .trace
      case .debug: .debug
      case .info: .info
      case .notice: .notice
      case .warning: .warning
      case .error: .error
      }
    return Logger.Level.allCases.firstIndex(of: level) ?? 0
  }
}
