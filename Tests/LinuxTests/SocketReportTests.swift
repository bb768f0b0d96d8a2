// What the network says about a socket's datagrams: refusals, and paths that take less.

import Glibc
import Kernel
import Testing
import Wire

@Suite("A socket's error queue") struct SocketReportTests {
  @Test(
    "a closed port is reported as refused, once for each datagram",
    arguments: [loopback, loopback6])
  func refused(_ address: IPAddress) throws {
    let port = try PeerSocket(address, type: SOCK_DGRAM).port
    let socket = try TargetSocket.openUDP(connectedTo: address, port: port)
    let none = socket.nextReport()
    #expect(none == nil)
    #expect(send([1], on: socket).octetCount == 1)
    #expect(send([2], on: socket).failure?.isRefused == true)
    let first = socket.nextReport()
    let report = try #require(first)
    #expect(report.error.isRefused && !report.isLocal && !report.isProhibited)
    let second = socket.nextReport()
    let pending = socket.pendingError()
    #expect(second == nil && pending == nil)
  }

  @Test(
    "a datagram beyond the MTU is reported with it, until fragments are permitted",
    arguments: [loopback, loopback6])
  func tooLong(_ address: IPAddress) throws {
    let namespace = try TestNamespace()
    _ = try namespace.output(of: "ip link set lo mtu 1300 up")
    let socket = try NetworkNamespace.run(in: namespace.path) {
      Result<TargetSocket, SystemError> { () throws(SystemError) in
        try TargetSocket.openUDP(connectedTo: address, port: 9)
      }
    }.get()
    let headers = address.isIPv4 ? 28 : 48
    let tooLong = [UInt8](repeating: 7, count: 1301 - headers)
    #expect(send(tooLong, on: socket).failure?.isMessageTooLong == true)
    let first = socket.nextReport()
    let report = try #require(first)
    #expect(report.error.isMessageTooLong && report.isLocal && report.mtu == 1300)
    let second = socket.nextReport()
    #expect(second == nil)
    socket.permitFragments(isIPv4: address.isIPv4)
    #expect(send(tooLong, on: socket).octetCount == tooLong.count)
  }

  @Test("a firewall's prohibition is told from an absent host") func prohibited() throws {
    let namespace = try TestNamespace()
    for command in [
      "ip link set lo up",
      "nft add table ip shut",
      "nft add chain ip shut input '{ type filter hook input priority 0; }'",
      "nft add rule ip shut input udp dport 9 reject with icmp type admin-prohibited",
      "nft add rule ip shut input udp dport 10 reject with icmp type host-unreachable",
    ] {
      #expect(try namespace.output(of: command) == "")
    }
    for (port, isProhibited) in [(9 as UInt16, true), (10, false)] {
      let socket = try NetworkNamespace.run(in: namespace.path) {
        Result<TargetSocket, SystemError> { () throws(SystemError) in
          try TargetSocket.openUDP(connectedTo: loopback, port: port)
        }
      }.get()
      #expect(send([1], on: socket).octetCount == 1)
      let first = socket.nextReport()
      let report = try #require(first)
      #expect(report.error.isUnreachable && report.isProhibited == isProhibited)
    }
  }
}
