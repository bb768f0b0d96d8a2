// An open file of the kernel, owned.
//
// A descriptor is closed exactly once, by its owner's end. The number may be read (epoll, a shim
// of another target here), never stored beyond the owner. Transfers never wait: everything is
// opened non-blocking.

import Glibc
import Wire

/// A file descriptor that closes itself.
package struct Descriptor: ~Copyable, Sendable {
  /// The kernel's number, at least 0.
  package let number: CInt

  /// - Parameter number: an open descriptor that nobody else closes.
  package init(adopting number: CInt) {
    precondition(number >= 0, "descriptor")
    self.number = number
  }

  // An error of close(2) has no remedy: the number is free either way.
  deinit { _ = Glibc.close(number) }

  /// Gives up ownership without closing.
  package consuming func release() -> CInt {
    let number = self.number
    discard self
    return number
  }

  /// open(2), close-on-exec.
  ///
  /// - Parameter flags: O_RDONLY, O_RDWR | O_NONBLOCK, …
  package static func open(_ path: String, flags: CInt) throws(SystemError) -> Descriptor {
    let number = try SystemError.retrying(.open) { Int(Glibc.open(path, flags | O_CLOEXEC)) }
    return Descriptor(adopting: CInt(number))
  }
}

/// How a transfer of octets from or to the kernel went.
package enum Transfer: Sendable, BitwiseCopyable {
  /// So many octets were moved. A datagram may have none.
  case octets(Int)
  /// Nothing to read, or no room to write, for now.
  case wouldBlock
  /// The peer's sending half is closed and everything before was read.
  case endOfStream
  case failed(SystemError)

  /// The outcome of a call that returned `result`; reads `errno` when it is negative.
  @inline(__always)
  init(result: Int, _ call: SystemCall, zeroEnds: Bool = false) {
    if result > 0 {
      self = .octets(result)
    } else if result == 0 {
      self = zeroEnds ? .endOfStream : .octets(0)
    } else {
      let code = errno
      self = code == EAGAIN || code == EINTR ? .wouldBlock : .failed(.init(code: code, call: call))
    }
  }
}

extension Descriptor {
  /// Slices that one call takes (IOV_MAX).
  package static let slicesPerCallMax = 1024

  /// read(2) of one packet from a device: no end of stream.
  package func read(into memory: UnsafeMutableRawBufferPointer) -> Transfer {
    Transfer(result: Glibc.read(number, memory.baseAddress, memory.count), .read)
  }

  /// writev(2) of the whole gather list, at most `slicesPerCallMax` slices.
  package func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer {
    Self.write(gather, to: number)
  }

  /// The same, of a descriptor that is known by its number only.
  package static func write(_ gather: UnsafeBufferPointer<Slice>, to number: CInt) -> Transfer {
    precondition(gather.count <= Self.slicesPerCallMax, "slices of one write")
    guard let slices = gather.baseAddress else { return .octets(0) }
    let result = slices.withMemoryRebound(to: iovec.self, capacity: gather.count) {
      Glibc.writev(number, $0, CInt(gather.count))
    }
    return Transfer(result: result, .writev)
  }
}
