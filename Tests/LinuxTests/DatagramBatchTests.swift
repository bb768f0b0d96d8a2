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
        #expect(outgoing.append(octets.slice(index..<index + size)) == true)
      }
      guard case .messages(8) = outgoing.send(on: socket) else {
        Issue.record("send")
        return
      }
      #expect(outgoing.count == 0)
    }
    guard case .messages(8) = incoming.receive(on: peer) else {
      Issue.record("receive")
      return
    }
    for (index, size) in sizes.enumerated() {
      let (slice, run) = incoming.message(index)
      #expect(run == DatagramRun(size))
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
    var octets: (UInt8, UInt8) = (5, 6)
    withUnsafeMutableBytes(of: &octets) { memory in
      // Each longer than the one before it: nothing joins.
      for _ in 0..<DatagramSendBatch.messagesMax / 2 {
        #expect(outgoing.append(memory.slice(0..<0)) == true)
        #expect(outgoing.append(memory.slice(0..<2)) == true)
      }
      #expect(outgoing.append(memory.slice(0..<0)) == false)
      #expect(outgoing.count == DatagramSendBatch.messagesMax)
      guard case .messages(DatagramSendBatch.messagesMax) = outgoing.send(on: socket) else {
        Issue.record("send")
        return
      }
      #expect(outgoing.count == 0 && outgoing.datagramsSent == DatagramSendBatch.messagesMax)
    }
    var incoming = DatagramReceiveBatch()
    guard case .messages(10) = incoming.receive(on: peer, limit: 10) else {
      Issue.record("limit")
      return
    }
    guard case .messages(54) = incoming.receive(on: peer) else {
      Issue.record("rest")
      return
    }
  }

  /// The lengths of datagrams that one receive took, and of the runs that they come in.
  private func lengths(
    _ incoming: borrowing DatagramReceiveBatch, _ messages: Int
  ) -> (datagrams: [Int], runs: [Int]) {
    var datagrams: [Int] = []
    var runs: [Int] = []
    var index = 0
    while index < messages {
      var run = incoming.message(index).run
      #expect(incoming.message(index).slice.octets == run.octets)
      index += 1
      while index < messages, run.join(incoming.message(index).run) { index += 1 }
      for number in 0..<run.datagrams {
        datagrams.append(run.datagramOctets(at: number * run.segmentOctets))
      }
      runs.append(run.datagrams)
    }
    return (datagrams, runs)
  }

  @Test("equal datagrams are sent as runs, and come as such", arguments: [loopback, loopback6])
  func runs(_ address: IPAddress) throws {
    let (first, second) = try pair(address)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    let peer = TargetSocket(adopting: Descriptor(adopting: second))
    var outgoing = DatagramSendBatch()
    var incoming = DatagramReceiveBatch()
    var memory = [UInt8](repeating: 3, count: 6000)
    let sizes = [100, 100, 100, 40, 40, 0, 7, 1000, 1000]
    memory.withUnsafeMutableBytes { octets in
      for size in sizes { #expect(outgoing.append(octets.slice(0..<size)) == true) }
      #expect(outgoing.append(octets.slice(0..<2500), segmentOctets: 1000) == true)
      #expect(outgoing.count == sizes.count + 3)
      // 100 100 100 40 | 40 | | 7 | 1000 1000 1000 1000 500
      guard case .messages(5) = outgoing.send(on: socket) else {
        Issue.record("send")
        return
      }
      #expect(outgoing.datagramsSent == sizes.count + 3)
      #expect(outgoing.octetsSent == sizes.reduce(0, +) + 2500)
    }
    guard case .messages(let count) = incoming.receive(on: peer) else {
      Issue.record("receive")
      return
    }
    let got = lengths(incoming, count)
    #expect(got.datagrams == sizes + [1000, 1000, 500])
    #expect(got.runs == [4, 1, 1, 1, 5])
  }

  @Test("a run whose parts are longer than the path takes is refused whole, and goes in parts")
  func splits() throws {
    let (first, second) = try pair(loopback)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    let peer = TargetSocket(adopting: Descriptor(adopting: second))
    socket.permitFragments(isIPv4: true)
    var outgoing = DatagramSendBatch()
    var incoming = DatagramReceiveBatch()
    // Two datagrams that fit IPv4 alone, and not the loopback's MTU less what a run needs.
    let octets = 65_000
    var memory = (0..<octets).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    memory.withUnsafeMutableBytes { memory in
      #expect(outgoing.append(memory.slice(0..<octets), segmentOctets: octets - 1000) == true)
      #expect(outgoing.append(memory.slice(0..<3)) == true)
      #expect(outgoing.count == 3)
      #expect(outgoing.split() == octets - 1000)
      #expect(outgoing.split() == nil, "once")
      var sent: [Int] = []
      while outgoing.count > 0 {
        guard case .messages(1) = outgoing.send(on: socket) else {
          Issue.record("send")
          return
        }
        sent.append(outgoing.octetsSent)
      }
      #expect(sent == [octets - 1000, 1000, 3])
    }
    guard case .messages(let count) = incoming.receive(on: peer) else {
      Issue.record("receive")
      return
    }
    #expect(lengths(incoming, count).datagrams == [octets - 1000, 1000, 3])
  }

  @Test("datagrams longer than the kernel is known to cut are not joined")
  func joinsShorterOnly() {
    var outgoing = DatagramSendBatch()
    var memory = [UInt8](repeating: 1, count: 50)
    memory.withUnsafeMutableBytes { memory in
      outgoing.segmentOctetsMax = 0
      for size in [0, 1, 1] { #expect(outgoing.append(memory.slice(0..<size)) == true) }
      for left in [2, 1, 0] {
        #expect(outgoing.removeFirst() == 1)
        #expect(outgoing.count == left)
      }
      outgoing.segmentOctetsMax = 19
      for size in [20, 20, 7, 19, 19, 19] {
        #expect(outgoing.append(memory.slice(0..<size)) == true)
      }
    }
    #expect(outgoing.count == 6)
    for (dropped, left) in [(1, 5), (1, 4), (1, 3), (3, 0)] {
      #expect(outgoing.removeFirst() == dropped)
      #expect(outgoing.count == left)
    }
  }

  @Test("long messages are received fewer at a time, short ones by the batch again")
  func expectsMessages() throws {
    let (first, second) = try pair(loopback)
    let socket = TargetSocket(adopting: Descriptor(adopting: first))
    let peer = TargetSocket(adopting: Descriptor(adopting: second))
    var memory = [UInt8](repeating: 1, count: 20_000)
    var incoming = DatagramReceiveBatch()
    #expect(incoming.messagesExpected == DatagramReceiveBatch.messagesMax)
    for (octets, expected) in [(20_000, 16), (100, DatagramReceiveBatch.messagesMax)] {
      var outgoing = DatagramSendBatch()
      memory.withUnsafeMutableBytes { memory in
        #expect(outgoing.append(memory.slice(0..<octets)) == true)
        guard case .messages(1) = outgoing.send(on: socket) else {
          Issue.record("send")
          return
        }
      }
      guard case .messages(1) = incoming.receive(on: peer) else {
        Issue.record("receive")
        return
      }
      #expect(incoming.octetsReceived == octets)
      #expect(incoming.messagesExpected == expected)
    }
    guard case .wouldBlock = incoming.receive(on: peer) else {
      Issue.record("more than was sent")
      return
    }
    #expect(incoming.octetsReceived == 0)
  }

  @Test("what is dropped of a run that was split is one datagram; of one that was not, all of it")
  func dropsOfRuns() {
    var outgoing = DatagramSendBatch()
    var memory = [UInt8](repeating: 1, count: 50)
    memory.withUnsafeMutableBytes { memory in
      for _ in 0..<2 {
        #expect(outgoing.append(memory.slice(0..<25), segmentOctets: 10) == true)
      }
      #expect(outgoing.count == 6)
      #expect(outgoing.split() == 10)
      for (dropped, left) in [(1, 5), (1, 4), (1, 3), (3, 0)] {
        #expect(outgoing.removeFirst() == dropped)
        #expect(outgoing.count == left)
      }
      #expect(outgoing.split() == nil)
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
      #expect(outgoing.removeFirst() == 1)
      guard case .messages(1) = outgoing.send(on: socket) else {
        Issue.record("not sent")
        return
      }
    }
    close(second)
  }
}
