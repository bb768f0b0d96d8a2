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
    /// Why there was nothing to check: the file is missing, cannot be read or is empty. The only
    /// diagnostic then says the same.
    package var readFailure: ReadFailure?

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

  /// Why a file has no content, as a clause, and what to do about it.
  package struct ReadFailure: Error, Equatable, Sendable {
    package var message: String
    package var hint: String?
  }

  /// Octets at the beginning of a file by which it is told from one that is no text.
  private static let textOctets = 4096
  /// How long the next octets of a pipe are waited for, in milliseconds.
  private static let pipeTimeout: CInt = 5000

  /// - Parameter path: as the user gave it; it is the file's name in every diagnostic.
  package static func load(_ path: String) -> Outcome {
    let octets: [UInt8]
    do throws(ReadFailure) {
      octets = try read(path)
    } catch {
      let diagnostic = Diagnostic(.error, file: path, message: error.message, hint: error.hint)
      return Outcome(configuration: nil, diagnostics: [diagnostic], readFailure: error)
    }
    do throws(ConfigurationErrors) {
      let loaded = try Configuration.load(octets, file: path)
      return Outcome(configuration: loaded.configuration, diagnostics: loaded.warnings)
    } catch {
      return Outcome(configuration: nil, diagnostics: error.diagnostics)
    }
  }

  private static func read(_ path: String) throws(ReadFailure) -> [UInt8] {
    var octets: [UInt8] = []
    do throws(SystemError) {
      // Without O_NONBLOCK the start would wait for a writer where the path names a pipe.
      let file = try Descriptor.open(path, flags: O_RDONLY | O_NONBLOCK)
      var chunk = [UInt8](repeating: 0, count: 64 * 1024)
      // One octet too many is enough for the parser to refuse the file.
      reading: while octets.count <= TOMLDocument.octetCountMax {
        switch chunk.withUnsafeMutableBytes({ file.read(into: $0) }) {
        case .octets(0), .endOfStream: break reading
        case .octets(let count): octets += chunk[..<count]
        case .failed(let error): throw error
        case .wouldBlock:
          // Half a configuration is none: what a writer has not said yet is waited for.
          var waiting = pollfd(fd: file.number, events: Int16(POLLIN), revents: 0)
          guard poll(&waiting, 1, pipeTimeout) != 0 else {
            throw SystemError(code: ETIMEDOUT, call: .read)
          }
        }
      }
    } catch {
      throw failure(error, path)
    }
    guard octets.contains(where: { $0 != 0x20 && $0 != 0x09 && $0 != 0x0A && $0 != 0x0D }) else {
      throw ReadFailure(message: "the file is empty", hint: "a rule begins with [[forward]]")
    }
    // One sentence for an executable or an archive, where the parser would find fault with every line.
    guard !octets.prefix(textOctets).contains(0) else {
      throw ReadFailure(message: "this is no text file: it has octets of value 0")
    }
    return octets
  }

  private static func failure(_ error: SystemError, _ path: String) -> ReadFailure {
    switch error.code {
    case ENOENT where path.isEmpty:
      ReadFailure(message: "the name of the file is empty")
    case ENOENT, ENOTDIR:
      ReadFailure(
        message: "there is no such file",
        hint: "name another on the command line, as in: portferry check my.toml")
    case EISDIR:
      ReadFailure(message: "this is a directory", hint: "name a file in it")
    default:
      ReadFailure(message: "the file cannot be read: \(error.reason)")
    }
  }
}
