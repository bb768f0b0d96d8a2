// A configuration file, read whole and checked: what `run`, `check` and a reload begin with.

import Configuration
import Control
import Glibc
import Kernel
import TOML

package enum ConfigurationFile {
  package struct Outcome: Sendable {
    /// Nil when anything is wrong.
    package var configuration: Configuration?
    /// Errors and warnings, in the order of the file.
    package var diagnostics: [Diagnostic]

    package var errors: [Diagnostic] { diagnostics.filter { $0.severity == .error } }
    package var warnings: [Diagnostic] { diagnostics.filter { $0.severity == .warning } }

    /// The diagnostics for people, as compilers write theirs.
    package var text: String { diagnostics.map { $0.render() + "\n" }.joined() }

    /// The diagnostics as a JSON array of objects.
    package var json: String {
      var json = JSONText()
      json.array(diagnostics) { json, diagnostic in
        json.object { json in
          json.member("file", diagnostic.file)
          json.member("line", diagnostic.line)
          json.member("column", diagnostic.column)
          json.member("message", diagnostic.message)
          json.key("hint")
          if let hint = diagnostic.hint { json.value(hint) } else { json.null() }
          json.member("severity", diagnostic.severity.rawValue)
        }
      }
      return json.text + "\n"
    }
  }

  /// - Parameter path: as the user gave it; it is the file's name in every diagnostic.
  package static func load(_ path: String) -> Outcome {
    let octets: [UInt8]
    switch read(path) {
    case .success(let read): octets = read
    case .failure(let diagnostic): return Outcome(configuration: nil, diagnostics: [diagnostic])
    }
    do throws(ConfigurationErrors) {
      let loaded = try Configuration.load(octets, file: path)
      let unsupported = unsupported(loaded.configuration, file: path)
      return Outcome(
        configuration: unsupported.isEmpty ? loaded.configuration : nil,
        diagnostics: unsupported + loaded.warnings)
    } catch {
      return Outcome(configuration: nil, diagnostics: error.diagnostics)
    }
  }

  /// What a file may say and this daemon cannot do.
  private static func unsupported(_ configuration: Configuration, file: String) -> [Diagnostic] {
    guard let queues = configuration.device.queues, queues > 1 else { return [] }
    return [
      Diagnostic(
        .error, file: file, message: "device.queues = \(queues) is not supported by this version",
        hint: "set it to 1 or leave it out")
    ]
  }

  private static func read(_ path: String) -> Result<[UInt8], Diagnostic> {
    func failure(_ message: String, _ hint: String? = nil) -> Result<[UInt8], Diagnostic> {
      .failure(Diagnostic(.error, file: path, message: message, hint: hint))
    }
    do throws(SystemError) {
      // Without O_NONBLOCK the start would wait for a writer where the path names a pipe.
      let file = try Descriptor.open(path, flags: O_RDONLY | O_NONBLOCK)
      var octets: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 64 * 1024)
      // One octet too many is enough for the parser to refuse the file.
      while octets.count <= TOMLDocument.octetCountMax {
        switch chunk.withUnsafeMutableBytes({ file.read(into: $0) }) {
        case .octets(0), .endOfStream, .wouldBlock: return .success(octets)
        case .octets(let count): octets += chunk[..<count]
        case .failed(let error): throw error
        }
      }
      return .success(octets)
    } catch {
      if error.isMissing { return failure("there is no such file", "name another with --config") }
      return failure("the file cannot be read: \(error.reason)")
    }
  }
}
