// Batches of datagrams over real loopback sockets: order, borders, refusals, full buffers.

import Glibc
import Kernel
import Primitives
import Testing
import Wire

@Suite("Datagram batches") struct DatagramBatchTests {
  /// A UDP socket of ours and its peer, connected to one another.
  private func pair(_ address: IPAddress) throws -> (CInt, CInt) {
    let bound = try PeerSocket(address, type: SOCK_DGRAM)
    let socket = try TargetSocket.openUDP(connectedTo: address, port: bound.port)
    let port = try #require(socket.localName()?.port)
    try bound.connect(to: address, port: port)
    return (dup(socket.number), dup(bound.descriptor.number))
  }

  @Test(
    "sizes from none to the largest arrive whole and in order", arguments: [loopback, loopback6])
  func carriesEverySize(_ address: IPAddress) throws {
    let (first, second) = try pair(address)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    let peer = TargetSocket(adopting: Descriptor(adopting: second))
    socket.permitFragments(isIPv4: address.isIPv4)  // the largest exceeds the loopback's MTU
    let sizes = [0, 1, 512, 1472, 9000, 65507, 0, 3]
    var memory = (0..<70000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    var outgoing = DatagramSendBatch()
    var incoming = DatagramReceiveBatch()
    memory.withUnsafeMutableBytes { octets in
      for (index, size) in sizes.enumerated() {
        let middle = index + size / 2
        let parts = [octets.slice(index..<middle), octets.slice(middle..<index + size)]
        #expect(parts.withUnsafeBufferPointer { outgoing.append($0) })
      }
      guard case .datagrams(8) = outgoing.send(on: socket) else {
        Issue.record("send")
        return
      }
      #expect(outgoing.count == 0)
    }
    guard case .datagrams(8) = incoming.receive(on: peer) else {
      Issue.record("receive")
      return
    }
    for (index, size) in sizes.enumerated() {
      let slice = incoming.datagram(index)
      let octets = Array(UnsafeRawBufferPointer(start: slice.base, count: slice.octets))
      #expect(octets == Array(memory[index..<index + size]))
    }
    guard case .wouldBlock = incoming.receive(on: peer) else {
      Issue.record("more than was sent")
      return
    }
  }

  @Test("a batch is full at its bounds, and a limit holds") func isBounded() throws {
    let (first, second) = try pair(loopback)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    let peer = TargetSocket(adopting: Descriptor(adopting: second))
    var outgoing = DatagramSendBatch()
    var octet: UInt8 = 5
    withUnsafeMutableBytes(of: &octet) { memory in
      let slice = memory.slice(0..<1)
      for _ in 0..<DatagramSendBatch.datagramsMax { #expect(outgoing.append(slice) == true) }
      #expect(outgoing.append(slice) == false)
      guard case .datagrams(DatagramSendBatch.datagramsMax) = outgoing.send(on: socket) else {
        Issue.record("send")
        return
      }
    }
    var incoming = DatagramReceiveBatch()
    guard case .datagrams(10) = incoming.receive(on: peer, limit: 10) else {
      Issue.record("limit")
      return
    }
    guard case .datagrams(54) = incoming.receive(on: peer) else {
      Issue.record("rest")
      return
    }
  }

  @Test("a closed port's refusal is told once, by the next call") func isRefused() throws {
    let port = try PeerSocket(loopback, type: SOCK_DGRAM).port
    let socket = try TargetSocket.openUDP(connectedTo: loopback, port: port)
    #expect(send([1], on: socket).octetCount == 1)
    var incoming = DatagramReceiveBatch()
    guard case .failed(let error) = incoming.receive(on: socket) else {
      Issue.record("no refusal")
      return
    }
    #expect(error.isRefused)
    guard case .wouldBlock = incoming.receive(on: socket) else {
      Issue.record("refused twice")
      return
    }
  }

  @Test("a datagram too large fails, and can be dropped from the batch") func dropsTooLarge() throws
  {
    let (first, second) = try pair(loopback)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    var outgoing = DatagramSendBatch()
    var memory = [UInt8](repeating: 1, count: 65508)
    memory.withUnsafeMutableBytes { octets in
      #expect(outgoing.append(octets.slice(0..<65508)) == true)
      #expect(outgoing.append(octets.slice(0..<1)) == true)
      guard case .failed(let error) = outgoing.send(on: socket) else {
        Issue.record("sent")
        return
      }
      #expect(error.isMessageTooLong)
      outgoing.removeFirst()
      guard case .datagrams(1) = outgoing.send(on: socket) else {
        Issue.record("not sent")
        return
      }
    }
    close(second)
  }
}
