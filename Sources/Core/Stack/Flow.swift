import Primitives
import Relay
import Wire

// An active socket: one conversation, named by its five-tuple, in one slot.
//
// Flows are plain structs in a slab; what only TCP flows have, and what only UDP sessions have, stands in
// tables of their own under the same slot, so that neither kind touches the other's. A slot's generation changes whenever it is given
// away, and a `FlowHandle` names both: what the kernel says about a socket of a flow that has ended
// meets nobody.

package struct FlowHandle: Hashable, Sendable, BitwiseCopyable {
  package var slot: UInt32
  package var generation: UInt32

  package init(slot: UInt32, generation: UInt32) {
    self.slot = slot
    self.generation = generation
  }

  /// For a kernel event's 64 bits.
  package var token: UInt64 { UInt64(generation) << 32 | UInt64(slot) }

  package init(token: UInt64) {
    slot = UInt32(truncatingIfNeeded: token)
    generation = UInt32(truncatingIfNeeded: token >> 32)
  }
}

/// What a flow asks of the owner of its kernel socket.
@usableFromInline package struct FlowWants: FlagSet, Sendable, BitwiseCopyable {
  @usableFromInline package let rawValue: UInt16
  @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Open and connect a socket to the flow's target.
  @inlinable package static var dial: Self { Self(rawValue: 1 << 0) }
  /// Write what waits for the target.
  @inlinable package static var upload: Self { Self(rawValue: 1 << 1) }
  /// Shut down the sending half, after the upload.
  @inlinable package static var finishTarget: Self { Self(rawValue: 1 << 2) }
  /// Read the target.
  @inlinable package static var read: Self { Self(rawValue: 1 << 3) }
  /// Send to the client.
  @inlinable package static var transmit: Self { Self(rawValue: 1 << 4) }
  /// Close the socket.
  @inlinable package static var closeTarget: Self { Self(rawValue: 1 << 5) }
  /// Close the socket so that the target sees a reset.
  @inlinable package static var resetTarget: Self { Self(rawValue: 1 << 6) }
  /// Give the flow's slot back, last of all.
  @inlinable package static var release: Self { Self(rawValue: 1 << 7) }
  /// Reset the client, for which the frame queue had no room: before `release`.
  @inlinable package static var resetClient: Self { Self(rawValue: 1 << 8) }
  /// Have the target's socket take what waits, whatever the bound of its buffer: see `beginRelief`.
  @inlinable package static var relieveTarget: Self { Self(rawValue: 1 << 9) }

  /// Close the socket, either way.
  @inlinable package static var closings: Self { [.closeTarget, .resetTarget] }
  /// What comes last, and once.
  @inlinable package static var endings: Self { [.closeTarget, .resetTarget, .release] }
}

struct FlowMarks: FlagSet, BitwiseCopyable {
  let rawValue: UInt16
  /// In the queue of flows that want something.
  static let queued = FlowMarks(rawValue: 1)
  /// The target's socket may have something to read.
  static let readable = FlowMarks(rawValue: 2)
  /// The target's socket may take something.
  static let writable = FlowMarks(rawValue: 4)
  /// A short read proves nothing: read until there is no more.
  static let readToEnd = FlowMarks(rawValue: 8)
  /// The target's socket is open.
  static let hasSocket = FlowMarks(rawValue: 16)
  /// In the list that gives way to newer flows: UDP sessions, TIME-WAIT.
  static let yields = FlowMarks(rawValue: 32)
  /// Counted among the flows that are being dialled.
  static let dialing = FlowMarks(rawValue: 64)
  /// Writing to the target failed: what it said before is read to the end, which is a reset.
  static let broken = FlowMarks(rawValue: 512)
  /// No packet finds the flow any more: it is over but for its slot.
  static let unlinked = FlowMarks(rawValue: 128)
  /// Found the payload pool spent.
  static let starved = FlowMarks(rawValue: 1024)
  /// The client has not answered yet.
  static let halfOpen = FlowMarks(rawValue: 16384)
  /// One of the target's addresses refused.
  static let refused = FlowMarks(rawValue: 2048)
  /// The session's datagrams may leave towards the target in fragments.
  static let fragments = FlowMarks(rawValue: 4096)
  /// The session's socket knows of that.
  static let fragmentsTold = FlowMarks(rawValue: 8192)
  /// Rests in TIME-WAIT.
  static let timeWait = FlowMarks(rawValue: 256)
  /// The target said more than a chunk when it was read last.
  static let saysMuch = FlowMarks(rawValue: 32768)
}

/// Two cache lines: fields of one size stand together, so that nothing is lost between them.
struct Flow: BitwiseCopyable {
  var tuple: FiveTuple
  /// The number of `target` among the addresses of the rule's target.
  var attempt: UInt8
  /// How it ended, or will: the first cause that was seen.
  var end = FlowEnd.none
  var relay = Relay()
  var target: IPAddress
  var targetPort: UInt16
  var wants: FlowWants = []
  var marks: FlowMarks = []
  var telling = FlowEnd.Telling.notYet
  var rule: UInt32
  /// Where the beginning of the client's packet is kept, for an ICMP error that may quote it.
  var quote = noSlot
  /// Neighbours in the list of flows that give way.
  var older = noSlot
  var newer = noSlot
  var openedAt: MonotonicInstant
  var lastActivity: MonotonicInstant
  /// The bound on what the flow does now: dialling, idling, draining.
  var expiresAt = MonotonicInstant.distantFuture
  /// Where the wheel has it; at or before what it waits for.
  var armedAt = MonotonicInstant.distantFuture
  var octetsUp: UInt64 = 0
  var octetsDown: UInt64 = 0

  /// A flow that begins.
  init(tuple: FiveTuple, target: DialTarget, rule: UInt32, at now: MonotonicInstant) {
    self.tuple = tuple
    attempt = target.attempt
    self.target = target.address
    targetPort = target.port
    self.rule = rule
    openedAt = now
    lastActivity = now
  }

  var isTCP: Bool { tuple.transport == .tcp }
}

/// Datagrams of this turn, for one session's target.
struct DatagramList: BitwiseCopyable {
  var first = noSlot
  var last = noSlot
}

let noSlot = UInt32.max
