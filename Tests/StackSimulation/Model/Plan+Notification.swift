import Primitives

// What a seed adds on top of strangeness: ECN at both ends and queues that mark, and a stack that looks
// after silent clients and spent memory. Each is drawn from dice of its own, as in Plan+Strangeness.

extension Plan {
  mutating func addNotification(_ seed: UInt64) {
    var dice = Dice(seed ^ 0xEC40_0000_0000_0000)
    guard dice.percent(35) else { return }
    offloadsECN = dice.percent(70)
    up.addMarks(&dice)
    down.addMarks(&dice)
    for index in flows.indices where dice.percent(85) {
      flows[index].client.offersECN = true
      if flows[index].client.isOdd { flows[index].client.oddities.addNotification(&dice) }
    }
  }

  mutating func addVigilance(_ seed: UInt64) {
    var dice = Dice(seed ^ 0x9116_1400_0000_0000)
    if dice.percent(20) { addKeepalive(&dice) }
    // A dead client's memory is others', too.
    if dice.percent(40) || (keepalive != nil && memoryOctets < 64 << 20) {
      idleBeforeCut = .milliseconds(dice.within(1_000...6_000))
    }
    relievesTargets = !dice.percent(15)
  }

  /// Of the flows that nobody ends some are still there, and some are dead.
  private mutating func addKeepalive(_ dice: inout Dice) {
    keepalive = .seconds(dice.within(1...15))
    for index in flows.indices {
      flows[index].client.answersKeepalive = true
      guard dice.percent(30), flows[index].client.resetAfter == nil,
        flows[index].client.oddities.vanishesAfter == nil, flows[index].target.resetAt == nil,
        flows[index].target.resetAtTaken == nil
      else { continue }
      flows[index].target.ending = .never
      if dice.percent(50), !flows[index].client.isTwin {
        flows[index].client.oddities.vanishesAfter = .milliseconds(dice.within(2_000...20_000))
      }
    }
  }
}

extension LinkPlan {
  fileprivate mutating func addMarks(_ dice: inout Dice) {
    if dice.percent(60) { marking = dice.scaled(50...20_000) }
    if dice.percent(5) { marking = 100_000 }
    if nanosecondsPerOctet > 0 {
      markAbove = Interval(nanoseconds: queueLimit.nanoseconds / Int64(dice.within(2...10)))
    }
  }
}

extension Oddities {
  fileprivate mutating func addNotification(_ dice: inout Dice) {
    echoesAlways = dice.percent(15)
    neverSaysReduced = dice.percent(15)
    capableAlways = dice.percent(15)
    if dice.percent(10) { halfOffer = dice.percent(50) ? 0x40 : 0x80 }
    withdrawsOffer = dice.percent(10)
    if dice.percent(10) { oldCodepoint = UInt8(dice.within(1...3)) }
  }
}
