// The worker's mailbox: its bound, its order, and that no wake-up is lost or made for nothing.

import Glibc
import Kernel
import Primitives
import Synchronization
import Testing
import Wire
import Worker

@Suite("Mailbox", .timeLimit(.minutes(30))) struct MailboxTests {
  /// Whether the mailbox asks to be read, within so many milliseconds.
  static func isReadable(_ mailbox: Mailbox, within milliseconds: Int = 0) throws -> Bool {
    var epoll = try Epoll()
    try epoll.add(mailbox.number, token: 7, interests: .readable)
    let now = MonotonicClock.now()
    let count = try epoll.wait(until: now + .milliseconds(milliseconds), now: now)
    guard count == 1 else { return false }
    let event = epoll.event(0)
    return event.token == 7 && event.readiness.contains(.readable)
  }

  /// The numbers that messages made by `message(_:)` carry.
  static func numbers(_ messages: [WorkerMessage]) -> [Int] {
    messages.compactMap { message in
      guard case .mtu(let number) = message else { return nil }
      return number
    }
  }

  @Test("an empty mailbox wakes nobody and has nothing") func empty() throws {
    let mailbox = try Mailbox()
    #expect(try !Self.isReadable(mailbox))
    #expect(mailbox.take().isEmpty)
    #expect(try !Self.isReadable(mailbox))
  }

  @Test("messages come out once, in their order, and then it sleeps again") func order() throws {
    let mailbox = try Mailbox()
    for number in 1...5 { #expect(mailbox.post(.mtu(number))) }
    #expect(try Self.isReadable(mailbox))
    #expect(Self.numbers(mailbox.take()) == [1, 2, 3, 4, 5])
    #expect(try !Self.isReadable(mailbox))
    #expect(mailbox.take().isEmpty)
  }

  @Test("who asks whether his messages were reached hears of it when nobody reads any more")
  func reached() throws {
    let mailbox = try Mailbox()
    let told = Mutex(0)
    mailbox.post(.reached { told.withLock { $0 += 1 } })
    #expect(told.withLock(\.self) == 0)
    mailbox.close()
    #expect(told.withLock(\.self) == 1)
    mailbox.post(.reached { told.withLock { $0 += 1 } })
    #expect(told.withLock(\.self) == 2)
  }

  @Test("every kind of message keeps what it says") func kinds() throws {
    let mailbox = try Mailbox()
    let address = try #require(IPAddress("192.0.2.1"))
    mailbox.post(.resolved(name: "db.example", addresses: [address]))
    mailbox.post(.stop)
    let messages = mailbox.take()
    guard messages.count == 2, case .resolved("db.example", [address]) = messages[0],
      case .stop = messages[1]
    else {
      Issue.record("\(messages)")
      return
    }
  }

  @Test("beyond its bound a message is refused, those before it stay, and taking makes room")
  func bound() throws {
    let mailbox = try Mailbox()
    for number in 0..<Mailbox.messagesMax { #expect(mailbox.post(.mtu(number))) }
    #expect(!mailbox.post(.mtu(-1)))
    #expect(mailbox.post(.resolved(name: "db.example", addresses: [])))
    #expect(mailbox.post(.stop))
    let messages = mailbox.take()
    #expect(Self.numbers(messages) == Array(0..<Mailbox.messagesMax))
    guard case .stop? = messages.last, case .resolved? = messages.dropLast().last else {
      Issue.record("what must arrive did not pass the bound")
      return
    }
    #expect(mailbox.post(.mtu(-2)))
    #expect(try Self.isReadable(mailbox))
    #expect(Self.numbers(mailbox.take()) == [-2])
  }

  @Test("who asks for a snapshot is answered although the mailbox is full or the worker has ended")
  func refusedSnapshots() throws {
    let refusals = Refusals()
    let count: @Sendable (WorkerSnapshot?) -> Void = { if $0 == nil { refusals.add() } }
    let mailbox = try Mailbox()
    #expect(mailbox.post(.snapshot(count)))
    mailbox.close()
    #expect(!mailbox.post(.snapshot(count)))
    #expect(!mailbox.post(.stop))
    #expect(mailbox.take().isEmpty)
    #expect(refusals.count == 2)
    let full = try Mailbox()
    for number in 0..<Mailbox.messagesMax { full.post(.mtu(number)) }
    #expect(!full.post(.snapshot(count)))
    #expect(refusals.count == 3)
  }

  @Test("a message posted while the worker waits ends the wait") func wakes() throws {
    let mailbox = try Mailbox()
    let thread = try Thread.spawn(name: "sender") {
      usleep(20_000)
      mailbox.post(.mtu(1))
    }
    #expect(try Self.isReadable(mailbox, within: 20_000))
    #expect(Self.numbers(mailbox.take()) == [1])
    thread.join()
  }

  @Test("what several threads post arrives whole, each thread's messages in its order")
  func concurrent() throws {
    let mailbox = try Mailbox()
    let each = 800
    for sender in 0..<4 {
      _ = try Thread.spawn(name: "sender") {
        for number in 0..<each { mailbox.post(.mtu(sender * each + number)) }
      }
    }
    var received: [Int] = []
    // A reader that only looks when woken: a lost wake-up ends the loop early.
    while received.count < 4 * each, try Self.isReadable(mailbox, within: 10_000) {
      received += Self.numbers(mailbox.take())
    }
    #expect(received.count == 4 * each)
    for sender in 0..<4 {
      let own = received.filter { $0 / each == sender }
      #expect(own == Array(sender * each..<(sender + 1) * each))
    }
  }
}

private final class Refusals: Sendable {
  private let seen = Atomic(0)
  var count: Int { seen.load(ordering: .relaxed) }
  func add() { seen.add(1, ordering: .relaxed) }
}
