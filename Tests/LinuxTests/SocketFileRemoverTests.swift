// A socket's file that goes although root was given up.

import Glibc
import Kernel
import Testing

@Suite("Removing a socket's file") struct SocketFileRemoverTests {
  /// A directory that only its owner may write to, with a socket's file in it.
  private final class Place {
    let directory: String
    var path: String { directory + "/socket" }

    init() throws {
      var template = Array("/tmp/portferry-XXXXXX".utf8CString)
      try #require(mkdtemp(&template) != nil)
      directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
      chmod(directory, 0o755)
      try bindSocket()
    }

    deinit {
      unlink(path)
      rmdir(directory)
    }

    func bindSocket() throws {
      let number = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
      try #require(number >= 0)
      let owner = Descriptor(adopting: number)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      let result = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(owner.number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      try #require(result == 0)
    }

    func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
  }

  @Test("file and directory go at a word") func removes() throws {
    let place = try Place()
    let remover = try SocketFileRemover(path: place.path, directory: place.directory)
    #expect(place.exists(place.path))
    remover.remove()
    #expect(!place.exists(place.path) && !place.exists(place.directory))
  }

  @Test("they go for one who may not remove them any more") func removesWithoutRoot() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let remover = try SocketFileRemover(path: place.path, directory: nil)
      try Privileges.drop(toUser: "nobody", keeping: [])
      #expect(unlink(place.path) != 0)
      remover.remove()
      #expect(!place.exists(place.path) && place.exists(place.directory))
    }
  }

  @Test("without a word, and when another took the place, the file stays") func leaves() throws {
    let place = try Place()
    do { _ = try SocketFileRemover(path: place.path, directory: place.directory) }
    #expect(place.exists(place.path))
    let remover = try SocketFileRemover(path: place.path, directory: place.directory)
    #expect(rename(place.path, place.directory + "/before") == 0)
    try place.bindSocket()
    remover.remove()
    #expect(place.exists(place.path) && place.exists(place.directory))
    unlink(place.directory + "/before")
  }

  @Test("a file that does not exist has no remover") func missing() {
    let error = #expect(throws: SystemError.self) {
      _ = try SocketFileRemover(path: "/nonexistent/socket", directory: nil)
    }
    #expect(error?.isMissing == true)
  }
}
