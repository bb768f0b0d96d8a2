import ArgumentParser
import Glibc
import Supervisor

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run the daemon in the foreground.",
    discussion: """
      Makes the device, gives it its addresses and routes, and carries packets until SIGTERM or \
      SIGINT; then everything that was added is removed. A second SIGTERM or SIGINT ends it at once. \
      SIGHUP reads the file again: rules, addresses, routes and MTU follow it without touching \
      running connections; if anything in the file is wrong, the running rules stay and the log says \
      what is wrong and where. Addresses and routes that somebody takes from the device come back by \
      themselves. Needs root (CAP_NET_ADMIN). Logs go to standard error.
      """)

  @OptionGroup var file: ConfigurationOption

  func run() throws {
    let end: DaemonEnd
    do throws(StartFailure) {
      end = try Supervisor.run(path: file.path)
    } catch {
      emit(error.description, to: STDERR_FILENO)
      throw ExitCode(1)
    }
    // The log has said why.
    if case .failure = end { throw ExitCode(1) }
  }
}
