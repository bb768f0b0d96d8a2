import Primitives
import Wire

// Who holds a stack, the kernel sockets of its flows, and the device: a worker, or a test in its place.
//
// An owner does what no stack can, one call of the kernel at a time, and says how it went. When, for
// whom, how often and in which order is the turn's matter (StackOwner+Turn.swift), which is the same
// for all owners: tests exercise the passes of the daemon, not an imitation of them.
//
// All that the passes use of a stack is `@usableFromInline`, so that they are compiled anew for each
// owner, in its own module, without a call by way of the protocol (Tests/Benchmarks/assembly.py).

@usableFromInline package protocol StackOwner: ~Copyable {
  var stack: Stack { get set }
  /// The instant of this turn.
  var now: MonotonicInstant { get }
  /// Memory for what one call sends from or receives into.
  var slices: UnsafeMutableBufferPointer<Slice> { get }

  // MARK: The device

  /// Writes a frame to the device, or drops it and counts that.
  mutating func write(_ frame: UnsafeBufferPointer<Slice>)
  /// Takes the stack's frames (`Stack.lendFrames`) to write them while the turn goes on.
  /// - Returns: false: it does not, and they are to be written now.
  mutating func writeBehind() -> Bool
  /// Waits until everything that `writeBehind` took is written, or dropped and counted.
  mutating func finishWriting()
  /// Nothing refers any more to the memory that this turn's packets were read into.
  mutating func readBuffersAreFree()

  // MARK: Any socket

  /// Opens a socket to `Stack.target` of a flow, which has none.
  mutating func openSocket(_ slot: UInt32) -> SocketOpening
  /// Closes a flow's socket.
  /// - Parameter abort: the target sees a reset.
  mutating func closeSocket(_ slot: UInt32, abort: Bool)
  /// How a flow ended, told while its slot still is its own.
  mutating func ended(_ slot: UInt32, _ why: FlowEnd)

  // MARK: TCP

  /// Sends the slices' octets in order, as many as the socket takes.
  mutating func send(_ slot: UInt32, _ gather: UnsafeBufferPointer<Slice>) -> SocketTransfer
  /// Receives into the slices, first to last, as far as there is data.
  mutating func receive(
    _ slot: UInt32, into scatter: UnsafeBufferPointer<Slice>
  ) -> SocketTransfer
  /// Shuts the sending half of a flow's socket down.
  mutating func shutdownSocket(_ slot: UInt32)
  /// Raises the bound of a socket's send buffer so that it takes so much more than it holds.
  /// - Returns: false when it cannot be raised, or suffices.
  mutating func raiseSendBound(_ slot: UInt32, by octets: Int) -> Bool
  /// Sets the bound back if it was raised, and has the kernel tell of room in the socket, be there some
  /// already or not before later.
  /// - Returns: false when it will not tell.
  mutating func restoreSendBound(_ slot: UInt32) -> Bool

  // MARK: UDP

  /// The session's datagrams may leave in fragments.
  mutating func permitFragments(_ slot: UInt32)
  /// Takes datagrams to be sent, which lie one behind the other and stay until `sendDatagrams`; may send
  /// those that wait.
  /// - Parameters:
  ///   - segmentOctets: the length of each but the last; 0: it is one datagram.
  ///   - longest: the length of datagrams up to which the kernel may be given several as one.
  mutating func putDatagrams(
    _ slot: UInt32, _ slice: Slice, segmentOctets: Int, joinedUpTo longest: Int)
  /// Sends what waits; what cannot be sent is counted and gone.
  mutating func sendDatagrams(_ slot: UInt32)
  /// Receives at most so many messages, each a datagram or a run of them; those before are forgotten.
  mutating func receiveDatagrams(_ slot: UInt32, atMost messages: Int) -> DatagramTransfer
  /// A message of the newest `receiveDatagrams`; stays until the next.
  func message(_ index: Int) -> (slice: Slice, run: DatagramRun)
}

/// Of one that writes all frames at once.
extension StackOwner where Self: ~Copyable {
  @inlinable package mutating func writeBehind() -> Bool { false }
  @inlinable package mutating func finishWriting() {}
}

/// What became of a new socket.
@usableFromInline package enum SocketOpening: BitwiseCopyable {
  case connected
  /// Its first readiness tells how that went.
  case connecting
  case failed(TargetFailure)
}

/// How a send or receive of a stream went.
@usableFromInline package enum SocketTransfer: BitwiseCopyable, Equatable {
  /// So many were moved, at least one.
  case octets(Int)
  case wouldBlock
  /// The other side has finished, and everything that it said was read.
  case endOfStream
  /// For good.
  /// - Parameter lost: the target fell silent, rather than reset the connection.
  case failed(lost: Bool)
}

/// How a receive of datagrams went.
@usableFromInline package enum DatagramTransfer: BitwiseCopyable {
  /// So many messages came, at least one.
  /// - Parameters:
  ///   - octets: of all of them.
  ///   - more: there may be more.
  case messages(Int, octets: Int, more: Bool)
  case wouldBlock
  /// An error, told once; what the client is to be told of it.
  case failed(TargetFailure?)
}

/// What a turn may spend. No flow may take more than its part, nor may all together: the device, timers
/// and messages do not wait for longer.
@usableFromInline package struct TurnBudget: BitwiseCopyable, Sendable {
  /// Octets that one flow may read from its target, in whole frames if it can be.
  @usableFromInline package var flowOctets = 256 * 1024
  /// Such parts of a flow that is alone (`Company`), for which nobody waits.
  @usableFromInline package var partsAlone = 4
  /// Frames of a flow that is alone that are worth being written behind (`StackOwner.writeBehind`), octets.
  /// To wake a thread takes as long as to write one or two.
  @usableFromInline package var octetsBehind = 256 * 1024
  /// Messages that one session may read from its target, one receive more or less; a run that does not
  /// go to the device as one counts as its datagrams.
  @usableFromInline package var sessionMessages = 128
  /// Octets that one session may read from its target, one receive more or less.
  @usableFromInline package var sessionOctets = 1 << 20
  /// Octets that all flows together may read, one flow's part more or less.
  @usableFromInline package var octets = 4 << 20
  /// What a datagram counts in that, at least: it is not its octets that take the time.
  @usableFromInline package var datagramOctetsMin = 1024
  /// Addresses that are dialled for TCP. To dial costs more than all else that a flow wants in a turn: a
  /// flood of new ones must not keep the others waiting.
  @usableFromInline package var dials = 64

  package init() {}
}
