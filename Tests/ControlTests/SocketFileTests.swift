// The control socket's file, and addresses that cannot be had.

import Configuration
import Control
import Glibc
import Testing
import Wire

@Suite("Control socket: file") struct SocketFileTests {
  static func start(_ path: String) async throws -> ControlServer {
    try await ControlServer.start(
      ControlEndpoints(status: nil, control: path, owner: nil), source: { _ in },
      log: ServerTests.log)
  }

  /// The sentence that a start fails with.
  static func failure(_ endpoints: ControlEndpoints) async -> String? {
    do throws(ControlError) {
      let server = try await ControlServer.start(
        endpoints, source: { _ in }, log: ServerTests.log)
      await server.stop()
      return nil
    } catch {
      return error.description
    }
  }

  @Test("file and missing directory are made, private and looked into, and removed at the end")
  func made() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/run/control.sock"
    let server = try await Self.start(path)
    #expect(TemporaryDirectory.mode(path) == S_IFSOCK | 0o600)
    #expect(TemporaryDirectory.mode(directory.path + "/run") == S_IFDIR | 0o755)
    await server.stop()
    #expect(TemporaryDirectory.mode(directory.path + "/run") == nil)
    #expect(Client(path: path) == nil)
  }

  @Test("what is given to another owner is removed by a process that stays root") func owned()
    async throws
  {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/run/control.sock"
    let server = try await ControlServer.start(
      ControlEndpoints(status: nil, control: path, owner: FileOwner(user: 65534, group: 65534)),
      source: { _ in }, log: ServerTests.log)
    #expect(Client(path: path) != nil)
    await server.stop()
    #expect(TemporaryDirectory.mode(directory.path + "/run") == nil)
  }

  @Test("a directory that was made for a socket that cannot be made goes again") func abandoned()
    async throws
  {
    let directory = try TemporaryDirectory()
    let folder = directory.path + "/" + String(repeating: "x", count: 80)
    let path = folder + "/control.sock"
    let endpoints = ControlEndpoints(status: nil, control: path, owner: nil)
    #expect(await Self.failure(endpoints)?.contains("longer than the 107 octets") == true)
    #expect(TemporaryDirectory.mode(folder) == nil)
  }

  @Test("a directory that was there stays") func directoryStays() async throws {
    let directory = try TemporaryDirectory()
    let server = try await Self.start(directory.path + "/control.sock")
    await server.stop()
    #expect(TemporaryDirectory.mode(directory.path) != nil)
  }

  @Test("a socket that nobody listens on is replaced") func stale() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let left = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
    #expect(withUnixAddress(path) { bind(left, $0, $1) } == 0)
    close(left)
    #expect(TemporaryDirectory.mode(path) != nil)
    let server = try await Self.start(path)
    #expect(Client(path: path) != nil)
    await server.stop()
  }

  @Test("a daemon that answers there is left alone") func occupied() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let first = try await Self.start(path)
    let endpoints = ControlEndpoints(status: nil, control: path, owner: nil)
    #expect(await Self.failure(endpoints)?.hasPrefix("another daemon answers on \(path)") == true)
    #expect(Client(path: path) != nil)
    await first.stop()
  }

  @Test("a file that is no socket is left alone") func otherFile() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    close(creat(path, 0o600))
    let endpoints = ControlEndpoints(status: nil, control: path, owner: nil)
    #expect(await Self.failure(endpoints)?.contains("exists and is not a socket") == true)
    #expect(TemporaryDirectory.mode(path) == S_IFREG | 0o600)
    unlink(path)
  }

  @Test("a path too long for a socket, and one without its directory, are refused in words")
  func impossiblePaths() async throws {
    let directory = try TemporaryDirectory()
    let long = directory.path + "/" + String(repeating: "x", count: 100)
    let tooLong = await Self.failure(ControlEndpoints(status: nil, control: long, owner: nil))
    #expect(tooLong?.contains("longer than the 107 octets") == true)
    let deep = directory.path + "/a/b/control.sock"
    let missing = await Self.failure(ControlEndpoints(status: nil, control: deep, owner: nil))
    #expect(missing == "cannot listen on daemon.control \(deep): the directory does not exist")
  }

  @Test("a status address in use, or of no interface, is refused in words, and the rest closed")
  func impossibleAddresses() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let (listener, port) = try Self.listenOnLoopback()
    let loopback = try #require(IPAddress("127.0.0.1"))
    let used = ControlEndpoints(
      status: .init(address: loopback, port: port), control: path, owner: nil)
    #expect(
      await Self.failure(used)
        == "cannot listen on daemon.status 127.0.0.1:\(port): another program already uses it")
    close(listener)
    let nowhere = ControlEndpoints(
      status: .init(address: try #require(IPAddress("192.0.2.1")), port: 9), control: path,
      owner: nil)
    #expect(
      await Self.failure(nowhere)
        == "cannot listen on daemon.status 192.0.2.1:9: no interface of this machine has that"
        + " address")
    #expect(TemporaryDirectory.mode(path) == nil)
  }

  /// A listening socket at a port of the kernel's choice.
  private static func listenOnLoopback() throws -> (number: CInt, port: UInt16) {
    let number = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(number, $0, size) == 0 && listen(number, 1) == 0 && getsockname(number, $0, &size) == 0
      }
    }
    try #require(isListening)
    return (number, UInt16(bigEndian: address.sin_port))
  }
}
