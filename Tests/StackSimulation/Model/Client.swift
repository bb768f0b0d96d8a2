import Primitives

// What a run needs of a client, whatever its TCP is: `Peer`, a simple model with optional bad habits,
// or `Twin`, the engine under test itself in the active opener's place.

/// A rule was broken; what a run ends with.
package struct Violation: Error, CustomStringConvertible {
  package var description: String
  init(_ description: String) { self.description = description }
}

enum ClientPhase { case idle, opening, open, lingering, gone }
enum ClientOutcome { case none, finished, resetByStack, resetByUs, gaveUp, vanished, unreachable }

protocol Client: AnyObject {
  var addressing: Addressing { get }
  var uploadKey: Int { get }
  var downloadKey: Int { get }
  /// The sequence number of its SYN.
  var initial: UInt32 { get }
  var phase: ClientPhase { get }
  var outcome: ClientOutcome { get }
  /// Octets of the target that are in, in order.
  var downloaded: Int { get }
  var finishReceived: Bool { get }
  /// One behind the last offset that was ever sent: 0 is the SYN.
  var highest: Int { get }
  var timeouts: Int { get }
  /// Packets to send, and whether each is a super-packet (its segment size, else 0).
  var outbox: [(packet: [UInt8], segmentOctets: Int)] { get set }
  var nextDeadline: MonotonicInstant { get }
  /// What it still holds when all is over; nil: nothing.
  var leftover: String? { get }

  func open(at now: MonotonicInstant)
  func timer(at now: MonotonicInstant)
  /// Takes a packet whose checksums are right.
  /// - Parameters:
  ///   - said: octets of the target that the stack has read.
  ///   - saidAll: it has read the target's end.
  func receive(_ packet: [UInt8], said: Int, saidAll: Bool, at now: MonotonicInstant) throws
  /// An ICMP error says that there is no way.
  func unreachable()
}

extension Client {
  var isOver: Bool { phase == .gone || phase == .lingering }
}
