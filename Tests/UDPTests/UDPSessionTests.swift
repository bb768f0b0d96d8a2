// When a session ends: its rule's time-out after the last datagram, a quarter of it while the target
// has never answered.

import Primitives
import Testing
import UDP

@Suite("UDP session expiry") struct UDPSessionTests {
  static func at(_ seconds: Int) -> MonotonicInstant { .zero + .seconds(seconds) }
  static let timeout = Interval.seconds(180)

  @Test("unanswered, it ends after a quarter of the time-out") func unanswered() {
    let session = UDPSession(at: Self.at(1000))
    #expect(!session.isAnswered)
    #expect(session.expiry(timeout: Self.timeout) == Self.at(1045))
  }

  @Test("each datagram of the client begins the quarter anew") func clientSpeaks() {
    var session = UDPSession(at: Self.at(1000))
    session.clientSpoke(at: Self.at(1044))
    #expect(!session.isAnswered)
    #expect(session.expiry(timeout: Self.timeout) == Self.at(1089))
  }

  @Test("the first answer gives it the whole time-out, for good") func answered() {
    var session = UDPSession(at: Self.at(1000))
    session.targetSpoke(at: Self.at(1010))
    #expect(session.isAnswered)
    #expect(session.expiry(timeout: Self.timeout) == Self.at(1190))
    session.clientSpoke(at: Self.at(1100))
    #expect(session.isAnswered)
    #expect(session.expiry(timeout: Self.timeout) == Self.at(1280))
    session.targetSpoke(at: Self.at(1200))
    #expect(session.expiry(timeout: Self.timeout) == Self.at(1380))
  }

  @Test("a reload's new time-out counts from the last datagram") func newTimeout() {
    var session = UDPSession(at: Self.at(1000))
    session.targetSpoke(at: Self.at(1010))
    #expect(session.expiry(timeout: .seconds(5)) == Self.at(1015))
    #expect(session.expiry(timeout: .seconds(86_400)) == Self.at(87_410))
  }

  @Test(
    "a quarter is never nothing, so that a session outlives the turn that made it",
    arguments: [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (1_000_000_003, 250_000_000)]
      as [(Int64, UInt64)])
  func tiny(timeout: Int64, expected: UInt64) {
    let session = UDPSession(at: MonotonicInstant(nanoseconds: 77))
    #expect(
      session.expiry(timeout: Interval(nanoseconds: timeout)).nanoseconds == 77 + expected)
  }

  @Test("near the end of time the expiry is the end of time") func saturates() {
    var session = UDPSession(at: MonotonicInstant(nanoseconds: .max - 5))
    #expect(session.expiry(timeout: Self.timeout) == .distantFuture)
    session.targetSpoke(at: MonotonicInstant(nanoseconds: .max - 5))
    #expect(session.expiry(timeout: Interval(nanoseconds: .max)) == .distantFuture)
  }

  @Test("runs are sent until one is refused, then shorter datagrams' only, for ten minutes")
  func refusedRun() {
    var session = UDPSession(at: Self.at(0))
    #expect(session.runSegmentOctetsMax(at: Self.at(1)) == 65_535)
    session.runWasRefused(segmentOctets: 1400, at: Self.at(1))
    #expect(session.runSegmentOctetsMax(at: Self.at(2)) == 1399)
    session.runWasRefused(segmentOctets: 9000, at: Self.at(2))
    #expect(session.runSegmentOctetsMax(at: Self.at(2)) == 1399)
    session.runWasRefused(segmentOctets: 1, at: Self.at(3))
    #expect(session.runSegmentOctetsMax(at: Self.at(602)) == 0)
    #expect(session.runSegmentOctetsMax(at: Self.at(603)) == 65_535)
  }
}
