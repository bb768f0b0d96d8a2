// One request, its replies, its verdict.
//
// The exchange is synchronous: every request asks for an acknowledgement or is a dump, and the
// kernel answers either at once. Replies of an earlier, broken-off exchange are told by their sequence
// number and skipped. The kernel's own words for a refusal (extended acknowledgement) are kept.

import CLibnl
import Glibc
import Kernel

/// Why an exchange had no result, without what it was for.
enum NetlinkFailure: Error {
  /// The kernel's error number, and its explanation.
  case refused(CInt, reason: String?)
  /// libnl could not send or receive.
  case exchange(String)
  /// A dump was overtaken by a change: ask again.
  case interrupted
}

struct NetlinkSocket: ~Copyable {
  private let socket: OpaquePointer

  /// A socket in the calling thread's namespace.
  init() throws(NetlinkFailure) {
    guard let socket = nl_socket_alloc() else { throw .exchange("out of memory") }
    let result = nl_connect(socket, NETLINK_ROUTE)
    guard result >= 0 else {
      nl_socket_free(socket)
      throw .exchange(Self.words(result))
    }
    self.socket = socket
    // Explanations without a copy of the request. A kernel that knows neither gives bare numbers.
    var on: CInt = 1
    for option: CInt in [10, 11] {  // NETLINK_CAP_ACK, NETLINK_EXT_ACK
      _ = setsockopt(
        nl_socket_get_fd(socket), 270, option, &on, socklen_t(MemoryLayout<CInt>.size))
    }
  }

  deinit { nl_socket_free(socket) }

  private static func words(_ code: CInt) -> String {
    nl_geterror(code).map { String(cString: $0) } ?? "libnl error \(code)"
  }

  /// Sends a request and waits for its end, with every reply before it handed to `each`.
  func exchange(
    _ request: borrowing NetlinkRequest, each: (NetlinkReply) -> Void = { _ in }
  ) throws(NetlinkFailure) {
    guard request.isComplete else { throw .exchange("the request is too large") }
    let sent = nl_send_auto(socket, request.message)
    guard sent >= 0 else { throw .exchange(Self.words(sent)) }
    guard let sequence = nlmsg_hdr(request.message)?.pointee.nlmsg_seq else {
      throw .exchange("the request has no header")
    }
    while try !receive(sequence, each) {}
  }

  /// Reads one datagram of replies; true when the exchange has ended with it.
  private func receive(
    _ sequence: UInt32, _ each: (NetlinkReply) -> Void
  ) throws(NetlinkFailure) -> Bool {
    var sender = sockaddr_nl()
    var buffer: UnsafeMutablePointer<UInt8>?
    let octets = nl_recv(socket, &sender, &buffer, nil)
    defer { free(buffer) }
    guard octets > 0, let buffer else {
      throw .exchange(octets < 0 ? Self.words(octets) : "no answer")
    }
    guard sender.nl_pid == 0 else { return false }  // not the kernel
    var left = octets
    var next = UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: nlmsghdr.self)
    var interrupted = false
    while nlmsg_ok(next, left) != 0 {
      let reply = NetlinkReply(header: next)
      if reply.sequence == sequence {
        interrupted = interrupted || reply.flags & 0x10 != 0  // NLM_F_DUMP_INTR
        switch reply.type {
        case 1: break  // NLMSG_NOOP
        case 2, 3:  // NLMSG_ERROR, NLMSG_DONE
          try Self.conclude(reply)
          if interrupted { throw .interrupted }
          return true
        default: each(reply)
        }
      }
      guard let following = nlmsg_next(next, &left) else { break }
      next = following
    }
    if interrupted { throw .interrupted }
    return false
  }

  /// An error of zero is the acknowledgement; a dump's end carries the same number.
  private static func conclude(_ reply: NetlinkReply) throws(NetlinkFailure) {
    guard let error = reply.body(as: CInt.self), error < 0 else { return }
    var reason: String?
    // NLM_F_ACK_TLVS: attributes follow struct nlmsgerr, or a dump's number.
    if reply.flags & 0x200 != 0 {
      let attributes = reply.attributes(
        after: reply.type == 2 ? MemoryLayout<nlmsgerr>.size : MemoryLayout<CInt>.size)
      reason = attributes.text(1)  // NLMSGERR_ATTR_MSG
    }
    throw .refused(0 &- error, reason: reason)
  }
}
