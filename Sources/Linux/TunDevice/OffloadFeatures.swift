// What the kernel may leave to us on packets that it hands over, and the order in which we ask for less.
//
// Asking for segmentation means: a read may return one super-packet of up to 64 KiB with a virtio-net
// header that says how to cut it. Kernels differ in what they know (UDP segmentation came with
// Linux 6.2), and refuse a mask that has one unknown bit.

import Glibc
import Kernel

/// TUN_F_* of linux/if_tun.h.
package struct OffloadFeatures: OptionSet, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Packets come with checksums unfinished.
  package static let checksum = OffloadFeatures(rawValue: 0x01)
  package static let tso4 = OffloadFeatures(rawValue: 0x02)
  package static let tso6 = OffloadFeatures(rawValue: 0x04)
  /// TCP segmentation of packets with ECN flags.
  package static let tsoECN = OffloadFeatures(rawValue: 0x08)
  /// UDP segmentation; the kernel takes both families or none.
  package static let uso4 = OffloadFeatures(rawValue: 0x20)
  package static let uso6 = OffloadFeatures(rawValue: 0x40)

  package static let all: OffloadFeatures = [.checksum, .tso4, .tso6, .tsoECN, .uso4, .uso6]

  /// What to try, best first; every kernel takes the last.
  private static let attempts: [OffloadFeatures] = [
    all,
    [.checksum, .tso4, .tso6, .tsoECN],
    [.checksum, .tso4, .tso6],
    [.checksum, .tso4],
    [.checksum],
    [],
  ]

  /// The most that the kernel takes.
  ///
  /// - Parameter set: asks the kernel; 0, or an error number negated, of which EINVAL means that a bit is
  ///   unknown to it.
  package static func negotiate(
    _ set: (OffloadFeatures) -> CInt
  ) throws(SystemError) -> OffloadFeatures {
    var answer: CInt = 0
    for features in attempts {
      answer = set(features)
      if answer >= 0 { return features }
      if answer != -EINVAL { break }
    }
    throw SystemError(code: -answer, call: .tunOffload)
  }
}

extension OffloadFeatures: CustomStringConvertible {
  /// "checksum tso4 tso6", or "none".
  package var description: String {
    let names: [(OffloadFeatures, String)] = [
      (.checksum, "checksum"), (.tso4, "tso4"), (.tso6, "tso6"), (.tsoECN, "tso-ecn"),
      (.uso4, "uso4"), (.uso6, "uso6"),
    ]
    let held = names.filter { contains($0.0) }.map(\.1)
    return held.isEmpty ? "none" : held.joined(separator: " ")
  }
}
