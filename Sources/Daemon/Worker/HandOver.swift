import Kernel
import Stack
import Synchronization
import Wire

// Packets from one worker to another: those that the kernel gave to the wrong one.
//
// These are few: fragments, ICMP errors, odd headers; and where the kernel steers its own way, what it
// brings to another queue than a flow's packets before. A packet is copied once, into memory of the
// receiver's that is bounded in octets and packets: what finds no room is dropped by its sender, who
// counts it. Two such memories take turns: one is filled by the others under a lock, the other is read by
// its worker, which takes the full one in exchange. Nothing here is touched for a packet that came right:
// the receiver looks when it is woken, and is woken once for what came until it looks.

/// What waits for one worker; the others put, it takes.
package final class HandOver: Sendable {
  /// Packets and their octets that wait at most. A worker reads 256 packets in a turn.
  package static let packetsMax = 256
  package static let octetsMax = 1 << 20

  /// Frames one behind the other, each from a border of 64 octets on. Plain pointers, reached under the
  /// lock or by the one reader.
  fileprivate struct Memory: ~Copyable, @unchecked Sendable {
    let octets: UnsafeMutableRawPointer
    let frames: UnsafeMutablePointer<Frame>
    var count = 0
    var used = 0

    init() {
      // Not touched before it is needed: with steering, it seldom is.
      octets = .allocate(byteCount: HandOver.octetsMax, alignment: 4096)
      frames = .allocate(capacity: HandOver.packetsMax)
    }

    deinit {
      octets.deallocate()
      frames.deallocate()
    }

    mutating func put(_ stray: Stray) -> Bool {
      guard count < HandOver.packetsMax, stray.frame.count <= HandOver.octetsMax - used,
        let base = stray.frame.baseAddress
      else { return false }
      (octets + used).copyMemory(from: base, byteCount: stray.frame.count)
      (frames + count).initialize(
        to: Frame(start: used, octets: stray.frame.count, wasFragmented: stray.wasFragmented))
      count += 1
      used = min((used + stray.frame.count + 63) & ~63, HandOver.octetsMax)
      return true
    }
  }

  fileprivate struct Frame: BitwiseCopyable {
    var start: Int
    var octets: Int
    var wasFragmented: Bool
  }

  fileprivate struct Shared: ~Copyable, Sendable {
    var filling = Memory()
    var isClosed = false
  }

  fileprivate let shared = Mutex(Shared())
  fileprivate let wakeUp: EventCounter

  package init() throws(SystemError) { wakeUp = try EventCounter() }

  /// For the worker's epoll.
  package var number: CInt { wakeUp.number }

  /// Copies a frame.
  /// - Returns: false when there is no room, or the worker has ended.
  package func put(_ stray: Stray) -> Bool {
    let (isPut, isFirst) = shared.withLock { shared in
      guard !shared.isClosed else { return (false, false) }
      let isFirst = shared.filling.count == 0
      return (shared.filling.put(stray), isFirst)
    }
    if isPut, isFirst { wakeUp.signal() }
    return isPut
  }

  /// The worker has ended: nothing is taken any more.
  package func close() { shared.withLock { $0.isClosed = true } }

  /// The worker's own end. Not `Sendable`: one thread reads.
  package struct Reader: ~Copyable {
    private let handOver: HandOver
    private var taken = Memory()
    private var position = 0

    package init(_ handOver: HandOver) { self.handOver = handOver }

    package var number: CInt { handOver.number }

    /// Takes what waits, and gives back what was taken before.
    package mutating func take() {
      handOver.wakeUp.drain()
      taken.count = 0
      taken.used = 0
      position = 0
      handOver.shared.withLock { swap(&$0.filling, &taken) }
    }

    /// The next frame taken; stays where it is until the next `take`.
    package mutating func next() -> (frame: UnsafeRawBufferPointer, wasFragmented: Bool)? {
      guard position < taken.count else { return nil }
      let frame = taken.frames[position]
      position += 1
      return (
        UnsafeRawBufferPointer(start: taken.octets + frame.start, count: frame.octets),
        frame.wasFragmented
      )
    }

    package func close() { handOver.close() }
  }
}
