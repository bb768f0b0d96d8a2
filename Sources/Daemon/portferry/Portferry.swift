// The executable: arguments in, exit code out. All work is the Supervisor's.
//
// Exit codes are few and fixed: 0 done, 1 refused or failed, 2 usage, 3 no daemon. The argument
// parser's own code for usage errors (EX_USAGE, 64) becomes 2.

import ArgumentParser
import Glibc
import Supervisor

@main
struct Portferry: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "portferry",
    abstract: "Forwards ports of virtual addresses to other hosts and ports.",
    discussion: """
      Portferry makes a TUN device and owns the virtual addresses that are routed to it. A \
      configuration file says by rules which of their ports lead where; connections and datagrams to \
      them are carried through ordinary sockets of this machine.

      Start with `portferry check` on a file of yours, then `portferry run`. The manual is \
      portferry(1), the configuration file's portferry.toml(5).

      Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon.
      """,
    version: "portferry \(portferryVersion)",
    subcommands: [RunCommand.self, CheckCommand.self])

  static func main() {
    // Before anything that could make a thread.
    DaemonSignals.block()
    do {
      var command = try parseAsRoot()
      try command.run()
      Glibc.exit(0)
    } catch {
      end(error)
    }
  }

  private static func end(_ error: any Error) -> Never {
    let code = exitCode(for: error)
    let text = fullMessage(for: error)
    if !text.isEmpty {
      // Help that was asked for is the answer; a usage error is a complaint.
      emit(text + "\n", to: code == .success ? STDOUT_FILENO : STDERR_FILENO)
    }
    Glibc.exit(code == .validationFailure ? 2 : code.rawValue)
  }
}

/// Where the configuration is: named as an argument or by --config, which mean the same.
struct ConfigurationOption: ParsableArguments {
  private static let standard = "/etc/portferry/portferry.toml"

  @Argument(
    help: ArgumentHelp(
      "The configuration file. (default: \(Self.standard))", valueName: "file"),
    completion: .file(extensions: ["toml"]))
  private var argument: String?

  @Option(
    name: .customLong("config"),
    help: ArgumentHelp("The same, as an option.", valueName: "file"),
    completion: .file(extensions: ["toml"]))
  private var option: String?

  var path: String { argument ?? option ?? Self.standard }

  func validate() throws {
    guard argument == nil || option == nil || argument == option else {
      throw ValidationError("two configuration files are named: give one")
    }
  }
}

/// Writes all of it, as far as the reader takes it.
func emit(_ text: String, to descriptor: CInt) {
  var text = text
  text.withUTF8 { octets in
    var done = 0
    while done < octets.count, let start = octets.baseAddress {
      let written = write(descriptor, start + done, octets.count - done)
      guard written > 0 else { return }
      done += written
    }
  }
}
