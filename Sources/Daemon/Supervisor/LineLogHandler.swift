// Log events as lines: text for people, JSON for machines.
//
//   2026-11-22T19:00:00.123Z notice portferry[supervisor] device is up device=ferry0 mtu=1500
//   {"time":"2026-11-22T19:00:00.123Z","level":"notice","component":"supervisor","message":"…",…}
//
// An event is one line whatever it contains: control characters are escaped, and values that would
// not read back as one word are quoted. Metadata is written in the order of its keys.

import Configuration
import Control
import Logging

package struct LineLogHandler: LogHandler {
  let component: String
  let output: LogOutput
  package var metadata = Logger.Metadata()
  package var metadataProvider: Logger.MetadataProvider?
  private var ownLevel: Logger.Level?

  init(component: String, output: LogOutput) {
    self.component = component
    self.output = output
  }

  package var logLevel: Logger.Level {
    get { ownLevel ?? output.level }
    set { ownLevel = newValue }
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var fields = metadata
    if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
    if let own = event.metadata { fields.merge(own) { $1 } }
    if let error = event.error { fields["error"] = "\(error)" }
    let ordered = fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value.description) }
    output.write(
      Self.line(
        output.format, time: UTCTime.now(), level: event.level.rawValue, component: component,
        message: event.message.description, fields: ordered))
  }

  package static func line(
    _ format: LogFormat, time: UTCTime, level: String, component: String, message: String,
    fields: [(name: String, value: String)]
  ) -> String {
    switch format {
    case .text:
      var line = "\(time) \(level) portferry[\(component)] \(escaped(message))"
      for (name, value) in fields { line += " \(escaped(name))=\(quotedIfNeeded(value))" }
      return line + "\n"
    case .json:
      var json = JSONText()
      json.object { json in
        json.member("time", "\(time)")
        json.member("level", level)
        json.member("component", component)
        json.member("message", message)
        for (name, value) in fields { json.member(name, value) }
      }
      return json.text + "\n"
    }
  }

  private static func quotedIfNeeded(_ value: String) -> String {
    if isWord(value) { return value }
    let isPlain =
      !value.isEmpty
      && value.unicodeScalars.allSatisfy {
        $0.value > 0x20 && $0 != "\"" && $0 != "=" && $0 != "\\"
      }
    return isPlain ? escaped(value) : "\"" + escaped(value, quoted: true) + "\""
  }

  /// Whether a value is one word of ASCII that stands as it is. Nearly all are, and a line for each flow is
  /// written on the data path.
  private static func isWord(_ value: String) -> Bool {
    !value.isEmpty
      && value.utf8.allSatisfy { 0x21...0x7e ~= $0 && $0 != 0x22 && $0 != 0x3d && $0 != 0x5c }
  }

  /// - Parameter quoted: whether quotes and backslashes are escaped too, so that a quoted value ends
  ///   where it says and reads back as it was.
  private static func escaped(_ text: String, quoted: Bool = false) -> String {
    if !quoted, text.utf8.allSatisfy({ 0x20...0x7e ~= $0 }) { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case "\"" where quoted: result += "\\\""
      case "\\" where quoted: result += "\\\\"
      default:
        if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
          result += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result
  }
}
