import Primitives
import Stack

// One flow of a run, seen from outside: what the stack may send for it, checked frame by frame.
//
// All bounds come from what really happened: the windows that reached the stack, the octets that the
// target's socket took, the options that the client's SYN carried.

final class Conversation {
  let index: Int
  let plan: FlowPlan
  let peer: any Client
  var target: TargetModel?
  var dials = 0

  /// The client's own target, not one that a late SYN of his had dialled: for the verdict.
  private(set) var ownTarget: TargetModel?

  /// The SYN that had the target dialled: somebody else's, perhaps.
  private var syn = (sequence: UInt32(0), window: 0)
  private var latestSYN = (sequence: UInt32(0), window: 0, offersECN: false)

  // What the stack has sent and may send.
  private var stackInitial: UInt32?
  private var acknowledged = 0
  private var edge = 0
  /// The right edge of the client's window, as far as the stack can know it.
  private var clientEdge = 0
  private var sent = 0
  private var scaleUp = 0
  private(set) var lastArrival = MonotonicInstant.zero
  /// The client's reset, in answer to the latest acknowledgement, reached the stack.
  private var resetAt: MonotonicInstant?
  private(set) var retransmissions = 0
  private(set) var timeouts = 0
  /// Segments of an octet or two that do not end what the target said, into a window that has room for
  /// more: never many.
  private(set) var crumbs = 0
  static let crumbsMax = 120
  private(set) var segments = 0
  private var answered = false
  /// The client's SYNs since the target was dialled all offered ECN.
  private var offersECN = false
  private(set) var notification = NotificationWatch()
  private var twinNotification = NotificationWatch()

  // How it ends.
  private(set) var acknowledgedByClient = 0
  /// When the client acknowledged how much, oldest first.
  private(set) var acknowledgments: [(at: MonotonicInstant, offset: Int)] = []
  var end = FlowEnd.none

  init(index: Int, plan: FlowPlan, peer: any Client) {
    self.index = index
    self.plan = plan
    self.peer = peer
  }

  func dialled(_ target: TargetModel) {
    self.target = target
    if !target.isStray { ownTarget = target }
    dials += 1
    syn = (latestSYN.sequence, latestSYN.window)
    offersECN = latestSYN.offersECN
    notification = NotificationWatch()
    twinNotification = NotificationWatch()
    acknowledgedByClient = 0
    acknowledgments = []
    end = .none
    stackInitial = nil
    acknowledged = 0
    edge = 0
    clientEdge = 0
    sent = 0
    answered = false
    resetAt = nil
  }

  /// A sound packet of the client is about to reach the stack.
  func reaches(_ segment: Segment, at now: MonotonicInstant) {
    lastArrival = now
    if segment.flags & 0x17 == Flag.syn {
      let offer = segment.flags & (Flag.ece | Flag.cwr) == Flag.ece | Flag.cwr
      latestSYN = (segment.sequence, Int(segment.window), offer)
      offersECN = offersECN && offer
    }
    // A client that is done, or that gives up when the stack rests already, resets what TIME-WAIT sends
    // it, and TIME-WAIT does not mind (RFC 1337).
    if segment.has(Flag.rst), !segment.has(Flag.syn), stackInitial != nil,
      peer.outcome != .finished, end != .finished,
      Int(Int32(bitPattern: segment.sequence &- syn.sequence)) == acknowledged
    {
      resetAt = now
    }
    guard segment.has(Flag.ack), !segment.has(Flag.syn), !segment.has(Flag.rst),
      let initial = stackInitial
    else { return }
    let scale = answered && scaleUp >= 0 ? scaleUp : 0
    let offset = Int(Int32(bitPattern: segment.acknowledgment &- initial))
    notification.arrives(
      segment, offset: Int(Int32(bitPattern: segment.sequence &- syn.sequence)),
      acknowledgment: offset, isOdd: plan.client.isOdd)
    guard offset <= sent else { return }
    if offset > acknowledgedByClient {
      acknowledgedByClient = offset
      acknowledgments.append((now, offset))
    }
    clientEdge = max(clientEdge, offset + Int(segment.window) << scale)
  }

  /// Checks one segment that the stack sends, after a super-packet was cut.
  func check(_ segment: Segment, octets packetOctets: Int, mtu: Int, at now: MonotonicInstant)
    throws
  {
    segments += 1
    let octets = segment.payload.count
    try checkNotification(segment)
    if segment.has(Flag.rst) { return }
    if let resetAt, now - resetAt > .milliseconds(1) { throw fault("speaks on after a reset") }
    guard let target else { throw fault("speaks, and no target was dialled") }
    guard target.isConnected else { throw fault("answers before the target is connected") }
    let acknowledgment = Int(Int32(bitPattern: segment.acknowledgment &- syn.sequence))
    if segment.has(Flag.syn) {
      if let initial = stackInitial, initial != segment.sequence {
        throw fault("changes its initial sequence number")
      }
      if stackInitial == nil {
        clientEdge = 1 + syn.window
        scaleUp = segment.scale == nil ? 0 : min(14, plan.client.scale ?? 0)
        answered = true
        sent = 1
      } else if sent > 1 {
        throw fault("sends SYN-ACK after data")
      }
      stackInitial = segment.sequence
    }
    guard let initial = stackInitial else { throw fault("speaks before its SYN-ACK") }

    // A byte is acknowledged only when the target's socket took it; the FIN when it was told.
    guard acknowledgment <= 1 + target.taken + (target.isFinished ? 1 : 0) else {
      throw fault("acknowledges \(acknowledgment), the target took \(target.taken)")
    }
    if acknowledgment == 2 + plan.client.upload, !target.isFinished {
      throw fault("acknowledges the FIN before the target was told")
    }
    guard acknowledgment >= acknowledged else {
      throw fault("acknowledges \(acknowledgment) after \(acknowledged)")
    }
    acknowledged = acknowledgment
    let shift = segment.has(Flag.syn) || plan.client.scale == nil ? 0 : 8
    let right = acknowledgment + Int(segment.window) << shift
    // A SYN-ACK that comes again cannot say more than 64 KiB (RFC 7323 §2.2).
    guard right >= edge || segment.has(Flag.syn) else {
      throw fault("takes back its window: right edge \(right) after \(edge)")
    }
    edge = max(edge, right)

    let start = Int(Int32(bitPattern: segment.sequence &- initial))
    let finish = segment.has(Flag.fin)
    let end = start + octets + (finish ? 1 : 0) + (segment.has(Flag.syn) ? 1 : 0)
    // A client that asks for segments of less than 88 octets gets such.
    let mss = max(88, plan.client.maximumSegment ?? (plan.isIPv4 ? 536 : 1220))
    let headers = peer.addressing.headerOctets + 20
    guard octets == 0 || packetOctets <= mss + headers else {
      throw fault("sends \(packetOctets) octets to a client with an MSS of \(mss)")
    }
    guard packetOctets <= mtu else {
      throw fault("sends \(packetOctets) octets, the MTU is \(mtu)")
    }
    guard end <= clientEdge || (end == clientEdge + 1 && start == clientEdge) else {
      throw fault("sends \(start)..<\(end) beyond the window's edge at \(clientEdge)")
    }
    guard start <= sent else { throw fault("leaves out \(sent)..<\(start)") }
    if 1...2 ~= octets, !segment.has(Flag.psh), start + 88 < clientEdge { crumbs += 1 }
    guard crumbs <= Self.crumbsMax else {
      throw fault("sends \(crumbs) segments of an octet or two")
    }
    if end > start, end <= sent, start > 0 {
      retransmissions += 1
      if now - lastArrival >= .milliseconds(199) { timeouts += 1 }
    }
    sent = max(sent, end)
  }

  private func checkNotification(_ segment: Segment) throws {
    let offset = Int(Int32(bitPattern: segment.sequence &- (stackInitial ?? segment.sequence)))
    do { try notification.leaves(segment, offset: offset) } catch {
      throw fault(error.description)
    }
    guard segment.has(Flag.syn) else { return }
    if segment.has(Flag.ece) != offersECN {
      throw fault("answers \(offersECN ? "an offer" : "no offer") of ECN with \(segment.flags)")
    }
    twinNotification.isAgreed = segment.has(Flag.ece)
  }

  /// A sound packet of the stack reaches the client.
  func reachesTwin(_ segment: Segment) {
    guard plan.client.isTwin, let initial = stackInitial else { return }
    twinNotification.arrives(
      segment, offset: Int(Int32(bitPattern: segment.sequence &- initial)),
      acknowledgment: Int(Int32(bitPattern: segment.acknowledgment &- peer.initial)), isOdd: false)
  }

  /// Checks one segment that a client sends which is our own engine: it too keeps to windows.
  func checkTwin(_ segment: Segment) throws {
    guard plan.client.isTwin, stackInitial != nil, !segment.has(Flag.syn), !segment.has(Flag.rst)
    else { return }
    let start = Int(Int32(bitPattern: segment.sequence &- peer.initial))
    // Its user's keep-alive is not the engine's.
    if segment.payload.isEmpty, start + 1 == peer.highest { return }
    do { try twinNotification.leaves(segment, offset: start) } catch {
      throw Violation("flow \(index): the twin \(error.description)")
    }
    let end = start + segment.payload.count + (segment.has(Flag.fin) ? 1 : 0)
    guard end <= edge || (end == edge + 1 && start == edge) else {
      throw Violation("flow \(index): the twin sends \(start)..<\(end), the edge is at \(edge)")
    }
  }

  func fault(_ what: String) -> Violation { Violation("flow \(index): the stack \(what)") }

  /// The client has acknowledged whatever was sent, as far as is known.
  var isAllAcknowledged: Bool { acknowledgedByClient > 0 && acknowledgedByClient == sent }

  var isOver: Bool { peer.isOver && (target?.isClosed ?? true) }

  /// What must be true when everything has ended.
  /// - Parameter anyCut: a flow was cut for its memory; one whose end was known already may have been.
  func verdict(anyCut: Bool) throws {
    let said = ownTarget?.total ?? 0
    let taken = ownTarget?.taken ?? 0
    let aborted = plan.client.resetAfter != nil
    switch plan.target.dial {
    case .refused:
      guard [.resetByStack, .resetByUs, .vanished].contains(peer.outcome) || dials == 0 else {
        throw fault("was refused; the client saw \(peer.outcome)")
      }
      return
    case .unreachable, .silent:
      guard [.unreachable, .resetByUs, .gaveUp, .vanished].contains(peer.outcome) || dials == 0
      else {
        throw fault("had no target; the client saw \(peer.outcome)")
      }
      return
    case .connected, .later: break
    }
    if peer.outcome == .vanished || end == .evicted { return }
    if aborted {
      if peer.outcome == .resetByUs, let target = ownTarget, target.isConnected,
        !target.hasReset, !target.wasAborted, !(target.isFinished && target.saidAll)
      {
        throw fault("hides the client's reset from the target")
      }
      if peer.outcome == .resetByUs || peer.outcome == .gaveUp { return }
    }
    if let target = ownTarget, target.hasReset {
      let said = target.said
      guard peer.outcome == .resetByStack || target.isFinished && target.saidAll else {
        throw fault("ends with \(peer.outcome), the target reset")
      }
      guard peer.downloaded == said || anyCut else {
        throw fault("gave \(peer.downloaded) octets before the reset, the target said \(said)")
      }
      return
    }
    if plan.client.ending == .never || plan.target.ending == .never {
      // Nobody ends it but the bound on idling, which cuts both sides.
      guard peer.outcome == .resetByStack, end == .idle || plan.client.isOdd,
        peer.downloaded == said, taken == plan.client.upload
      else { throw fault("idles to \(peer.outcome) with \(peer.downloaded) and \(taken) octets") }
      return
    }
    // Its last acknowledgement was lost for longer than TIME-WAIT: a reset is all that it can be told.
    let wasForgotten = end == .finished && peer.outcome == .resetByStack
    guard peer.outcome == .finished || wasForgotten else {
      throw fault("ends with \(peer.outcome)")
    }
    guard peer.downloaded == said, peer.finishReceived else {
      throw fault("gave \(peer.downloaded) octets, the target said \(said)")
    }
    guard taken == plan.client.upload, let target = ownTarget, target.isFinished,
      !target.wasAborted
    else {
      throw fault(
        "gave the target \(taken) of \(plan.client.upload) octets, aborted: \(ownTarget?.wasAborted ?? false)"
      )
    }
  }
}
