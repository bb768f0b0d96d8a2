import Primitives

// One direction of the path between client and device, as bad as its plan says.

struct Link {
  let plan: LinkPlan
  var dice: Dice
  /// Of their own, so that what else happens to packets does not depend on marks.
  private var markDice: Dice
  private var burstLeft = 0
  private var burstUntil = MonotonicInstant.zero
  private var freeAt: UInt64 = 0
  private(set) var lost = 0
  private(set) var corrupted = 0
  private(set) var marked = 0
  /// A handshake is let through sooner or later: of a flow's first packets no more are lost.
  private var passed: [Int: Int] = [:]
  private var earlyLosses: [Int: Int] = [:]

  /// The path's MTU, and whether a router tells of what is longer; nil: no bound but the device's.
  func bound(origin: UInt64, at now: MonotonicInstant) -> (mtu: Int, isTold: Bool)? {
    guard let narrow = plan.narrow, narrow.during.contains(now.nanoseconds - origin) else {
      return nil
    }
    return (narrow.mtu, narrow.isTold)
  }

  init(_ plan: LinkPlan, _ dice: Dice) {
    self.plan = plan
    self.dice = dice
    var copy = dice
    markDice = Dice(copy.next() ^ 0xECEC_ECEC)
  }

  /// When, and as what, a packet arrives: not at all, once or twice.
  mutating func carry(
    _ packet: [UInt8], flow: Int, protected: Bool, origin: UInt64, at now: MonotonicInstant
  ) -> [(at: MonotonicInstant, packet: [UInt8])] {
    let count = passed[flow, default: 0]
    passed[flow] = count + 1
    var isLost = dice.chance(plan.loss)
    if burstLeft > 0, now < burstUntil {
      burstLeft -= 1
      isLost = true
    } else if dice.chance(plan.burst) {
      burstLeft = dice.within(1...plan.burstPackets)
      burstUntil = now + .milliseconds(dice.within(1...400))
    }
    if plan.blackouts.contains(where: { $0.contains(now.nanoseconds - origin) }) { isLost = true }
    var isMarked = plan.marking > 0 && markDice.chance(plan.marking)
    var arrival = now + plan.delay
    if plan.nanosecondsPerOctet > 0 {
      let begin = max(freeAt, now.nanoseconds)
      if begin - now.nanoseconds > UInt64(plan.queueLimit.nanoseconds) {
        isLost = true
      } else {
        if let markAbove = plan.markAbove, begin - now.nanoseconds > UInt64(markAbove.nanoseconds) {
          isMarked = true
        }
        freeAt = begin + UInt64(packet.count * plan.nanosecondsPerOctet)
        arrival = MonotonicInstant(nanoseconds: freeAt) + plan.delay
      }
    }
    if isLost, count < 30 {
      if earlyLosses[flow, default: 0] >= 3 { isLost = false }
      earlyLosses[flow, default: 0] += 1
    }
    if isLost {
      lost += 1
      return []
    }
    if plan.jitter > .zero {
      arrival = arrival + .microseconds(dice.below(plan.jitter.microseconds + 1))
    }
    if dice.chance(plan.reordering) {
      arrival = arrival + .microseconds(dice.below(plan.holdBack.microseconds + 1))
    }
    var packet = packet
    // Never what did not ask for it, nor twice.
    if isMarked, 1...2 ~= Packets.codepoint(packet) {
      Packets.mark(&packet)
      marked += 1
    }
    var copies: [(at: MonotonicInstant, packet: [UInt8])] = []
    if dice.chance(plan.duplication) {
      let later = arrival + .microseconds(dice.below(plan.holdBack.microseconds + 100))
      copies.append((later, packet))
    }
    if !protected, count >= 6, dice.chance(plan.corruption) {
      // Of IPv6 only what its transport checksum covers.
      let from = packet[0] >> 4 == 4 ? 0 : 8
      packet[from + dice.below(packet.count - from)] ^= 1 << UInt8(dice.below(8))
      corrupted += 1
    }
    copies.append((arrival, packet))
    return copies
  }
}
