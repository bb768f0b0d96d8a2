// Host names to addresses, off the data path.
//
// getaddrinfo waits for name servers as long as resolv.conf says; it gets a thread of its own and one
// name at a time. Whatever it says is bounded and sorted before use: an answer of many addresses is
// cut, and the order of a round-robin name server is no change.

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
    /// At least one address, both families, sorted.
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
    var found: Set<IPAddress> = []
    var entry = list
    while let current = entry, found.count < Self.addressCountMax {
      if let address = Self.address(current.pointee) { found.insert(address) }
      entry = current.pointee.ai_next
    }
    guard !found.isEmpty else { return .failed("the name has no address") }
    return .addresses(found.sorted { ($0.high, $0.low) < ($1.high, $1.low) })
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
