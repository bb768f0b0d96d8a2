import Kernel
import TunDevice
import Wire

// Frames that the device did not take as they were: written again at once, as packets that ask nothing
// of it (`PlainPackets`), so that nothing of them is lost.
//
// Kernels differ in the super-packets that they take, and change their mind while they run: EINVAL and
// EIO come for what a driver beneath cannot do, ENOMEM and ENOBUFS for 64 KiB in one piece where there
// are only small ones. If the first plain packet fails too, it is not a matter of offload: the link is
// down, or there is no memory at all. Then the rest is not tried; what is lost is counted, and its
// endpoint sends it again when its timer says so.

/// What takes frames: the device, or what a test puts in its place.
package protocol FrameSink: ~Copyable {
  func write(_ gather: UnsafeBufferPointer<Slice>) -> Transfer
}

extension TunQueue: FrameSink {}
extension LentTunQueue: FrameSink {}

package struct RefusedFrames: ~Copyable {
  /// A device that refused so many frames of a kind, and took their packets, is asked for no more of it.
  package static let refusalsMax = 8

  /// What became of frames.
  package struct Counts: BitwiseCopyable, Sendable {
    /// Written as plain packets.
    package var rewritten: UInt64 = 0
    /// Those among them that the device did not understand: super-packets of datagrams, and all others.
    package var refusedRuns = 0
    package var refused = 0

    package static func + (one: Counts, other: Counts) -> Counts {
      Counts(
        rewritten: one.rewritten + other.rewritten,
        refusedRuns: one.refusedRuns + other.refusedRuns, refused: one.refused + other.refused)
    }
  }

  package private(set) var counts = Counts()
  private let headers: UnsafeMutableRawPointer

  package init() {
    headers = .allocate(byteCount: PlainPackets.headerOctetsMax, alignment: 16)
  }

  deinit { headers.deallocate() }

  /// Writes a frame's plain packets.
  ///
  /// - Parameter error: what the device said of the frame.
  /// - Returns: packets that it took, and those that it did not; a frame of which no others can be made
  ///   is one.
  package mutating func writeAgain(
    _ frame: UnsafeBufferPointer<Slice>, after error: SystemError,
    to sink: borrowing some FrameSink & ~Copyable
  ) -> (written: Int, lost: Int) {
    guard var packets = PlainPackets(of: frame) else { return (0, 1) }
    let total = packets.count
    let gather = UnsafeMutableBufferPointer<Slice>.allocate(capacity: frame.count + 1)
    defer { gather.deallocate() }
    var written = 0
    var lost = 0
    while let count = packets.next(headers: headers, into: gather) {
      if case .octets = sink.write(UnsafeBufferPointer(rebasing: gather[..<count])) {
        written += 1
      } else {
        lost += 1
        if written == 0 { return (0, total) }
      }
    }
    counts.rewritten += 1
    if error.isInvalid || error.isInputOutput {
      if packets.areDatagrams { counts.refusedRuns += 1 } else { counts.refused += 1 }
    }
    return (written, lost)
  }
}
