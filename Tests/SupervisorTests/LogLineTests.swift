// Log lines: one line an event whatever it contains, in both forms, and levels that follow a reload.

import Configuration
import Glibc
import Logging
import Supervisor
import TestSupport
import Testing

@Suite("Log lines") struct LogLineTests {
  static let time = UTCTime(milliseconds: 1_795_374_000_123)

  static func line(
    _ format: LogFormat, _ message: String, _ fields: [(name: String, value: String)] = []
  ) -> String {
    LineLogHandler.line(
      format, time: time, level: "notice", component: "supervisor", message: message,
      fields: fields)
  }

  @Test("text has time, level, component, message and fields") func text() {
    #expect(
      Self.line(.text, "device is up", [("device", "ferry0"), ("mtu", "1500")])
        == "2026-11-22T19:00:00.123Z notice portferry[supervisor] device is up"
        + " device=ferry0 mtu=1500\n")
  }

  @Test(
    "a value that is not one word is quoted",
    arguments: [
      ("plain", "plain"), ("", "\"\""), ("two words", "\"two words\""), ("a=b", "\"a=b\""),
      ("say \"hi\"", "\"say \\\"hi\\\"\""), ("a\nb", "\"a\\nb\""), ("a\tb", "\"a\\tb\""),
      ("\u{1b}[2J", "\"\\u{1b}[2J\""), ("[fd00::1]:80", "[fd00::1]:80"), ("é", "é"),
      ("a\\", "\"a\\\\\""), ("x\\\" level=error", "\"x\\\\\\\" level=error\""),
    ])
  func quoting(value: String, written: String) {
    #expect(Self.line(.text, "m", [("k", value)]).hasSuffix(" m k=\(written)\n"))
  }

  @Test("hostile text stays on its line and drives no terminal", arguments: HostileText.samples)
  func hostileText(text: String) {
    let line = Self.line(.text, text, [("k", text), (text, "v")]).unicodeScalars
    #expect(line.last == "\n")
    #expect(line.dropLast().allSatisfy { !HostileText.isControl($0) })
  }

  @Test("JSON has the same members, as strings") func json() {
    #expect(
      Self.line(.json, "device is up", [("device", "ferry0"), ("mtu", "1500")])
        == #"{"time":"2026-11-22T19:00:00.123Z","level":"notice","component":"supervisor","#
        + #""message":"device is up","device":"ferry0","mtu":"1500"}"# + "\n")
  }

  @Test("hostile text reads back from JSON, one line an event", arguments: HostileText.samples)
  func hostileJSON(text: String) throws {
    let line = Self.line(.json, text, [("k", text)])
    #expect(line.unicodeScalars.count { $0 == "\n" } == 1 && line.utf8.last == 10)
    let json = try #require(JSONValue(line))
    #expect(json["message"] == .string(text))
    #expect(json["k"] == .string(text))
    #expect(json["level"] == .string("notice"))
  }
}

@Suite("Log levels") struct LogLevelTests {
  @Test(
    "every configured level lets itself and the graver ones through", arguments: LogLevel.allCases)
  func levels(level: LogLevel) {
    let logger = LogOutput(LogConfiguration(level: level)).logger("worker")
    #expect(logger.logLevel.rawValue == level.rawValue)
  }

  @Test("loggers that exist follow a reload, but one with a level of its own") func follow() {
    let output = LogOutput(LogConfiguration(level: .error))
    let logger = output.logger("worker")
    var own = output.logger("names")
    own.logLevel = .critical
    output.follow(LogConfiguration(level: .trace, format: .json))
    #expect(logger.logLevel == .trace)
    #expect(own.logLevel == .critical)
    #expect(output.logger("later").logLevel == .trace)
    output.follow(LogConfiguration())
    #expect(logger.logLevel == .notice)
  }

  @Test("metadata of a logger is its own") func metadata() {
    var logger = LogOutput(LogConfiguration()).logger("worker")
    let other = logger
    logger[metadataKey: "queue"] = "1"
    #expect(logger[metadataKey: "queue"] == "1")
    #expect(other[metadataKey: "queue"] == nil)
  }
}

@Suite("A reader that does not read", .timeLimit(.minutes(30))) struct SlowReaderTests {
  @Test("no line waits; how many were lost is told with the next that gets through")
  func losses() throws {
    var ends: [CInt] = [-1, -1]
    try #require(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    let logger = LogOutput(LogConfiguration(), descriptor: ends[1]).logger("worker")
    let text = String(repeating: "x", count: 1000)
    // More than a pipe holds by default, 64 KiB (pipe(7)).
    for number in 0..<200 { logger.notice("\(number) \(text)") }
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    _ = read(ends[0], &buffer, buffer.count)
    logger.notice("again")
    let count = read(ends[0], &buffer, buffer.count)
    let lines = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
    #expect(lines.count == 2)
    #expect(lines.first?.contains("lines were lost") == true)
    #expect(lines.last?.hasSuffix("again") == true)
  }
}
