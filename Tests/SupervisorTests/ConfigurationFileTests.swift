// A configuration file on its way into the daemon: files that are not there, not files, or not
// supported, and what `check` says about them as JSON.

import Configuration
import Glibc
import Supervisor
import TOML
import TestSupport
import Testing

@Suite("Configuration file", .timeLimit(.minutes(1))) struct ConfigurationFileTests {
  static let rule = """
    [device]
    addresses = ["10.77.0.1/24"]
    [[forward]]
    name = "web"
    listen = "10.77.0.10:80"
    target = "192.0.2.7:8080"

    """

  /// The outcome for a file with these octets.
  static func outcome(_ octets: [UInt8]) throws -> ConfigurationFile.Outcome {
    var template = Array("/tmp/portferry-XXXXXX".utf8CString)
    let number = mkstemp(&template)
    try #require(number >= 0)
    let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { unlink(path) }
    let written = write(number, octets, octets.count)
    close(number)
    try #require(written == octets.count)
    return ConfigurationFile.load(path)
  }

  @Test("a right file is a configuration without remarks") func right() throws {
    let outcome = try Self.outcome(Array(Self.rule.utf8))
    #expect(outcome.configuration?.forwards.map(\.name) == ["web"])
    #expect(outcome.text.isEmpty && outcome.json == "[]\n")
  }

  @Test("a file that is missing, a directory or a pipe is told apart, and nobody waits")
  func noFile() throws {
    #expect(
      ConfigurationFile.load("/nowhere/p.toml").text
        == "/nowhere/p.toml: error: there is no such file (name another with --config)\n")
    let directory = ConfigurationFile.load("/")
    #expect(directory.configuration == nil)
    #expect(directory.text.hasPrefix("/: error: the file cannot be read: "))
    var template = Array("/tmp/portferry-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    mkfifo(folder + "/pipe", 0o600)
    defer {
      unlink(folder + "/pipe")
      rmdir(folder)
    }
    #expect(ConfigurationFile.load(folder + "/pipe").errors == [])
  }

  @Test("every error is in the outcome, and nothing is half applied") func wrong() throws {
    let outcome = try Self.outcome(Array("[device]\nmtu = 7\nadresses = []\n".utf8))
    #expect(outcome.configuration == nil)
    #expect(outcome.errors.map(\.line) == [2, 3])
    let json = try #require(JSONValue(outcome.json))
    #expect(json[0]?["line"] == .number("2"))
    #expect(json[1]?["severity"] == .string("error"))
    #expect(json[2] == nil)
  }

  @Test(
    "octets that are no text are an error, not an end",
    arguments: [[0xff], [0], [0xc0, 0x80], [0xed, 0xa0, 0x80]] as [[UInt8]])
  func binary(octets: [UInt8]) throws {
    let outcome = try Self.outcome(Array("name = \"".utf8) + octets + Array("\"\n".utf8))
    #expect(outcome.configuration == nil)
    #expect(!outcome.errors.isEmpty)
    #expect(JSONValue(outcome.json) != nil)
  }

  @Test("more queues than this version serves are refused, one is fine") func queues() throws {
    for (queues, isFine) in [(1, true), (2, false), (64, false)] {
      let text = Self.rule.replacing("[device]", with: "[device]\nqueues = \(queues)")
      let outcome = try Self.outcome(Array(text.utf8))
      #expect((outcome.configuration != nil) == isFine)
      #expect(
        outcome.text.contains("device.queues = \(queues) is not supported") == !isFine)
    }
  }

  @Test(
    "hostile text in a file leaves valid JSON and drives no terminal",
    arguments: HostileText.samples)
  func hostile(text: String) throws {
    let outcome = try Self.outcome(Array("\(text) = 1\n[device]\n\(text)\n".utf8))
    #expect(JSONValue(outcome.json) != nil)
    // A tab stays what it is: the caret line below has it too.
    #expect(
      outcome.text.unicodeScalars.allSatisfy {
        $0 == "\n" || $0 == "\t" || !HostileText.isControl($0)
      })
  }
}
