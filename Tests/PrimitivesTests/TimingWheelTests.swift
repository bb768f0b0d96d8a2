// The timing wheel against a plain dictionary of deadlines, and its edges by name.

import Primitives
import TestSupport
import Testing

@Suite("Timing wheel") struct TimingWheelTests {
  static func at(_ nanoseconds: UInt64) -> MonotonicInstant {
    MonotonicInstant(nanoseconds: nanoseconds)
  }

  @Test("a slot fires at its nanosecond and not before") func firesExactly() {
    for deadline in Self.boundaries {
      var wheel = TimingWheel(capacity: 4, origin: .zero)
      wheel.arm(2, at: Self.at(deadline))
      #expect(wheel.nextDeadline() == Self.at(deadline))
      if deadline > 0 { #expect(wheel.popDue(at: Self.at(deadline - 1)) == nil) }
      #expect(wheel.nextDeadline() == Self.at(deadline), "\(deadline)")
      #expect(wheel.popDue(at: Self.at(deadline)) == 2, "\(deadline)")
      #expect(wheel.popDue(at: Self.at(deadline)) == nil)
      #expect(wheel.nextDeadline() == nil)
      #expect(wheel.count == 0)
    }
  }

  @Test("a far deadline is approached without a wake-up of its own") func noWakeUpToCascade() {
    var wheel = TimingWheel(capacity: 1, origin: Self.at(12_345))
    let week = MonotonicInstant.zero + .seconds(7 * 86_400 + 11)
    wheel.arm(0, at: week)
    #expect(wheel.nextDeadline() == week)
    // Whoever looks in between anyway changes nothing.
    for day in 1...7 {
      #expect(wheel.popDue(at: .zero + .seconds(day * 86_400)) == nil)
      #expect(wheel.nextDeadline() == week)
    }
    #expect(wheel.popDue(at: week) == 0)
  }

  @Test("arming again moves, to earlier and to later") func moves() {
    var wheel = TimingWheel(capacity: 2, origin: .zero)
    wheel.arm(0, at: Self.at(5_000_000_000))
    wheel.arm(0, at: Self.at(1_000))
    #expect(wheel.count == 1)
    #expect(wheel.nextDeadline() == Self.at(1_000))
    wheel.arm(0, at: Self.at(9_000_000_000))
    #expect(wheel.deadline(of: 0) == Self.at(9_000_000_000))
    #expect(wheel.popDue(at: Self.at(8_999_999_999)) == nil)
    #expect(wheel.popDue(at: Self.at(9_000_000_000)) == 0)
    #expect(wheel.isArmed(0) == false)
  }

  @Test("a bound that a removal left behind costs one look and is then right") func staleBound() {
    var wheel = TimingWheel(capacity: 2, origin: .zero)
    wheel.arm(0, at: Self.at(100_000_000_000))
    wheel.arm(1, at: Self.at(101_000_000_000))
    wheel.disarm(0)
    #expect(wheel.popDue(at: Self.at(100_000_000_000)) == nil)
    #expect(wheel.nextDeadline() == Self.at(101_000_000_000))
  }

  @Test("a deadline in the past is due at once") func past() {
    var wheel = TimingWheel(capacity: 1, origin: Self.at(1 << 40))
    wheel.arm(0, at: Self.at(3))
    #expect(wheel.nextDeadline() == Self.at(3))
    #expect(wheel.popDue(at: Self.at(1 << 40)) == 0)
  }

  @Test("the end of time can be armed and is not reached") func distantFuture() {
    var wheel = TimingWheel(capacity: 1, origin: .zero)
    wheel.arm(0, at: .distantFuture)
    #expect(wheel.popDue(at: Self.at(.max - 1)) == nil)
    #expect(wheel.nextDeadline() == .distantFuture)
  }

  @Test("a slot found due can still be disarmed or moved") func changesWhileDue() {
    var wheel = TimingWheel(capacity: 4, origin: .zero)
    for slot in UInt32(0)..<4 { wheel.arm(slot, at: Self.at(1_000)) }
    guard let first = wheel.popDue(at: Self.at(1_000)) else {
      Issue.record("nothing is due")
      return
    }
    let others = (UInt32(0)..<4).filter { $0 != first }
    wheel.disarm(others[0])
    wheel.arm(others[1], at: Self.at(2_000_000))
    #expect(wheel.popDue(at: Self.at(1_000)) == others[2])
    #expect(wheel.popDue(at: Self.at(1_000)) == nil)
    #expect(wheel.nextDeadline() == Self.at(2_000_000))
    #expect(wheel.popDue(at: Self.at(2_000_000)) == others[1])
  }

  @Test("a storm of one instant comes out whole, each slot once") func storm() {
    var wheel = TimingWheel(capacity: 10_000, origin: .zero)
    for slot in UInt32(0)..<10_000 { wheel.arm(slot, at: Self.at(77_777_777_777)) }
    var seen = Set<UInt32>()
    while let slot = wheel.popDue(at: Self.at(90_000_000_000)) { seen.insert(slot) }
    #expect(seen.count == 10_000)
  }

  @Test("a wheel does what a table of deadlines does", arguments: UInt64(0)..<48)
  func model(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let capacity = UInt32.random(in: 1...200, using: &random)
    var now = Self.instant(after: 0, &random)
    var wheel = TimingWheel(capacity: Int(capacity), origin: Self.at(now))
    var model: [UInt32: UInt64] = [:]

    for step in 0..<2_000 {
      let slot = UInt32.random(in: 0..<capacity, using: &random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<6:
        // Some are late already, some meet others at the same instant.
        let same = model.isEmpty ? nil : model.values.randomElement(using: &random)
        let choice = Int.random(in: 0..<6, using: &random)
        let deadline =
          choice == 0
          ? now - min(now, 1 << 20) : choice == 1 ? same ?? now : Self.instant(after: now, &random)
        wheel.arm(slot, at: Self.at(deadline))
        model[slot] = deadline
      case 6..<8:
        wheel.disarm(slot)
        model[slot] = nil
      default:
        let soonest = model.values.min() ?? now
        now =
          Bool.random(using: &random)
          ? max(now, soonest - (soonest > 0 && Bool.random(using: &random) ? 1 : 0))
          : Self.instant(after: now, &random)
        var due = Set(model.filter { $0.value <= now }.keys)
        while let slot = wheel.popDue(at: Self.at(now)) {
          #expect(due.remove(slot) != nil, "seed \(seed) step \(step) slot \(slot)")
          model[slot] = nil
        }
        #expect(due.isEmpty, "seed \(seed) step \(step)")
      }

      #expect(wheel.count == model.count, "seed \(seed) step \(step)")
      #expect(wheel.deadline(of: slot)?.nanoseconds == model[slot], "seed \(seed) step \(step)")
      let bound = wheel.nextDeadline()?.nanoseconds
      #expect((bound == nil) == model.isEmpty, "seed \(seed) step \(step)")
      if let bound, let soonest = model.values.min() {
        #expect(bound <= soonest, "seed \(seed) step \(step)")
      }
    }
  }

  @Test("without removals the next deadline is exact", arguments: UInt64(0)..<16)
  func exact(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var now: UInt64 = Self.instant(after: 0, &random)
    var wheel = TimingWheel(capacity: 3_000, origin: Self.at(now))
    var pending: [UInt64] = []
    var slot: UInt32 = 0
    while slot < 3_000 {
      for _ in 0..<Int.random(in: 0...8, using: &random) where slot < 3_000 {
        let deadline = Self.instant(after: now, &random)
        wheel.arm(slot, at: Self.at(deadline))
        pending.append(deadline)
        slot += 1
      }
      #expect(wheel.nextDeadline()?.nanoseconds == pending.min(), "seed \(seed) slot \(slot)")
      guard let soonest = pending.min() else { continue }
      now = max(now, soonest)
      while wheel.popDue(at: Self.at(now)) != nil {}
      pending.removeAll { $0 <= now }
    }
  }

  /// Ends and beginnings of the buckets of every level.
  static let boundaries: [UInt64] =
    [0, 1, 2, 65_535, 65_536]
    + stride(from: UInt64(16), through: 58, by: 6).flatMap { bits in
      let edge = UInt64(1) << bits
      return [edge - 1, edge, edge + 1, edge * 63, edge * 63 + 1]
    }

  /// An instant from `now` on: near, far, or at an edge of a level.
  static func instant(after now: UInt64, _ random: inout SeededGenerator) -> UInt64 {
    let bits = UInt64.random(in: 0..<50, using: &random)
    let distance = UInt64.random(in: 0...(1 << bits), using: &random)
    let later = now + distance
    if Int.random(in: 0..<4, using: &random) > 0 { return later }
    let edge = UInt64(1) << UInt64.random(in: 16..<50, using: &random)
    return (later | (edge - 1)) + UInt64.random(in: 0...1, using: &random)
  }
}
