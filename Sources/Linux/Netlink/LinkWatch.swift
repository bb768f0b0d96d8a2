// Hearing that something about a link has changed.
//
// A socket of its own beside the session's: what the kernel announces by itself would get between a
// request and its answer. It tells that there is something to look at and never what: announcements
// are lost when the socket's buffer overflows, and some losses are not announced at all (routes
// of a link that goes down, a route that is replaced by one through another link), so that whoever
// hears of a change lists what there is. Hearing needs no privilege, and goes on in the namespace that
// the watch was opened in.

import CLibnl
import Glibc
import Kernel

/// Announcements of one namespace about one link. It may move between threads.
// The compiler cannot see that libnl's socket is not shared: only this value has it.
package struct LinkWatch: ~Copyable, @unchecked Sendable {
  /// Datagrams that one call of `drain` reads at most; the rest makes the descriptor readable again.
  private static let datagramsMax = 64

  private let socket: NetlinkSocket
  private let interfaceIndex: Int

  /// - Parameters:
  ///   - namespace: the path of the link's namespace; nil for the caller's.
  ///   - interfaceIndex: the link's number there.
  package init(namespace: String?, interfaceIndex: Int) throws(NetlinkError) {
    socket = try NetlinkSocket.open(namespace, "watching the device") { () throws(NetlinkFailure) in
      try NetlinkSocket(
        hearing: [
          RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR,
          RTNLGRP_IPV6_ROUTE,
        ])
    }
    self.interfaceIndex = interfaceIndex
  }

  /// For `Epoll.add`: readable when something was announced.
  package var number: CInt { socket.number }

  /// Reads what has been announced, without waiting.
  ///
  /// - Returns: whether the link may have changed.
  /// - Throws: when nothing will be heard any more.
  package func drain() throws(NetlinkError) -> Bool {
    var mayHaveChanged = false
    do throws(NetlinkFailure) {
      for _ in 0..<Self.datagramsMax {
        let heard = try socket.hear { message in
          if concerns(message) { mayHaveChanged = true }
        }
        switch heard {
        case .messages: continue
        case .nothing: return mayHaveChanged
        case .overrun: mayHaveChanged = true
        }
      }
    } catch {
      throw NetlinkSession.explain(error, "watching the device")
    }
    return mayHaveChanged
  }

  private func concerns(_ message: NetlinkReply) -> Bool {
    switch message.type {
    case Int(RTM_NEWLINK), Int(RTM_DELLINK):
      return message.body(as: ifinfomsg.self).map { Int($0.ifi_index) } == interfaceIndex
    case Int(RTM_NEWADDR), Int(RTM_DELADDR):
      return message.body(as: ifaddrmsg.self).map { Int($0.ifa_index) } == interfaceIndex
    case Int(RTM_NEWROUTE), Int(RTM_DELROUTE):
      guard let route = NetlinkSession.mainRoute(message) else { return false }
      // One that took another's place may have taken the link's.
      return route.interfaceIndex == interfaceIndex || message.flags & 0x100 != 0  // NLM_F_REPLACE
    default: return false
    }
  }
}
