// A configuration file on its way into the daemon: files that are not there, not files or not text, and
// what `check` says about them as JSON.

import Configuration
import Glibc
import Kernel
import Supervisor
import TOML
import TestSupport
import Testing

@Suite("Configuration file", .timeLimit(.minutes(30))) struct ConfigurationFileTests {
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

  @Test("a file that is missing, a directory or a pipe without a writer is told apart")
  func noFile() throws {
    let missing = ConfigurationFile.load("/nowhere/p.toml")
    #expect(
      missing.text
        == "/nowhere/p.toml: error: there is no such file"
        + " (name another on the command line, as in: portferry check my.toml)\n")
    #expect(missing.readFailure?.message == "there is no such file")
    #expect(ConfigurationFile.load("").text == ": error: the name of the file is empty\n")
    let directory = ConfigurationFile.load("/")
    #expect(directory.configuration == nil)
    #expect(directory.text == "/: error: this is a directory (name a file in it)\n")
    let folder = try Self.makeFolder()
    mkfifo(folder + "/pipe", 0o600)
    symlink("loop", folder + "/loop")
    defer {
      unlink(folder + "/pipe")
      unlink(folder + "/loop")
      rmdir(folder)
    }
    #expect(ConfigurationFile.load(folder + "/pipe").readFailure?.message == "the file is empty")
    #expect(
      ConfigurationFile.load(folder + "/loop").text.hasSuffix(
        "error: the file cannot be read: Too many levels of symbolic links (ELOOP)\n"))
  }

  @Test("a pipe is read to its writer's end, not to its first pause") func slowPipe() throws {
    var ends: [CInt] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let (reading, writing) = (ends[0], ends[1])
    defer { close(reading) }
    let octets = Array(Self.rule.utf8)
    #expect(write(writing, octets, 40) == 40)
    // A thread of its own: a task could wait for the very thread that reads below.
    let writer = try Thread.spawn(name: "writer") {
      // Most likely after the reader has come to the pause; it need not be.
      usleep(100_000)
      let rest = Array(octets[40...])
      _ = write(writing, rest, rest.count)
      close(writing)
    }
    let outcome = ConfigurationFile.load("/dev/fd/\(reading)")
    writer.join()
    #expect(outcome.configuration?.forwards.map(\.name) == ["web"])
  }

  @Test(
    "a file with nothing in it is an error: a write of it may have been cut short",
    arguments: ["", "\n", " \t\r\n\n"])
  func empty(text: String) throws {
    let outcome = try Self.outcome(Array(text.utf8))
    #expect(outcome.configuration == nil)
    #expect(outcome.readFailure?.message == "the file is empty")
    #expect(outcome.errors.count == 1)
  }

  @Test("an executable or an archive is one sentence, not a complaint for each line")
  func noText() throws {
    let outcome = try Self.outcome([0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0, 0, 0xFF, 0x0A, 0xFE, 0x0A])
    #expect(outcome.errors.map(\.message) == ["this is no text file: it has octets of value 0"])
  }

  private static func makeFolder() throws -> String {
    var template = Array("/tmp/portferry-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    return String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
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
