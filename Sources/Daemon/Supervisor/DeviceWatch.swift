// The kernel's announcements about the device, taken by a thread that waits for nothing else.
//
// What it hears is told as a stream of "look again", of which one at most waits to be taken. Nothing
// is announced on an idle host, and then nothing wakes up here.

import Kernel
import Logging
import Netlink

final class DeviceWatch: Sendable {
  /// Ends with the watch.
  let changes: AsyncStream<Void>

  private let continuation: AsyncStream<Void>.Continuation
  private let ending: EventCounter
  private let log: Logger

  private static let announced: UInt64 = 0
  private static let ended: UInt64 = 1

  init(_ link: consuming LinkWatch, log: Logger) throws(SystemError) {
    (changes, continuation) = AsyncStream.makeStream(
      of: Void.self, bufferingPolicy: .bufferingNewest(1))
    ending = try EventCounter()
    self.log = log
    // The thread keeps the watch alive, and is let go of: it ends when it is told to.
    _ = try Thread.spawn(name: "ferry-watch", link) { [self] link in
      listen(link)
      continuation.finish()
    }
  }

  func end() { ending.signal() }

  private func listen(_ link: borrowing LinkWatch) {
    do {
      var epoll = try Epoll()
      try epoll.add(link.number, token: Self.announced, interests: .readable)
      try epoll.add(ending.number, token: Self.ended, interests: .readable)
      while true {
        let count = try epoll.wait(until: nil, now: MonotonicClock.now())
        for index in 0..<count where epoll.event(index).token == Self.ended { return }
        if count > 0, try link.drain() { continuation.yield() }
      }
    } catch {
      log.warning(
        "the device is not watched any more: what it loses comes back with a reload only",
        metadata: ["error": "\(error)"])
    }
  }
}
