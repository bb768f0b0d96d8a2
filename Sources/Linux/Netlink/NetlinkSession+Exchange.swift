// Requests of a session, and what their failures mean to a person.

import CLibnl
import Glibc
import Kernel

extension NetlinkSession {
  /// Makes a request that has no answer but its verdict.
  func perform(_ request: borrowing NetlinkRequest, _ action: String) throws(NetlinkError) {
    do throws(NetlinkFailure) {
      try socket.exchange(request)
    } catch {
      throw Self.explain(error, action)
    }
  }

  /// Lists everything of a kind. A list that changed meanwhile is asked for again, a bounded number of
  /// times.
  func dump<Element>(
    _ type: Int, _ action: String, header: some BitwiseCopyable,
    _ convert: (NetlinkReply) -> Element?
  ) throws(NetlinkError) -> [Element] {
    var failure = NetlinkFailure.interrupted
    for _ in 0..<8 {
      guard let request = NetlinkRequest(type: type, flags: Int32(NLM_F_DUMP), header: header)
      else { throw Self.outOfMemory(action) }
      var found: [Element] = []
      do throws(NetlinkFailure) {
        try socket.exchange(request) { reply in
          if let element = convert(reply) { found.append(element) }
        }
        return found
      } catch {
        failure = error
      }
      guard case .interrupted = failure else { break }
    }
    throw Self.explain(failure, action)
  }

  static func outOfMemory(_ action: String) -> NetlinkError {
    .exchange(action: action, reason: "out of memory")
  }

  static func explain(_ failure: NetlinkFailure, _ action: String) -> NetlinkError {
    switch failure {
    case .exchange(let reason): .exchange(action: action, reason: reason)
    case .interrupted: .exchange(action: action, reason: "the list keeps changing")
    case .refused(EPERM, _): .notPermitted(action: action)
    case .refused(ENODEV, _): .linkMissing(action: action)
    case .refused(let code, let reason):
      .refused(action: action, SystemError(code: code, call: .netlink), reason: reason)
    }
  }
}
