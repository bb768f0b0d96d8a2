// Addresses as the socket calls want them.

import Glibc
import Wire

/// Calls `body` with the sockaddr of an address and port: AF_INET for IPv4, AF_INET6 otherwise.
package func withKernelAddress<Result>(
  _ address: IPAddress, port: UInt16,
  _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  if address.isIPv4 {
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr.s_addr = address.v4.bigEndian
    return withUnsafeBytes(of: &name) { octets in
      octets.withMemoryRebound(to: sockaddr.self) { rebound in
        body(rebound.baseAddress.unsafelyUnwrapped, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }
  var name = sockaddr_in6()
  name.sin6_family = sa_family_t(AF_INET6)
  name.sin6_port = port.bigEndian
  withUnsafeMutableBytes(of: &name.sin6_addr) { octets in
    if let base = octets.baseAddress { address.write(to: base) }
  }
  return withUnsafeBytes(of: &name) { octets in
    octets.withMemoryRebound(to: sockaddr.self) { rebound in
      body(rebound.baseAddress.unsafelyUnwrapped, socklen_t(MemoryLayout<sockaddr_in6>.size))
    }
  }
}
