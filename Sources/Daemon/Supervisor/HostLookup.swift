// Host names to addresses, off the data path.
//
// getaddrinfo waits for name servers as long as resolv.conf says; it gets a thread of its own and one
// name at a time. Whatever it says is bounded: an answer of many addresses is cut. Its order is kept:
// it is that of RFC 6724 §6, by which what this host can reach comes first.

import Glibc
import Kernel
import Wire

actor HostLookup {
  /// Addresses of a name that are used.
  static let addressCountMax = 32

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  init() throws(SystemError) { executor = try ThreadExecutor(name: "ferry-names") }

  enum Outcome: Sendable, Equatable {
    /// At least one address, each once, of both families, the best to dial first.
    case addresses([IPAddress])
    /// What the resolver said.
    case failed(String)
  }

  func addresses(of name: String) -> Outcome {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    // One entry an address instead of one for every socket type.
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(name, nil, &hints, &list)
    guard code == 0 else { return .failed(String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(list) }
    var found: [IPAddress] = []
    var entry = list
    while let current = entry, found.count < Self.addressCountMax {
      if let address = Self.address(current.pointee), !found.contains(address) {
        found.append(address)
      }
      entry = current.pointee.ai_next
    }
    guard !found.isEmpty else { return .failed("the name has no address") }
    return .addresses(found)
  }

  private static func address(_ entry: addrinfo) -> IPAddress? {
    guard let name = entry.ai_addr else { return nil }
    let raw = UnsafeRawPointer(name)
    switch entry.ai_family {
    case AF_INET where Int(entry.ai_addrlen) >= MemoryLayout<sockaddr_in>.size:
      let value = raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr
      return IPAddress(v4: UInt32(bigEndian: value))
    case AF_INET6 where Int(entry.ai_addrlen) >= MemoryLayout<sockaddr_in6>.size:
      guard let offset = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr) else { return nil }
      let high = raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      let low = raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
      return IPAddress(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
    default: return nil
    }
  }
}
