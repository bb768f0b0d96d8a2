// Epoll, event counters and clocks: deadlines are kept and never early.

import Glibc
import Kernel
import Primitives
import Testing
import Wire

@Suite("Waiting") struct WaitingTests {
  @Test("a deadline is met, never early") func meetsDeadline() throws {
    var epoll = try Epoll()
    for microseconds in [0, 50, 300, 2_500, 20_000] {
      let start = MonotonicClock.now()
      let deadline = start + .microseconds(microseconds)
      #expect(try epoll.wait(until: deadline, now: start) == 0)
      #expect(MonotonicClock.now() >= deadline)
    }
  }

  @Test("a deadline in the past looks and returns") func looksOnly() throws {
    var epoll = try Epoll()
    #expect(try epoll.wait(until: .zero, now: MonotonicClock.now()) == 0)
  }

  @Test("without a deadline, another thread's signal wakes") func isWoken() throws {
    var epoll = try Epoll()
    let shared = SharedCounter(counter: try EventCounter())
    try epoll.add(shared.counter.number, token: 0xffff_ffff_0000_0007, interests: .readable)
    let thread = try Thread.spawn(name: "signaller") {
      usleep(20_000)
      shared.counter.signal()
    }
    #expect(try epoll.wait(until: nil, now: MonotonicClock.now()) == 1)
    #expect(epoll.event(0).token == 0xffff_ffff_0000_0007)
    #expect(epoll.event(0).readiness == .readable)
    thread.join()
    shared.counter.signal()
    #expect(shared.counter.drain() == 2)
    #expect(shared.counter.drain() == 0)
    #expect(try epoll.wait(until: .zero, now: MonotonicClock.now()) == 0)
  }

  @Test("interests change and end; edges are told once") func followsInterests() throws {
    var epoll = try Epoll()
    let counter = try EventCounter()
    counter.signal()
    let now = MonotonicClock.now()
    try epoll.add(counter.number, token: 1, interests: [.readable, .edgeTriggered])
    #expect(try epoll.wait(until: .zero, now: now) == 1)
    #expect(try epoll.wait(until: .zero, now: now) == 0)
    try epoll.modify(counter.number, token: 2, interests: [.readable, .writable])
    #expect(try epoll.wait(until: .zero, now: now) == 1)
    #expect(epoll.event(0).token == 2)
    #expect(epoll.event(0).readiness == [.readable, .writable])
    try epoll.remove(counter.number)
    #expect(try epoll.wait(until: .zero, now: now) == 0)
    let error = #expect(throws: SystemError.self) { try epoll.remove(counter.number) }
    #expect(error?.isMissing == true)
  }
}

/// As two threads share one.
private final class SharedCounter: Sendable {
  let counter: EventCounter
  init(counter: consuming EventCounter) { self.counter = counter }
}

@Suite("Descriptors and threads") struct OwnershipTests {
  private func pipePair() throws -> (CInt, CInt) {
    var ends: [CInt] = [0, 0]
    try #require(pipe(&ends) == 0)
    return (ends[0], ends[1])
  }

  private func readOne(_ descriptor: borrowing Descriptor) -> Transfer {
    var octet: UInt8 = 0
    return withUnsafeMutableBytes(of: &octet) { descriptor.read(into: $0) }
  }

  @Test("a descriptor closes at its owner's end") func closes() throws {
    let (readEnd, writeEnd) = try pipePair()
    let reader = Descriptor(adopting: readEnd)
    do {
      let writer = Descriptor(adopting: writeEnd)
      var octet: UInt8 = 1
      let written = withUnsafeMutableBytes(of: &octet) { memory in
        withUnsafePointer(to: memory.slice(0..<1)) {
          writer.write(UnsafeBufferPointer(start: $0, count: 1))
        }
      }
      #expect(written.octetCount == 1)
    }
    #expect(readOne(reader).octetCount == 1)
    #expect(readOne(reader).octetCount == 0)
  }

  @Test("a released descriptor stays open") func releases() throws {
    let (readEnd, writeEnd) = try pipePair()
    let reader = Descriptor(adopting: readEnd)
    let number = Descriptor(adopting: writeEnd).release()
    #expect(write(number, "x", 1) == 1)
    #expect(readOne(reader).octetCount == 1)
    close(number)
  }

  @Test("opening what is missing says so") func failsToOpen() {
    let error = #expect(throws: SystemError.self) {
      _ = try Descriptor.open("/nonexistent", flags: O_RDONLY)
    }
    #expect(error?.isMissing == true)
    #expect(error?.description == "open: No such file or directory (ENOENT)")
  }

  @Test("a thread owns its context, has its name, and blocks every signal") func runsThread() throws
  {
    let (readEnd, writeEnd) = try pipePair()
    let reader = Descriptor(adopting: readEnd)
    try Thread.spawn(name: "ferry-worker-0123456789", Descriptor(adopting: writeEnd)) { writer in
      var mask = sigset_t()
      pthread_sigmask(SIG_BLOCK, nil, &mask)
      var name = [UInt8](repeating: 0, count: 32)
      if let comm = try? Descriptor.open("/proc/thread-self/comm", flags: O_RDONLY) {
        _ = name.withUnsafeMutableBytes { comm.read(into: $0) }
      }
      name[31] = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1 ? 1 : 0
      write(writer.number, name, 32)
    }.join()
    var name = [UInt8](repeating: 0, count: 32)
    #expect(name.withUnsafeMutableBytes { reader.read(into: $0) }.octetCount == 32)
    #expect(String(decoding: name.prefix { $0 != 10 }, as: UTF8.self) == "ferry-worker-01")
    #expect(name[31] == 1)
    // The context ended with the thread.
    #expect(readOne(reader).octetCount == 0)
  }
}
