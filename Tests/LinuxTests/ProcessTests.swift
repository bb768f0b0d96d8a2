// What the daemon asks of its process: threads, signals, limits, privileges, notifications.

import Glibc
import Kernel
import Netlink
import Primitives
import Testing
import TunDevice
import Wire

@Suite("Service notification (sd_notify)") struct ServiceNotificationTests {
  /// A service manager's socket, and what arrives there.
  private func listen(_ name: String) throws -> CInt {
    let number = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var octets = Array(name.utf8)
    if octets[0] == UInt8(ascii: "@") { octets[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: octets) }
    let length = socklen_t(2 + octets.count + (octets[0] == 0 ? 0 : 1))
    let result = withUnsafeBytes(of: &address) { memory in
      memory.withMemoryRebound(to: sockaddr.self) { bind(number, $0.baseAddress, length) }
    }
    try #require(result == 0)
    return number
  }

  private func arrived(_ number: CInt) -> String {
    var octets = [UInt8](repeating: 0, count: 4096)
    let count = recv(number, &octets, octets.count, CInt(MSG_DONTWAIT))
    return String(decoding: octets.prefix(max(0, count)), as: UTF8.self)
  }

  @Test(
    "every message arrives, by path and by abstract name",
    arguments: ["/tmp/ferry-notify-\(getpid())", "@ferry/notify/\(getpid())"])
  func notifies(_ name: String) throws {
    let manager = try listen(name)
    defer {
      close(manager)
      unlink(name)
    }
    let service = try #require(ServiceNotification { $0 == "NOTIFY_SOCKET" ? name : nil })
    #expect(service.watchdogInterval == nil)
    try service.ready(status: "2 rules")
    #expect(arrived(manager) == "READY=1\nSTATUS=2 rules")
    try service.reloading(at: MonotonicInstant(nanoseconds: 1_234_567_890))
    #expect(arrived(manager) == "RELOADING=1\nMONOTONIC_USEC=1234567")
    try service.watchdog()
    #expect(arrived(manager) == "WATCHDOG=1")
    try service.stopping()
    #expect(arrived(manager) == "STOPPING=1")
  }

  @Test("without a manager there is nothing to tell") func isAbsent() {
    #expect(ServiceNotification { _ in nil } == nil)
    #expect(ServiceNotification(socket: "vsock:2:1234") == nil)
    #expect(ServiceNotification(socket: "") == nil)
    #expect(ServiceNotification(socket: "/" + String(repeating: "x", count: 200)) == nil)
  }

  @Test("a manager that is gone is an error, not a stop") func survivesLoss() throws {
    let service = try #require(ServiceNotification(socket: "/nonexistent/notify"))
    let error = #expect(throws: SystemError.self) { try service.ready(status: "") }
    #expect(error?.isMissing == true)
  }

  @Test("the watchdog counts for this process only") func readsWatchdog() {
    func interval(_ pid: String?) -> Interval? {
      ServiceNotification { name in
        switch name {
        case "NOTIFY_SOCKET": "@x"
        case "WATCHDOG_USEC": "30000000"
        case "WATCHDOG_PID": pid
        default: nil
        }
      }?.watchdogInterval
    }
    #expect(interval("\(getpid())") == .seconds(30))
    #expect(interval(nil) == .seconds(30))
    #expect(interval("1") == nil)
    #expect(interval("x") == nil)
  }
}

@Suite("The process's standing") struct ProcessTests {
  @Test("the bound on open files rises and never sinks") func raisesOpenFiles() throws {
    let before = try ResourceLimits.raiseOpenFiles(to: 0)
    #expect(before > 0)
    #expect(try ResourceLimits.raiseOpenFiles(to: 10) == before)
    #expect(try before...(before + 16) ~= ResourceLimits.raiseOpenFiles(to: before + 16))
    // Far more than any host allows is as much as this one does.
    let most = try ResourceLimits.raiseOpenFiles(to: Int(Int32.max))
    #expect(most >= before && most < Int(Int32.max))
  }

  @Test("entropy differs from call to call") func drawsEntropy() throws {
    #expect(try Entropy.word() != Entropy.word())
  }

  @Test("an unknown user is named") func namesUnknownUser() {
    let error = #expect(throws: PrivilegesError.self) {
      try Privileges.drop(toUser: "no-such-user", keeping: [])
    }
    #expect(error == .unknownUser("no-such-user"))
    #expect(Privileges.isRoot)
  }

  @Test("privileges given up are gone for good, those kept still work") func dropsPrivileges() async
  {
    await #expect(processExitsWith: .success) {
      let namespace = try NetworkNamespace.makeAnonymous()
      let path = "/proc/self/fd/\(namespace.number)"
      let device = try TunDevice.open(
        name: "ferry0", namespace: path, queues: 1, offload: true, keep: false)
      let index = device.interfaceIndex
      var session = try NetlinkSession(namespace: path)
      try Privileges.drop(toUser: "nobody", keeping: [.administerNetwork])
      #expect(!Privileges.isRoot)
      #expect(getuid() != 0 && getgid() != 0 && getgroups(0, nil) == 0)
      #expect(setuid(0) != 0)
      try session.setLink(index, up: true)
      try session.addAddress(IPAddress(v4: 0x0a4d_0001), length: 120, interfaceIndex: index)
      var status = [UInt8](repeating: 0, count: 8192)
      let file = try Descriptor.open("/proc/thread-self/status", flags: O_RDONLY)
      guard case .octets(let count) = status.withUnsafeMutableBytes({ file.read(into: $0) }) else {
        Issue.record("status")
        return
      }
      let lines = String(decoding: status.prefix(count), as: UTF8.self).split(separator: "\n")
      for name in ["CapPrm", "CapEff"] {
        #expect(lines.contains { $0 == "\(name):\t0000000000001000" })
      }
      #expect(lines.contains("CapInh:\t0000000000000000"))
      #expect(lines.contains("NoNewPrivs:\t1"))
    }
  }
}

@Suite("Network namespaces") struct NetworkNamespaceTests {
  @Test("work happens inside, and the caller stays outside") func entersAndStays() throws {
    let namespace = try TestNamespace()
    func identity() -> UInt64 {
      var facts = stat()
      stat("/proc/thread-self/ns/net", &facts)
      return UInt64(facts.st_ino)
    }
    let outside = identity()
    let inside = try NetworkNamespace.run(in: namespace.path) { identity() }
    #expect(inside != outside)
    #expect(identity() == outside)
    #expect(try NetworkNamespace.run(in: nil) { identity() } == outside)
  }

  @Test("a missing path and a plain file are told apart") func explainsFailure() {
    let missing = #expect(throws: NamespaceError.self) {
      try NetworkNamespace.run(in: "/run/netns/no-such-namespace") {}
    }
    #expect(missing == .missing(path: "/run/netns/no-such-namespace"))
    let plain = #expect(throws: NamespaceError.self) {
      try NetworkNamespace.run(in: "/etc/hostname") {}
    }
    #expect(plain == .notANetworkNamespace(path: "/etc/hostname"))
    let other = #expect(throws: NamespaceError.self) {
      try NetworkNamespace.run(in: "/proc/self/ns/mnt") {}
    }
    #expect(other == .notANetworkNamespace(path: "/proc/self/ns/mnt"))
  }
}

@Suite("Resident memory") struct ResidentMemoryTests {
  /// Pages of files that are mapped and resident (proc(5), statm).
  private func filePages() throws -> Int {
    var text = [UInt8](repeating: 0, count: 256)
    let file = try Descriptor.open("/proc/self/statm", flags: O_RDONLY)
    guard case .octets(let count) = text.withUnsafeMutableBytes({ file.read(into: $0) }) else {
      return 0
    }
    let words = text.prefix(count).split(separator: UInt8(ascii: " "))
    return words.count > 2 ? Int(String(decoding: words[2], as: UTF8.self)) ?? 0 : 0
  }

  @Test("code that is forgotten is not resident, and still runs") func forgetsCode() throws {
    let before = try filePages()
    #expect(ResidentMemory.forgetCode())
    #expect(try filePages() < before)
  }

  @Test("the C library is told to keep little of what is freed") func keepsLittle() {
    #expect(ResidentMemory.keepLittleFreed())
    let block = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 16)
    block.initializeMemory(as: UInt8.self, repeating: 1, count: 1 << 20)
    block.deallocate()
  }
}
