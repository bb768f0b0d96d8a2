// One request, its replies, its verdict.
//
// The exchange is synchronous: every request asks for an acknowledgement or is a dump, and the
// kernel answers either at once. Replies of an earlier, broken-off exchange are told by their sequence
// number and skipped. The kernel's own words for a refusal (extended acknowledgement) are kept.
// A socket that hears announcements makes no requests.

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
  ///
  /// - Parameter groups: whose announcements it hears. With any it is for `hear` and never waits.
  init(hearing groups: [rtnetlink_groups] = []) throws(NetlinkFailure) {
    guard let socket = nl_socket_alloc() else { throw .exchange("out of memory") }
    let result = Self.prepare(socket, groups)
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

  private static func prepare(_ socket: OpaquePointer, _ groups: [rtnetlink_groups]) -> CInt {
    let result = nl_connect(socket, NETLINK_ROUTE)
    guard result >= 0, !groups.isEmpty else { return result }
    for group in groups {
      let result = nl_socket_add_membership(socket, CInt(group.rawValue))
      guard result >= 0 else { return result }
    }
    return nl_socket_set_nonblocking(socket)
  }

  /// Makes a socket in a namespace; nil is the caller's.
  static func open(
    _ namespace: String?, _ action: String,
    _ make: () throws(NetlinkFailure) -> NetlinkSocket
  ) throws(NetlinkError) -> NetlinkSocket {
    let opened: Result<NetlinkSocket, NetlinkFailure>
    do throws(NamespaceError) {
      opened = try NetworkNamespace.run(in: namespace) {
        do throws(NetlinkFailure) {
          return .success(try make())
        } catch {
          return .failure(error)
        }
      }
    } catch {
      throw .namespace(error)
    }
    switch consume opened {
    case .success(let socket): return socket
    case .failure(let failure): throw NetlinkSession.explain(failure, action)
    }
  }

  deinit { nl_socket_free(socket) }

  var number: CInt { nl_socket_get_fd(socket) }

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

  /// What one look at the announcements found.
  enum Heard {
    case messages
    case nothing
    /// The buffer overflowed: some were lost.
    case overrun
  }

  /// Reads one datagram of announcements without waiting.
  func hear(_ each: (NetlinkReply) -> Void) throws(NetlinkFailure) -> Heard {
    var sender = sockaddr_nl()
    var buffer: UnsafeMutablePointer<UInt8>?
    let octets = nl_recv(socket, &sender, &buffer, nil)
    defer { free(buffer) }
    switch octets {
    case 0, -NLE_AGAIN: return .nothing
    case -NLE_NOMEM: return .overrun  // ENOBUFS
    case ..<0: throw .exchange(Self.words(octets))
    default: break
    }
    guard sender.nl_pid == 0, let buffer else { return .messages }  // not the kernel
    var left = octets
    var next = UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: nlmsghdr.self)
    while nlmsg_ok(next, left) != 0 {
      each(NetlinkReply(header: next))
      guard let following = nlmsg_next(next, &left) else { break }
      next = following
    }
    return .messages
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
