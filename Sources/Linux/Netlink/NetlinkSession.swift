// The host's side of the device: link state, addresses, routes.
//
// A session is one rtnetlink socket, bound to the namespace it was opened in. Operations are
// synchronous and leave nothing half done. Adding says whether something was added: what stood on
// this link already is success, and not the caller's to remove. Removing what is gone is success too.
// The kernel accepts one address on two links, which black-holes one of them: a session looks first.
// Hearing of changes is `LinkWatch`'s.

import CLibnl
import Glibc
import Kernel
import Wire

/// Configures links. Use one from one place at a time; it may move between threads.
// The compiler cannot see that libnl's socket is not shared: only this value has it.
package struct NetlinkSession: ~Copyable, @unchecked Sendable {
  let socket: NetlinkSocket

  /// - Parameter namespace: the path of the namespace to configure; nil for the caller's.
  package init(namespace: String? = nil) throws(NetlinkError) {
    socket = try NetlinkSocket.open(namespace, "opening an rtnetlink socket") {
      () throws(NetlinkFailure) in try NetlinkSocket()
    }
  }

  /// Sets a link's state and limits in one step; nil leaves a value as it is.
  ///
  /// - Parameter queueLength: packets that wait for a TUN's reader before the kernel drops; 1000 or more
  ///   keeps a burst.
  package mutating func setLink(
    _ index: Int, up: Bool? = nil, mtu: Int? = nil, queueLength: Int? = nil
  ) throws(NetlinkError) {
    var header = ifinfomsg()
    header.ifi_index = CInt(index)
    if let up {
      header.ifi_change = UInt32(IFF_UP)
      header.ifi_flags = up ? UInt32(IFF_UP) : 0
    }
    let action = "configuring the device"
    guard var request = NetlinkRequest(type: Int(RTM_NEWLINK), flags: 0, header: header) else {
      throw Self.outOfMemory(action)
    }
    if let mtu { request.put(Int(IFLA_MTU), UInt32(mtu)) }
    if let queueLength { request.put(Int(IFLA_TXQLEN), UInt32(queueLength)) }
    try perform(request, action)
  }

  /// Keeps the kernel from giving the link an IPv6 link-local address when it comes up, and so from
  /// soliciting routers through it. Before the link is up. Where IPv6 is switched off there is nothing to
  /// keep it from.
  package mutating func disableLinkLocalAddress(_ index: Int) throws(NetlinkError) {
    var header = ifinfomsg()
    header.ifi_index = CInt(index)
    let action = "configuring the device"
    guard var request = NetlinkRequest(type: Int(RTM_NEWLINK), flags: 0, header: header) else {
      throw Self.outOfMemory(action)
    }
    request.nest(Int(IFLA_AF_SPEC)) { request in
      request.nest(Int(AF_INET6)) { request in
        request.put(Int(IFLA_INET6_ADDR_GEN_MODE), UInt8(1))  // IN6_ADDR_GEN_MODE_NONE
      }
    }
    do throws(NetlinkError) {
      try perform(request, action)
    } catch {
      guard case .refused(_, let cause, _) = error, cause.code == EAFNOSUPPORT else { throw error }
    }
  }

  /// Removes a link; gone already is success.
  package mutating func removeLink(_ index: Int) throws(NetlinkError) {
    var header = ifinfomsg()
    header.ifi_index = CInt(index)
    let action = "removing the device"
    guard let request = NetlinkRequest(type: Int(RTM_DELLINK), flags: 0, header: header) else {
      throw Self.outOfMemory(action)
    }
    do throws(NetlinkError) {
      try perform(request, action)
    } catch {
      guard case .linkMissing = error else { throw error }
    }
  }
}
