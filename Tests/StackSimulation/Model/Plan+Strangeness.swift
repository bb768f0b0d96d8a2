import Primitives

// What a seed adds to a plain plan: clients with bad habits, clients that are our own engine, flows
// that nobody ends, and a path that narrows for a while. Drawn from dice of its own, so that the plain
// plan of a seed does not depend on what is added here.

extension Plan {
  mutating func addStrangeness(_ seed: UInt64) {
    var dice = Dice(seed ^ 0x57A4_6E00_0000_0000)
    let kind = dice.below(10)
    for index in flows.indices {
      if kind >= 7, dice.percent(80) {
        flows[index].makeTwin(mtu: mtu)
      } else if kind >= 3, dice.percent(70) {
        flows[index].makeOdd(&dice)
      }
      if kind >= 3, dice.percent(4) {
        if dice.percent(50), !flows[index].client.isTwin {
          flows[index].client.ending = .never
        } else {
          flows[index].target.ending = .never
        }
      }
    }
    if kind >= 3, dice.percent(20) { narrowPath(&dice) }
    if kind >= 3, flows.count > 1, dice.percent(10) { spendMemory(&dice) }
    // A window that is shut for long is asked ever more rarely, and some of the answers get lost.
    if flows.contains(where: { max($0.client.stall, $0.target.stall) >= .seconds(10) }),
      !flows.contains(where: { $0.client.oddities.vanishesAfter != nil })
    {
      idleTimeout = .seconds(400)
    }
  }

  /// The first flow's client holds more octets than there is memory for, for a while, and those that
  /// come later find none.
  private mutating func spendMemory(_ dice: inout Dice) {
    memoryOctets = dice.within(16...24) << 14
    for index in flows.indices {
      flows[index].client.start = .milliseconds(index == 0 ? 0 : dice.within(500...2_000))
      flows[index].client.resetAfter = nil
      if index > 0 { flows[index].target.download = max(1, flows[index].target.download) }
    }
    flows[0].client.stallAt = 0
    flows[0].client.readOctets = max(4_096, flows[0].client.readOctets)
    flows[0].client.stall = .milliseconds(dice.within(3_000...10_000))
    flows[0].client.bufferOctets = max(4 << (flows[0].client.scale ?? 0), 16_384)
    flows[0].client.oddities = Oddities()
    flows[0].client.isOdd = false
    flows[0].target.dial = .connected
    flows[0].target.download = 400 << 10
    flows[0].target.sayOctets = 64 << 10
    flows[0].target.sayDelay = .zero
    flows[0].target.sayPause = .zero
  }

  private mutating func narrowPath(_ dice: inout Dice) {
    let from = UInt64(dice.scaled(0...3_000)) * 1_000_000
    down.narrow = LinkPlan.Narrow(
      during: from..<from + UInt64(dice.scaled(10...15_000)) * 1_000_000,
      mtu: dice.within(576...1_400), isTold: dice.percent(50))
  }
}

extension FlowPlan {
  /// The engine under test at both ends: its habits are its own, those of its user stay.
  mutating func makeTwin(mtu: Int) {
    client.isTwin = true
    client.maximumSegment = mtu - (isIPv4 ? 40 : 60)
    if client.scale != nil { client.scale = 7 }
    client.bufferOctets = min(960 << 10, max(4_096, client.bufferOctets))
  }

  mutating func makeOdd(_ dice: inout Dice) {
    client.oddities = Oddities(&dice, upload: client.upload)
    client.isOdd = true
    if dice.percent(15) {
      client.acknowledgesEvery = dice.within(16...64)
      client.acknowledgmentDelay = .milliseconds(500)
    }
    if dice.percent(10) {  // a tiny MSS
      client.maximumSegment = dice.pick([0, 1, 40, 87, 88, 100, 200])
      target.download = min(target.download, 12_000)
      client.upload = min(client.upload, 12_000)
    } else if dice.percent(10) {  // tiny windows
      client.bufferOctets = dice.scaled(1...1_500)
      client.scale = dice.percent(50) ? nil : 0
      target.download = min(target.download, 40 * client.bufferOctets, 8_000)
    } else if dice.percent(5) {  // more of a shift than there is
      client.scale = dice.within(15...255)
      client.bufferOctets = max(client.bufferOctets, 4 << 14)
    }
    if dice.percent(10), target.download > 0 {  // shut for long
      client.stallAt = dice.below(target.download)
      client.stall = .milliseconds(dice.within(15_000...25_000))
    }
    if dice.percent(5), client.upload > 0 {
      target.stallAt = dice.below(client.upload)
      target.stall = .milliseconds(dice.within(20_000...90_000))
    }
    if dice.percent(8) {  // both say goodbye at once
      client.upload = dice.scaled(0...2_000)
      target.download = dice.scaled(0...2_000)
      client.ending = .afterSending
      target.ending = .afterSending
      target.sayDelay = .zero
    }
    client.oddities.synOctets = min(client.oddities.synOctets, client.upload)
    if let at = target.resetAt { target.resetAt = min(at, target.download) }
    if let at = target.resetAtTaken {
      target.resetAtTaken = client.upload > 0 ? min(at, client.upload) : nil
    }
  }
}
