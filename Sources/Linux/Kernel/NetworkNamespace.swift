// Work in another network namespace.
//
// A namespace belongs to a thread. The work runs on a thread made for it, which joins the namespace,
// works and ends: no thread ever has to find its way back, and a failure half way cannot leave one in
// the wrong place. What the work opens (a TUN, a socket) stays bound to the namespace and works from
// anywhere.

import CLinux
import Glibc

/// Why a namespace could not be entered.
package enum NamespaceError: Error, Equatable, Sendable {
  case missing(path: String)
  case notANetworkNamespace(path: String)
  case notPermitted(path: String)
  case system(path: String, SystemError)
}

extension NamespaceError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .missing(let path):
      "network namespace \(path) does not exist: make it with `ip netns add`, or correct device.netns"
    case .notANetworkNamespace(let path):
      "\(path) is not a network namespace"
    case .notPermitted(let path):
      "entering network namespace \(path) is not permitted: this needs root (CAP_SYS_ADMIN)"
    case .system(let path, let error):
      "network namespace \(path) cannot be entered: \(error)"
    }
  }
}

package enum NetworkNamespace {
  /// Runs `body` in the namespace that a path names ("/run/netns/sandbox", "/proc/1/ns/net"), on a
  /// thread of its own, and waits for it. With no path, `body` runs at once where it is.
  package static func run<Outcome: ~Copyable>(
    in path: String?, _ body: () -> Outcome
  ) throws(NamespaceError) -> Outcome {
    guard let path else { return body() }
    let namespace = try open(path)
    let number = namespace.number
    var outcome: Outcome?
    var failure: SystemError?
    let started = withoutActuallyEscaping(body) { body in
      withUnsafeMutablePointer(to: &outcome) { outcome in
        withUnsafeMutablePointer(to: &failure) { failure in
          // Nobody touches the three while the thread runs: its maker waits for its end.
          nonisolated(unsafe) let body = body
          nonisolated(unsafe) let outcome = outcome
          nonisolated(unsafe) let failure = failure
          return runOnThread {
            let answer = clinux_join_network_namespace(number)
            if answer < 0 {
              failure.pointee = SystemError(code: -answer, call: .setns)
            } else {
              outcome.pointee = body()
            }
          }
        }
      }
    }
    withExtendedLifetime(namespace) {}
    if let error = started ?? failure { throw explain(error, path) }
    guard let outcome = outcome.take() else {
      throw .system(path: path, SystemError(code: ECANCELED, call: .createThread))
    }
    return outcome
  }

  /// Makes a namespace that nobody else has, which lasts as long as the descriptor; its path is
  /// "/proc/self/fd/N".
  package static func makeAnonymous() throws(NamespaceError) -> Descriptor {
    let path = "/proc/thread-self/ns/net"
    var made: Descriptor?
    var failure: SystemError?
    let started = withUnsafeMutablePointer(to: &made) { made in
      withUnsafeMutablePointer(to: &failure) { failure in
        nonisolated(unsafe) let made = made
        nonisolated(unsafe) let failure = failure
        return runOnThread {
          do throws(SystemError) {
            _ = try SystemError.check(clinux_new_network_namespace(), .unshare)
            made.pointee = try Descriptor.open(path, flags: O_RDONLY)
          } catch {
            failure.pointee = error
          }
        }
      }
    }
    if let error = started ?? failure { throw explain(error, "(new)") }
    guard let made = made.take() else {
      throw .system(path: "(new)", SystemError(code: ECANCELED, call: .createThread))
    }
    return made
  }

  private static func runOnThread(_ body: @escaping @Sendable () -> Void) -> SystemError? {
    do throws(SystemError) {
      try Thread.spawn(name: "ferry-netns", body).join()
      return nil
    } catch {
      return error
    }
  }

  private static func open(_ path: String) throws(NamespaceError) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor.open(path, flags: O_RDONLY)
    } catch {
      throw explain(error, path)
    }
  }

  private static func explain(_ error: SystemError, _ path: String) -> NamespaceError {
    switch (error.call, error.code) {
    case (.open, ENOENT), (.open, ENOTDIR): .missing(path: path)
    case (.setns, EINVAL): .notANetworkNamespace(path: path)
    case (_, EPERM), (_, EACCES): .notPermitted(path: path)
    default: .system(path: path, error)
    }
  }
}
