// The target side of a conversation: one non-blocking kernel socket.
//
// It has the size of its descriptor's number and no state besides: whether a connection stands, what
// was shut down and what is still owed is the relay's knowledge. Every call is one system call, except
// the dial, whose options cannot be combined. Nothing raises SIGPIPE.
// Choice of source address, marks and namespaces are left out until rules have them.

import CLinux
import Glibc
import Wire

/// How far a dial got before it returned.
package enum Dial: ~Copyable, Sendable {
  /// The connection stands.
  case connected(TargetSocket)
  /// The answer comes as writability: then `pendingError()` tells which it was.
  case inProgress(TargetSocket)
}

/// When the kernel asks whether a silent target is there (SO_KEEPALIVE, tcp(7)), whole seconds.
package struct SocketKeepalive: Sendable, Equatable {
  /// Silence before the first question (TCP_KEEPIDLE), 1 to 32 767.
  package var idle: Int
  /// Between two questions (TCP_KEEPINTVL), 1 to 32 767.
  package var spacing: Int
  /// Questions without an answer (TCP_KEEPCNT), 1 to 127.
  package var probes: Int

  package init(idle: Int, spacing: Int, probes: Int) {
    self.idle = idle
    self.spacing = spacing
    self.probes = probes
  }
}

/// A connected TCP or UDP socket; closed at its owner's end.
package struct TargetSocket: ~Copyable, Sendable {
  private let descriptor: Descriptor

  /// - Parameter descriptor: a non-blocking socket.
  package init(adopting descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// For `Epoll`.
  package var number: CInt { descriptor.number }

  /// Begins a TCP connection: TCP_NODELAY, since the relay writes whole batches; SO_OOBINLINE, since an
  /// urgent octet is an octet of the stream (RFC 6093 §3.1).
  ///
  /// - Parameter keepalive: nil: the socket never asks.
  /// - Throws: what connect(2) said at once, such as no route or no port left; a refusal by a
  ///   loopback target comes this way too.
  package static func dialTCP(
    _ address: IPAddress, port: UInt16, keepalive: SocketKeepalive? = nil
  ) throws(SystemError) -> Dial {
    let socket = try open(address, CInt(SOCK_STREAM.rawValue))
    try socket.set(CInt(IPPROTO_TCP), TCP_NODELAY, 1)
    try socket.set(SOL_SOCKET, SO_OOBINLINE, 1)
    if let keepalive {
      try socket.set(CInt(IPPROTO_TCP), TCP_KEEPIDLE, CInt(clamping: keepalive.idle))
      try socket.set(CInt(IPPROTO_TCP), TCP_KEEPINTVL, CInt(clamping: keepalive.spacing))
      try socket.set(CInt(IPPROTO_TCP), TCP_KEEPCNT, CInt(clamping: keepalive.probes))
      try socket.set(SOL_SOCKET, SO_KEEPALIVE, 1)
    }
    let result = withKernelAddress(address, port: port) { Glibc.connect(socket.number, $0, $1) }
    if result == 0 { return .connected(socket) }
    let code = errno
    // Interrupted, the connection goes on by itself, as one in progress does.
    guard code == EINPROGRESS || code == EINTR else {
      throw SystemError(code: code, call: .connect)
    }
    return .inProgress(socket)
  }

  /// A UDP socket that sends to, and hears from, one address and port only. What the network says about
  /// its datagrams (ICMP) fails the send or receive that follows, once, and waits in full for
  /// `nextReport`.
  ///
  /// Nothing leaves in fragments, on this host or behind it (DF), before `permitFragments`: a datagram
  /// that is longer than the path takes fails, or vanishes and is reported. Each way the kernel keeps
  /// `datagramBufferOctets`, or as many as it may without CAP_NET_ADMIN (socket(7), rmem_max, wmem_max).
  package static func openUDP(
    connectedTo address: IPAddress, port: UInt16
  ) throws(SystemError) -> TargetSocket {
    let socket = try open(address, CInt(SOCK_DGRAM.rawValue))
    if address.isIPv4 {
      try socket.set(CInt(IPPROTO_IP), IP_RECVERR, 1)
      try socket.set(CInt(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    } else {
      try socket.set(CInt(IPPROTO_IPV6), IPV6_RECVERR, 1)
      try socket.set(CInt(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO)
    }
    clinux_widen_buffers(socket.number, datagramBufferOctets)
    let result = withKernelAddress(address, port: port) { Glibc.connect(socket.number, $0, $1) }
    guard result == 0 else { throw SystemError(.connect) }
    return socket
  }

  /// Octets of datagrams that wait to be sent, and to be read; the kernel counts its overhead besides.
  package static let datagramBufferOctets: CInt = 512 * 1024

  /// From now on received datagrams may come joined (UDP_GRO).
  ///
  /// - Returns: whether the kernel knows runs (Linux 5.0). Where it does not, none may be sent: before Linux
  ///   4.18 it takes no notice of UDP_SEGMENT, and a run leaves as one long datagram.
  package func joinDatagrams() -> Bool { clinux_join_datagrams(number) >= 0 }

  /// From now on datagrams leave in fragments where they must: IPv4's without DF, those of IPv6 cut to
  /// what the kernel knows of the path.
  package func permitFragments(isIPv4: Bool) {
    // Options that the socket took before, with other values: they do not fail.
    if isIPv4 {
      try? set(CInt(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    } else {
      try? set(CInt(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT)
    }
  }

  private static func open(_ address: IPAddress, _ type: CInt) throws(SystemError) -> TargetSocket {
    let flags = CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    let number = Glibc.socket(address.isIPv4 ? AF_INET : AF_INET6, type | flags, 0)
    guard number >= 0 else { throw SystemError(.socket) }
    return TargetSocket(adopting: Descriptor(adopting: number))
  }

  private func set(_ level: CInt, _ option: CInt, _ value: CInt) throws(SystemError) {
    var value = value
    guard setsockopt(number, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) == 0 else {
      throw SystemError(.setsockopt)
    }
  }

  /// The error that the network reported since the last look (SO_ERROR), nil when there is none: a
  /// dial in progress that became writable without one is connected. Looking clears it.
  package func pendingError() -> SystemError? {
    var code: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(number, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else {
      return SystemError(.getsockopt)
    }
    return code == 0 ? nil : SystemError(code: code, call: .pending)
  }

  /// Whether, and when, the kernel asks a silent target; nil: never.
  package func keepalive() -> SocketKeepalive? {
    guard option(SOL_SOCKET, SO_KEEPALIVE) == 1,
      let idle = option(CInt(IPPROTO_TCP), TCP_KEEPIDLE),
      let spacing = option(CInt(IPPROTO_TCP), TCP_KEEPINTVL),
      let probes = option(CInt(IPPROTO_TCP), TCP_KEEPCNT)
    else { return nil }
    return SocketKeepalive(idle: idle, spacing: spacing, probes: probes)
  }

  private func option(_ level: CInt, _ option: CInt) -> Int? {
    var value: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    return getsockopt(number, level, option, &value, &length) == 0 ? Int(value) : nil
  }

  /// The address and port that the kernel chose for this side; nil when it does not say.
  package func localName() -> (address: IPAddress, port: UInt16)? {
    var storage = sockaddr_in6()
    var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
    return withUnsafeMutableBytes(of: &storage) { octets in
      let result = octets.withMemoryRebound(to: sockaddr.self) {
        getsockname(number, $0.baseAddress, &length)
      }
      guard result == 0 else { return nil }
      let port = UInt16(octets[2]) << 8 | UInt16(octets[3])
      let isIPv4 = octets.load(as: sa_family_t.self) == sa_family_t(AF_INET)
      return IPAddress(octets: isIPv4 ? octets[4..<8] : octets[8..<24]).map { ($0, port) }
    }
  }
}

extension TargetSocket {
  /// Sends the slices' octets in order; fewer than all of them when the socket's buffer is full.
  ///
  /// - Parameter gather: at most `Descriptor.slicesPerCallMax` slices; on a UDP socket, one datagram.
  package func send(_ gather: UnsafeBufferPointer<Slice>) -> Transfer {
    precondition(gather.count <= Descriptor.slicesPerCallMax, "slices of one send")
    var message = msghdr()
    message.msg_iov = UnsafeMutableRawPointer(mutating: gather.baseAddress)?
      .assumingMemoryBound(to: iovec.self)
    message.msg_iovlen = gather.count
    let flags = CInt(MSG_NOSIGNAL | MSG_DONTWAIT)
    return Transfer(result: sendmsg(number, &message, flags), .sendmsg)
  }

  /// Reads from a TCP socket into the slices, first to last, as far as there is data.
  /// `wouldBlock` when there is none: fewer octets than asked for are no proof of it, since a read stops
  /// in front of an urgent octet.
  ///
  /// - Parameter scatter: at most `Descriptor.slicesPerCallMax` slices, at least one octet.
  package func receive(into scatter: UnsafeBufferPointer<Slice>) -> Transfer {
    precondition(scatter.count <= Descriptor.slicesPerCallMax, "slices of one receive")
    guard let slices = scatter.baseAddress else { return .octets(0) }
    let result = slices.withMemoryRebound(to: iovec.self, capacity: scatter.count) {
      Glibc.readv(number, $0, CInt(scatter.count))
    }
    return Transfer(result: result, .readv, zeroEnds: true)
  }

  /// Sends FIN behind everything sent so far; the other half stays open.
  package func shutdownWrite() -> SystemError? {
    Glibc.shutdown(number, CInt(SHUT_WR)) == 0 ? nil : SystemError(.shutdown)
  }

  /// Lets the close send RST instead of FIN and forget unsent data (SO_LINGER of zero seconds).
  package func abortOnClose() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    // Fails only on a descriptor that is no socket.
    _ = setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
  }

  /// Octets sent that the target has not acknowledged (SIOCOUTQ); nil when the kernel does not say.
  package func unacknowledgedOctets() -> Int? {
    let answer = clinux_unacknowledged_octets(number)
    return answer >= 0 ? Int(answer) : nil
  }

  /// Raises the send buffer's bound so that it takes `octets` more than it holds.
  ///
  /// - Returns: the bound before, for `restoreSendBuffer`; nil when it stays as it is, because it
  ///   suffices or for want of CAP_NET_ADMIN.
  package func raiseSendBuffer(by octets: Int) -> CInt? {
    let answer = clinux_raise_send_buffer(number, CInt(clamping: octets))
    return answer > 0 ? answer : nil
  }

  /// Sets the bound back and leaves it to the kernel again (SO_BUF_LOCK, Linux 5.15; earlier ones keep
  /// it as it is set here).
  package func restoreSendBuffer(_ bound: CInt) { clinux_restore_send_buffer(number, bound) }

  /// How often something came and found no room in the socket, since it was made (SO_MEMINFO): datagrams at
  /// least, for a joined run counts once; nil when the kernel does not say.
  package func lostDatagrams() -> Int? { withMemory { Int($0[8]) } }  // SK_MEMINFO_DROPS

  /// Octets that the next send takes without `wouldBlock`, at least, as long as nothing else competes
  /// for the kernel's memory: the send buffer's bound less what is queued, with the queue's own
  /// overhead counted (SO_MEMINFO). The kernel raises the bound as the path asks for it, but only after
  /// a send has met it. Nil when the kernel does not say.
  package func sendRoom() -> Int? {
    // SK_MEMINFO_SNDBUF, and SK_MEMINFO_WMEM_QUEUED.
    withMemory { max(0, Int($0[3]) - Int($0[5])) }
  }

  /// Looks at the words SK_MEMINFO_* (linux/sock_diag.h), all of the same moment.
  private func withMemory(_ body: (UnsafePointer<UInt32>) -> Int) -> Int? {
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 9) { words in
      guard let base = words.baseAddress, clinux_socket_memory(number, base) == 0 else {
        return nil
      }
      return body(base)
    }
  }
}
