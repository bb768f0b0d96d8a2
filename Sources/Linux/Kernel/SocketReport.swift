// What the network said about datagrams that a socket sent: its error queue (ip(7), IP_RECVERR).
//
// The error number that a send or receive fails with is one of several meanings; here type and code of
// the ICMP message are told apart, and "too big" comes with the MTU. The kernel bounds the queue by the
// socket's receive buffer. Which datagram it was is not looked at: the socket has one peer.

import CLinux
import Glibc

package struct SocketReport: Equatable, Sendable, BitwiseCopyable {
  /// Why a datagram did not arrive.
  package var error: SystemError
  /// This host said so itself, of a datagram that it did not send.
  package var isLocal: Bool
  /// A firewall on the way forbids it (RFC 1812 §5.2.7.1, codes 9, 10 and 13), which IPv4's error
  /// numbers do not tell from an absent host.
  package var isProhibited: Bool
  /// With an error that `isMessageTooLong`: the MTU of the path, the IP header included.
  package var mtu: Int

  // SO_EE_ORIGIN_LOCAL and SO_EE_ORIGIN_ICMP (linux/errqueue.h).
  private static let originLocal: UInt8 = 1
  private static let originICMP: UInt8 = 2

  init(_ report: clinux_report) {
    error = SystemError(code: CInt(truncatingIfNeeded: report.error), call: .pending)
    isLocal = report.origin == Self.originLocal
    isProhibited =
      report.origin == Self.originICMP && report.type == 3
      && [9, 10, 13].contains(report.code)
    mtu = Int(report.info)
  }
}

extension TargetSocket {
  /// Takes the oldest report of the queue; nil when it is empty. The pending error goes with the last.
  package func nextReport() -> SocketReport? {
    var report = clinux_report()
    while clinux_receive_report(number, &report) == 0 {
      if report.error != 0 { return SocketReport(report) }
    }
    return nil
  }
}
