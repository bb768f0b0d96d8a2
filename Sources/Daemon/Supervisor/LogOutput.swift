// Where log lines go, in which form, and from which level on.
//
// One output serves every logger of the process. A line is written to standard error at once: lines of
// different threads do not mix, nothing is buffered, and journald gets them as they come. No write ever
// waits for the reader, since workers log too: a line that the descriptor has no room for is lost, and
// how many were is told ahead of the next one that gets through. Room is asked for each piece of at
// most PIPE_BUF octets (pipe(7)), which is what a pipe takes whole; another process that fills the same
// pipe in between is the one case left out. Level and form follow a reload; both are atomics that
// loggers read.

import Configuration
import Glibc
import Logging
import Synchronization

package final class LogOutput: Sendable {
  private let isJSON: Atomic<Bool>
  private let threshold: Atomic<Int>

  private struct Losses {
    var lines = 0
    /// A part of a line was written, without its end.
    var isCut = false
  }

  private static let pieceOctetsMax = 4096  // PIPE_BUF
  private let descriptor: CInt
  private let losses = Mutex(Losses())

  /// - Parameter descriptor: where lines go; stays the caller's.
  package init(_ configuration: LogConfiguration, descriptor: CInt = STDERR_FILENO) {
    self.descriptor = descriptor
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
    losses.withLock { losses in
      if losses.isCut {
        guard put("\n") == .whole else {
          losses.lines += 1
          return
        }
        losses.isCut = false
      }
      if losses.lines > 0 {
        switch put(Self.note(of: losses.lines, format)) {
        case .whole: losses.lines = 0
        case .cut:
          losses.isCut = true
          fallthrough
        case .nothing:
          losses.lines += 1
          return
        }
      }
      switch put(line) {
      case .whole: break
      case .cut:
        losses.isCut = true
        losses.lines += 1
      case .nothing: losses.lines += 1
      }
    }
  }

  private static func note(of lost: Int, _ format: LogFormat) -> String {
    LineLogHandler.line(
      format, time: UTCTime.now(), level: Logger.Level.warning.rawValue, component: "log",
      message: "lines were lost, the reader was too slow", fields: [("lines", "\(lost)")])
  }

  private enum Fate { case whole, cut, nothing }

  /// Writes as far as there is room now.
  private func put(_ text: String) -> Fate {
    var text = text
    return text.withUTF8 { octets in
      var written = 0
      while let base = octets.baseAddress, written < octets.count {
        var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&room, 1, 0) == 1, room.revents & Int16(POLLOUT) != 0 else { break }
        let count = Glibc.write(
          descriptor, base + written, min(octets.count - written, Self.pieceOctetsMax))
        guard count > 0 else { break }
        written += count
      }
      return written == octets.count ? .whole : written > 0 ? .cut : .nothing
    }
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
