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
  /// The last reduction was for a mark.
  private var isForMark = false
  private var reducedUntil = SequenceNumber(0)
  /// What was so before the last reduction, in case that is taken back.
  private var hadReduced = false
  private var owedReduced = false

  /// All there is to it while nothing is in flight.
  struct Settled: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let isOn = Settled(rawValue: 1)
    static let echoes = Settled(rawValue: 2)
    static let owesReduced = Settled(rawValue: 4)
    static let hasReduced = Settled(rawValue: 8)
  }

  /// - Parameter edge: SND.UNA and SND.NXT; a reduction not yet behind it was made right there.
  func settled(at edge: SequenceNumber) -> Settled? {
    guard !hasReduced || reducedUntil == edge else { return nil }
    var settled: Settled = []
    if isOn { settled.insert(.isOn) }
    if echoes { settled.insert(.echoes) }
    if owesReduced { settled.insert(.owesReduced) }
    if hasReduced { settled.insert(.hasReduced) }
    return settled
  }

  init(_ settled: Settled, at edge: SequenceNumber) {
    isOn = settled.contains(.isOn)
    echoes = settled.contains(.echoes)
    owesReduced = settled.contains(.owesReduced)
    hasReduced = settled.contains(.hasReduced)
    reducedUntil = edge
  }

  init() {}

  /// The client's SYN, each time it comes.
  mutating func hear(syn flags: TCPFlags, isFirst: Bool) {
    isOn = (isFirst || isOn) && flags.contains(.ece) && flags.contains(.cwr)
  }

  /// Data arrived. A segment may say CWR and be marked itself: the newer mark is echoed (§6.1.3).
  mutating func dataArrives(_ flags: TCPFlags, isMarked: Bool) {
    guard isOn else { return }
    if flags.contains(.cwr) { echoes = false }
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.echoesMarksOnce) { echoes = false }
    #endif
    if isMarked { echoes = true }
  }

  /// Whether an echo calls for a reduction: one for each window of data, and none before the client
  /// could know of the last.
  var isNews: Bool {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.reducesForEachEcho) { return isOn && !owesReduced }
      if PlantedFault.isPlanted(.ignoresEchoes) { return false }
    #endif
    return isOn && !hasReduced && !owesReduced
  }

  /// Whether a loss of what lies at `start` was paid for by a mark in the same window of data: dropped
  /// and marked packets of one window reduce once (§6.1.2).
  func hasPaid(forLossAt start: SequenceNumber) -> Bool {
    hasReduced && isForMark && start.precedes(reducedUntil)
  }

  /// Everything before `edge` is acknowledged. Told each time: half a sequence space later the edge of
  /// the last reduction would lie ahead again.
  mutating func acknowledged(upTo edge: SequenceNumber) {
    if hasReduced, reducedUntil.precedes(edge) { hasReduced = false }
  }

  /// The window was reduced, for whatever reason (§6.1.2).
  /// - Parameter next: SND.NXT.
  mutating func reduced(upTo next: SequenceNumber, forMark: Bool = false) {
    guard isOn else { return }
    hadReduced = hasReduced
    owedReduced = owesReduced
    hasReduced = true
    isForMark = forMark
    reducedUntil = next
    owesReduced = true
  }

  /// The last reduction, for a loss that was none, is taken back: unless CWR has been said, or is owed
  /// for something else, it is not said.
  mutating func tookBack() {
    hasReduced = hadReduced
    owesReduced = owesReduced && owedReduced
  }

  mutating func saidReduced() { owesReduced = false }
}
