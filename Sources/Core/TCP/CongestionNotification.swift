import Primitives
import Wire

// Explicit congestion notification of one connection (RFC 3168 §6.1, RFC 9293 §3.8.4).
//
// A client offers it with ECE and CWR in its SYN, and the SYN-ACK takes it with ECE. A SYN that does not
// offer it, first or resent, closes it for good (§6.1.1). From then on new data leaves as ECT(0); nothing
// else does: not what is sent again (§6.1.5), not window probes (§6.1.6), not what carries no data
// (§6.1.4). A mark that arrives is echoed on every acknowledgement until the client says CWR; an echo
// that arrives reduces the window once per window of data, and the next new data says CWR.
//
// Deviation: the window is never reduced below two segments (RFC 5681's least ssthresh), as kernels
// have it, and so §6.1.2's rule for a window of one, to send by the timer alone, has no place here.

struct CongestionNotification: BitwiseCopyable {
  /// ECT(0), low bits of the traffic class (§5).
  static let capable: UInt8 = 2

  /// Both ends have agreed.
  var isOn = false
  /// A mark arrived: ECE on every acknowledgement.
  private(set) var echoes = false
  /// The window was reduced: CWR with the next new data.
  private(set) var owesReduced = false
  private var hasReduced = false
  private var reducedUntil = SequenceNumber(0)

  /// The client's SYN, each time it comes.
  mutating func hear(syn flags: TCPFlags, isFirst: Bool) {
    isOn = (isFirst || isOn) && flags.contains(.ece) && flags.contains(.cwr)
  }

  /// Data arrived. A segment may say CWR and be marked itself: the newer mark is echoed (§6.1.3).
  mutating func dataArrives(_ flags: TCPFlags, isMarked: Bool) {
    guard isOn else { return }
    if flags.contains(.cwr) { echoes = false }
    if isMarked { echoes = true }
  }

  /// Whether an echo calls for a reduction: one for each window of data, and none before the client
  /// could know of the last.
  var isNews: Bool { isOn && !hasReduced && !owesReduced }

  /// Everything before `edge` is acknowledged. Told each time: half a sequence space later the edge of
  /// the last reduction would lie ahead again.
  mutating func acknowledged(upTo edge: SequenceNumber) {
    if hasReduced, reducedUntil.precedes(edge) { hasReduced = false }
  }

  /// The window was reduced, for whatever reason (§6.1.2).
  /// - Parameter next: SND.NXT.
  mutating func reduced(upTo next: SequenceNumber) {
    guard isOn else { return }
    hasReduced = true
    reducedUntil = next
    owesReduced = true
  }

  mutating func saidReduced() { owesReduced = false }
}
