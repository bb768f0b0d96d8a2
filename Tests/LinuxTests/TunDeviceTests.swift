// TUN devices in network namespaces: opening, offloads, names that are taken, packets through it.

import Glibc
import Kernel
import Netlink
import Primitives
import Testing
import TunDevice
import Wire

@Suite("TUN devices") struct TunDeviceTests {
  @Test("this kernel grants every offload") func grantsOffloads() throws {
    let namespace = try TestNamespace()
    let device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 1, offload: true, keep: false)
    #expect(device.features == .all)
    #expect(device.features.description == "checksum tso4 tso6 tso-ecn uso4 uso6")
    #expect(device.wasTakenOver == false)
    var session = try NetlinkSession(namespace: namespace.path)
    let link = try #require(try session.link(named: "ferry0"))
    #expect(link.kind == "tun" && link.index == device.interfaceIndex && !link.isUp)
  }

  @Test(
    "a ping written to the device comes back answered, with offload and without",
    arguments: [true, false], [1, 2])
  func answersPing(_ offload: Bool, _ queues: Int) throws {
    let namespace = try TestNamespace()
    var device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: queues, offload: offload, keep: false)
    #expect(device.features == (offload ? .all : []))
    let queue = device.takeQueue(0)
    try configure(namespace.path, device.interfaceIndex)
    #expect(write(echoRequest(), on: queue).octetCount == 10 + 32)
    // The kernel chooses the queue.
    var reply: [UInt8]?
    if queues == 2 {
      let other = device.takeQueue(1)
      for _ in 0..<12_000 where reply == nil {
        reply = nextPacket(queue, waiting: false) { $0[9] == 1 }
        reply = reply ?? nextPacket(other, waiting: false) { $0[9] == 1 }
        if reply == nil { usleep(5_000) }
      }
    } else {
      reply = nextPacket(queue) { $0[9] == 1 }
    }
    let packet = try #require(reply)
    #expect(Array(packet[10 + 12..<10 + 20]) == [10, 77, 0, 1, 10, 77, 0, 2])
    #expect(packet[10 + 20] == 0)  // echo reply
    #expect(packet[(10 + 28)...] == [0xab, 0xcd, 0xef, 0x01])
  }

  @Test("checksums are left to us with offload only", arguments: [true, false])
  func leavesChecksums(_ offload: Bool) throws {
    let namespace = try TestNamespace()
    var device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 1, offload: offload, keep: false)
    let queue = device.takeQueue(0)
    try configure(namespace.path, device.interfaceIndex)
    let socket = try NetworkNamespace.run(in: namespace.path) {
      Result<TargetSocket, SystemError> { () throws(SystemError) in
        try TargetSocket.openUDP(connectedTo: IPAddress(v4: 0x0a4d_0002), port: 9)
      }
    }.get()
    #expect(send([1, 2, 3], on: socket).octetCount == 3)
    let packet = try #require(nextPacket(queue) { $0[9] == 17 })
    #expect(packet[0] == (offload ? 1 : 0))
  }

  @Test("a name in use is refused, whatever the number of queues", arguments: [1, 2], [1, 2])
  func refusesBusyName(_ first: Int, _ second: Int) throws {
    let namespace = try TestNamespace()
    let path = namespace.path
    let device = try TunDevice.open(
      name: "ferry0", namespace: path, queues: first, offload: true, keep: false)
    let error = #expect(throws: TunDeviceError.self) {
      _ = try TunDevice.open(
        name: "ferry0", namespace: path, queues: second, offload: true, keep: false)
    }
    #expect(error == .nameBusy(name: "ferry0", holder: "another process"))
    #expect(
      error?.description
        == "device name ferry0 is taken by another process: stop or remove it, or choose another device.name"
    )
    withExtendedLifetime(device) {}
  }

  @Test("links of other kinds are refused by kind") func refusesOtherKinds() throws {
    let namespace = try TestNamespace()
    let path = namespace.path
    let made = try namespace.output(
      of: "ip link add v0 type veth peer name v1 && ip tuntap add dev t0 mode tap")
    #expect(made == "")
    for (name, holder) in [("v0", "a veth link"), ("t0", "a TAP device"), ("lo", "another link")] {
      let error = #expect(throws: TunDeviceError.self) {
        _ = try TunDevice.open(name: name, namespace: path, queues: 1, offload: true, keep: true)
      }
      #expect(error == .nameBusy(name: name, holder: holder))
    }
  }

  @Test("a device vanishes with its last queue") func vanishes() throws {
    let namespace = try TestNamespace()
    var session = try NetlinkSession(namespace: namespace.path)
    do {
      var device = try TunDevice.open(
        name: "ferry0", namespace: namespace.path, queues: 2, offload: true, keep: false)
      let queue = device.takeQueue(1)
      _ = consume device
      #expect(try session.link(named: "ferry0") != nil)
      withExtendedLifetime(queue) {}
    }
    #expect(try isGone("ferry0", &session))
  }

  @Test(
    "a kept device stays, is taken over, and goes when it is no longer kept", arguments: [1, 2])
  func takesOver(_ queues: Int) throws {
    let namespace = try TestNamespace()
    var session = try NetlinkSession(namespace: namespace.path)
    var index = 0
    do {
      let device = try reopen(namespace.path, queues: queues, keep: true)
      index = device.interfaceIndex
      try session.addAddress(
        IPAddress(v4: 0x0a4d_0001), length: 120, interfaceIndex: index)
    }
    #expect(try session.link(index) != nil)
    do {
      let device = try reopen(namespace.path, queues: queues, keep: true)
      #expect(device.wasTakenOver && device.interfaceIndex == index && device.features == .all)
      #expect(try session.addresses(interfaceIndex: index).count == 1)
    }
    do {
      // Another number of queues asks for another device.
      let device = try reopen(namespace.path, queues: 3 - queues, keep: true)
      #expect(!device.wasTakenOver && device.interfaceIndex != index)
    }
    do {
      let device = try reopen(namespace.path, queues: queues, keep: false)
      #expect(device.wasTakenOver == false)
    }
    #expect(try isGone("ferry0", &session))
  }

  @Test("a kernel that lacks a bit gets fewer, down to none")
  func fallsBack() throws {
    // The kernel's rule: any unknown bit refuses the whole mask.
    func granted(by known: OffloadFeatures) throws -> OffloadFeatures {
      try OffloadFeatures.negotiate { $0.subtracting(known).isEmpty ? 0 : -EINVAL }
    }
    #expect(try granted(by: .all) == .all)
    #expect(
      try granted(by: .all.subtracting([.uso4, .uso6])) == [.checksum, .tso4, .tso6, .tsoECN])
    #expect(try granted(by: .all.subtracting([.uso4])) == [.checksum, .tso4, .tso6, .tsoECN])
    #expect(try granted(by: .all.subtracting([.tsoECN])) == [.checksum, .tso4, .tso6])
    #expect(try granted(by: .all.subtracting([.tso6])) == [.checksum, .tso4])
    #expect(try granted(by: .checksum) == .checksum)
    #expect(try granted(by: []) == [])
    let error = #expect(throws: SystemError.self) {
      _ = try OffloadFeatures.negotiate { _ in -EBADFD }
    }
    #expect(error == SystemError(code: EBADFD, call: .tunOffload))
  }

  @Test("without /dev/net/tun, or the right to make devices, the error says so")
  func explainsMissingMeans() async {
    await #expect(processExitsWith: .success) {
      func failure() -> TunDeviceError? {
        do throws(TunDeviceError) {
          _ = try TunDevice.open(
            name: "ferry0", namespace: nil, queues: 1, offload: true, keep: false)
          return nil
        } catch {
          return error
        }
      }
      mkdir("/tmp/ferry-empty-root", 0o700)
      let isExplained = chroot("/tmp/ferry-empty-root") == 0 && failure() == .missingDeviceNode
      // Not by `exit`: a sanitizer would look for /proc then, which is out of sight.
      _exit(isExplained ? 0 : 1)
    }
    rmdir("/tmp/ferry-empty-root")
    await #expect(processExitsWith: .success) {
      try Privileges.drop(toUser: "nobody", keeping: [])
      let error = #expect(throws: TunDeviceError.self) {
        _ = try TunDevice.open(
          name: "ferry0", namespace: nil, queues: 1, offload: true, keep: false)
      }
      #expect(error == .notPermitted)
    }
  }

  @Test("offload can be withdrawn from a running device") func withdrawsOffload() throws {
    let namespace = try TestNamespace()
    var device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 1, offload: true, keep: false)
    let queue = device.takeQueue(0)
    try queue.setOffload([])
    try queue.setOffload([.checksum, .tso4])
    let error = #expect(throws: SystemError.self) {
      try queue.setOffload(OffloadFeatures(rawValue: 1 << 20))
    }
    #expect(error?.isInvalid == true)
  }

  @Test("a write while the link is down fails, and does not end the queue") func failsWhileDown()
    throws
  {
    let namespace = try TestNamespace()
    var device = try TunDevice.open(
      name: "ferry0", namespace: namespace.path, queues: 1, offload: true, keep: false)
    let queue = device.takeQueue(0)
    #expect(write(echoRequest(), on: queue).failure?.isInputOutput == true)
    #expect(nextPacket(queue, waiting: false) { _ in true } == nil)
  }

  @Test("bad names and missing namespaces are told before anything is made")
  func refusesBadInput() throws {
    for name in ["", "sixteen-octets-x", "a b", "a/b", "ferry%d", ".", "..", "a:b"] {
      let error = #expect(throws: TunDeviceError.self) {
        _ = try TunDevice.open(name: name, namespace: nil, queues: 1, offload: true, keep: false)
      }
      #expect(error == .badName(name))
    }
    let error = #expect(throws: TunDeviceError.self) {
      _ = try TunDevice.open(
        name: "ferry0", namespace: "/run/netns/no-such", queues: 1, offload: true, keep: false)
    }
    #expect(error == .namespace(.missing(path: "/run/netns/no-such")))
    let many = #expect(throws: TunDeviceError.self) {
      _ = try TunDevice.open(
        name: "ferry0", namespace: nil, queues: 257, offload: true, keep: false)
    }
    #expect(many == .tooManyQueues(257))
  }

  // MARK: other tests' children

  // Tests beside this one start processes, which hold copies of every descriptor between fork and
  // exec: what is closed here can stay open a moment longer. The daemon starts none.

  /// Opens a device that nobody should hold any more.
  private func reopen(_ path: String, queues: Int, keep: Bool) throws -> TunDevice {
    for _ in 0..<6_000 {
      do throws(TunDeviceError) {
        return try TunDevice.open(
          name: "ferry0", namespace: path, queues: queues, offload: true, keep: keep)
      } catch {
        guard case .nameBusy = error else { throw error }
        usleep(10_000)
      }
    }
    throw TestFailure(reason: "the device stays busy")
  }

  private func isGone(_ name: String, _ session: inout NetlinkSession) throws -> Bool {
    for _ in 0..<6_000 {
      if try session.link(named: name) == nil { return true }
      usleep(10_000)
    }
    return false
  }

  // MARK: packets

  private func configure(_ path: String, _ index: Int) throws {
    var session = try NetlinkSession(namespace: path)
    try session.disableLinkLocalAddress(index)
    try session.setLink(index, up: true, mtu: 1500, queueLength: 1000)
    try session.addAddress(IPAddress(v4: 0x0a4d_0001), length: 120, interfaceIndex: index)
  }

  /// 10.77.0.2 asks 10.77.0.1 for an echo of four octets; virtio-net header in front.
  private func echoRequest() -> [UInt8] {
    func checksum(_ octets: [UInt8]) -> [UInt8] {
      var sum = 0
      for index in stride(from: 0, to: octets.count, by: 2) {
        sum += Int(octets[index]) << 8 | Int(octets[index + 1])
      }
      sum = (sum & 0xffff) + (sum >> 16)
      return [UInt8(~sum >> 8 & 0xff), UInt8(~sum & 0xff)]
    }
    var ip: [UInt8] = [0x45, 0, 0, 32, 0, 1, 0, 0, 64, 1, 0, 0, 10, 77, 0, 2, 10, 77, 0, 1]
    ip.replaceSubrange(10..<12, with: checksum(ip))
    var icmp: [UInt8] = [8, 0, 0, 0, 0, 7, 0, 1, 0xab, 0xcd, 0xef, 0x01]
    icmp.replaceSubrange(2..<4, with: checksum(icmp))
    return [UInt8](repeating: 0, count: 10) + ip + icmp
  }

  /// Writes in two slices.
  private func write(_ octets: [UInt8], on queue: borrowing TunQueue) -> Transfer {
    var octets = octets
    return octets.withUnsafeMutableBytes { memory in
      let slices = [memory.slice(0..<10), memory.slice(10..<memory.count)]
      return slices.withUnsafeBufferPointer { queue.write($0) }
    }
  }

  /// The next packet that fits, header included; nil when none comes.
  private func nextPacket(
    _ queue: borrowing TunQueue, waiting: Bool = true, where fits: (ArraySlice<UInt8>) -> Bool
  ) -> [UInt8]? {
    var memory = [UInt8](repeating: 0, count: TunQueue.packetOctetsMax)
    for _ in 0..<(waiting ? 12_000 : 1) {
      if case .octets(let count) = memory.withUnsafeMutableBytes({ queue.read(into: $0) }) {
        let packet = Array(memory.prefix(count))
        // Offsets of the IP header, whatever is in front.
        if fits(Array(packet.dropFirst(10))[...]) { return packet }
      } else if waiting {
        usleep(5_000)
      }
    }
    return nil
  }
}
