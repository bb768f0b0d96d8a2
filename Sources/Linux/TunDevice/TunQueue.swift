// One queue of the device: what a worker reads packets from and writes packets to.
//
// Every packet, in either direction, has a virtio-net header of ten octets in front. A read returns one
// packet, a write sends one; both can be super-packets of up to 64 KiB. With several queues the kernel
// spreads flows over them.

import CLinux
import Kernel
import Wire

/// A queue; closed at its owner's end. The device goes with its last queue, unless it is kept.
package struct TunQueue: ~Copyable, Sendable {
  /// Octets that a read needs room for: the virtio-net header and the largest IP packet.
  package static let packetOctetsMax = 10 + 65535

  private let descriptor: Descriptor
  /// What packets read here may ask of us, as of the opening.
  package let features: OffloadFeatures

  init(descriptor: consuming Descriptor, features: OffloadFeatures) {
    self.descriptor = descriptor
    self.features = features
  }

  /// For `Epoll`.
  package var number: CInt { descriptor.number }

  /// Reads one packet. It is cut silently when `memory` is smaller: offer `packetOctetsMax`.
  package func read(into memory: UnsafeMutableRawBufferPointer) -> Transfer {
    descriptor.read(into: memory)
  }

  /// Writes one packet. Fails with EIO while the link is down, and with EINVAL where the kernel does
  /// not take what the virtio-net header says.
  package func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer { descriptor.write(gather) }

  /// Changes what packets read may ask of us, for the whole device; packets that wait stay as they are.
  package func setOffload(_ features: OffloadFeatures) throws(SystemError) {
    _ = try SystemError.check(
      clinux_tun_set_offload(descriptor.number, features.rawValue), .tunOffload)
  }

  /// The queue for another thread's writes, which has ended before this one goes.
  package func lend() -> LentTunQueue { LentTunQueue(number: descriptor.number) }
}

/// A queue that another thread owns.
package struct LentTunQueue: BitwiseCopyable, Sendable {
  fileprivate let number: CInt

  /// See `TunQueue.write`.
  package func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer {
    Descriptor.write(gather, to: number)
  }
}
