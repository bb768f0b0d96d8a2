// Target sockets against real peers on loopback: dialling, half-close, reset, room.

import Glibc
import Kernel
import Primitives
import Testing
import Wire

@Suite("Target sockets") struct TargetSocketTests {
  @Test(
    "a dial to a listener stands, and carries octets both ways", arguments: [loopback, loopback6])
  func connects(_ address: IPAddress) throws {
    let listener = try PeerSocket(address, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(address, port: listener.port))
    let peer = TargetSocket(adopting: try listener.accept())
    #expect(socket.localName()?.address == address)
    #expect(receive(on: socket, sizes: [10]).0.isBlocked)
    #expect(send([1, 2, 3, 4, 5], on: socket).octetCount == 5)
    #expect(receive(on: peer, sizes: [2, 8]).1 == [1, 2, 3, 4, 5])
    #expect(send([6, 7], on: peer).octetCount == 2)
    _ = try waitUntil(.readable, socket.number)
    #expect(receive(on: socket, sizes: [1, 1, 1]).1 == [6, 7])
  }

  @Test("a closed port refuses", arguments: [loopback, loopback6])
  func isRefused(_ address: IPAddress) throws {
    let bound = try PeerSocket(address, type: SOCK_STREAM)
    let port = bound.port
    let error = #expect(throws: SystemError.self) {
      _ = try established(TargetSocket.dialTCP(address, port: port))
    }
    #expect(error?.isRefused == true)
    #expect(error?.reason == "Connection refused (ECONNREFUSED)")
    withExtendedLifetime(bound) {}
  }

  @Test("a kernel that knows no runs says so", arguments: [loopback, loopback6])
  func knowsRuns(_ address: IPAddress) throws {
    let bound = try PeerSocket(address, type: SOCK_DGRAM)
    let socket = try TargetSocket.openUDP(connectedTo: address, port: bound.port)
    #expect(socket.joinDatagrams() == true)
    // UDP's option means nothing to TCP, as to UDP itself before Linux 5.0: ENOPROTOOPT.
    let listener = try PeerSocket(address, type: SOCK_STREAM, listening: true)
    let other = try established(TargetSocket.dialTCP(address, port: listener.port))
    #expect(other.joinDatagrams() == false)
  }

  @Test("an address without a route is unreachable at once") func isUnreachable() throws {
    let namespace = try TestNamespace()
    let error = try NetworkNamespace.run(in: namespace.path) { () -> SystemError? in
      do throws(SystemError) {
        _ = try TargetSocket.dialTCP(IPAddress(v4: 0xc612_0001), port: 80)
        return nil
      } catch {
        return error
      }
    }
    #expect(error?.isUnreachable == true)
    #expect(error?.description == "connect: Network is unreachable (ENETUNREACH)")
  }

  @Test("half-close: the peer sees the end, and can still send") func closesHalf() throws {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    let peer = TargetSocket(adopting: try listener.accept())
    #expect(socket.shutdownWrite() == nil)
    #expect(receive(on: peer, sizes: [1]).0.isEnd)
    #expect(send([9], on: peer).octetCount == 1)
    _ = try waitUntil(.readable, socket.number)
    #expect(receive(on: socket, sizes: [1]).1 == [9])
    #expect(peer.shutdownWrite() == nil)
    #expect(try waitUntil([.readable, .readHangup], socket.number).contains(.readHangup))
    #expect(receive(on: socket, sizes: [1]).0.isEnd)
  }

  @Test("an aborted socket's peer sees a reset, not an end") func aborts() throws {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    let peer = TargetSocket(adopting: try listener.accept())
    socket.abortOnClose()
    _ = consume socket
    #expect(receive(on: peer, sizes: [1]).0.failure?.isReset == true)
    #expect(send([1], on: peer).failure?.isReset == true)
  }

  @Test("an urgent octet stays in the stream (RFC 6093 §3.1)") func keepsUrgentOctets() throws {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    let peer = try listener.accept()
    #expect(Glibc.send(peer.number, "abc", 3, CInt(MSG_OOB)) == 3)
    _ = try waitUntil(.readable, socket.number)
    // One read stops in front of the urgent octet.
    #expect(receive(on: socket, sizes: [10]).1 == Array("ab".utf8))
    #expect(receive(on: socket, sizes: [10]).1 == Array("c".utf8))
  }

  @Test("a target is asked whether it is there only if that is wanted, and when it is wanted")
  func asksTarget() throws {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let silent = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    #expect(silent.keepalive() == nil)
    let wanted = SocketKeepalive(idle: 32_400, spacing: 15, probes: 9)
    let asking = try established(
      TargetSocket.dialTCP(loopback, port: listener.port, keepalive: wanted))
    #expect(asking.keepalive() == wanted)
  }

  @Test("a send takes all the room that was told, until there is none") func tellsSendRoom() throws
  {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    let peer = try listener.accept()
    var sent = 0
    var rounds = 0
    while rounds < 10_000, let room = socket.sendRoom(), room > 0 {
      // Odd parts, so that the queue's overhead counts.
      let octets = min(room, 1 + rounds * 7919 % 50_000)
      try #require(send([UInt8](repeating: 7, count: octets), on: socket).octetCount == octets)
      sent += octets
      rounds += 1
    }
    #expect(socket.sendRoom() == 0)
    // The last packet that is queued may have room that is paid for: a bounded rest.
    var rest = 0
    while rest < 1000, !send([UInt8](repeating: 1, count: 4096), on: socket).isBlocked { rest += 1 }
    #expect(rest < 1000)
    let unacknowledged = socket.unacknowledgedOctets() ?? 0
    #expect(unacknowledged > 0 && unacknowledged <= sent + rest * 4096)
    withExtendedLifetime(peer) {}
  }

  @Test("a full socket takes what it is made to take, and is then as full as before")
  func takesMore() throws {
    let listener = try PeerSocket(loopback, type: SOCK_STREAM, listening: true)
    let socket = try established(TargetSocket.dialTCP(loopback, port: listener.port))
    let peer = try listener.accept()
    var rounds = 0
    while rounds < 10_000, !send([UInt8](repeating: 7, count: 60_000), on: socket).isBlocked {
      rounds += 1
    }
    let before = socket.unacknowledgedOctets() ?? 0
    let raised = socket.raiseSendBuffer(by: 1 << 20)
    let bound = try #require(raised)
    var taken = 0
    while taken < 1 << 20 {
      let part = [UInt8](repeating: 8, count: min(60_000, 1 << 20 - taken))
      taken += try #require(send(part, on: socket).octetCount)
    }
    socket.restoreSendBuffer(bound)
    // The last packet that is queued may have room that is paid for.
    var rest = 0
    while rest < 1000, !send([UInt8](repeating: 1, count: 4096), on: socket).isBlocked { rest += 1 }
    #expect(rest < 1000)
    #expect((socket.unacknowledgedOctets() ?? 0) >= before + 1 << 20)
    #expect(socket.sendRoom() == 0)
    withExtendedLifetime(peer) {}
  }
}
