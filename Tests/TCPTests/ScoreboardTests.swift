import Primitives
import TCP
import Testing
import Wire

// The scoreboard against a recount, under random marks.

@Suite("RFC 6675, RFC 8985: SACKScoreboard")
struct ScoreboardTests {
  private struct Count: Equatable {
    var arrived = 0
    var lost = 0
    var resent = 0
    var octets = 0
    var isOrdered = true
  }

  /// The counters, counted anew from the records.
  private func recount(
    _ board: SACKScoreboard, _ records: borrowing SentRecordPool, from start: SequenceNumber
  ) -> Count {
    var count = Count()
    var slot = board.first
    var edge = start
    while slot != .max {
      let record = records[slot]
      count.isOrdered = count.isOrdered && record.start == edge && record.octets > 0
      edge = record.end
      count.octets += record.octets
      if record.marks.contains(.arrived) { count.arrived += record.octets }
      if record.marks.contains(.lost) {
        count.lost += record.octets
        if record.marks.contains(.resent) { count.resent += record.octets }
      }
      slot = record.next
    }
    return count
  }

  private func firstWaiting(_ board: SACKScoreboard, _ records: borrowing SentRecordPool) -> UInt32
  {
    var slot = board.first
    while slot != .max, records[slot].marks.intersection([.lost, .resent]) != .lost {
      slot = records[slot].next
    }
    return slot
  }

  @Test(
    "after random marks the counters are what a recount finds, and records go back",
    arguments: 1...30)
  func counters(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var records = SentRecordPool(capacity: 600, flows: 1)
    var board = SACKScoreboard()
    var unacknowledged = SequenceNumber(UInt32.max - 20_000)
    var next = unacknowledged
    var now = MonotonicInstant(nanoseconds: 1_000_000)
    for _ in 0..<1_500 {
      now = now + .microseconds(random.number(in: 0...2_000))
      let outstanding = next.distance(from: unacknowledged)
      var report = DeliveryReport()
      switch random.number(in: 0...11) {
      case 0...3:
        let octets = random.number(in: 1...9_000)
        if board.sent(next, next + octets, at: now, records: &records) { next = next + octets }
      case 4 where outstanding > 0:
        let octets = random.number(in: 1...outstanding)
        unacknowledged = unacknowledged + octets
        board.acknowledge(upTo: unacknowledged, at: now, records: &records, report: &report)
      case 5, 6:
        guard outstanding > 2 else { continue }
        let from = random.number(in: 1...outstanding - 1)
        let block = SACKBlock(
          start: unacknowledged + from,
          end: unacknowledged + random.number(in: from + 1...outstanding))
        board.acknowledge(
          selectively: block, segmentOctets: random.number(in: 1...1500), at: now,
          records: &records, report: &report)
      case 7:
        _ = board.detectLoss(
          reorderingWindow: .microseconds(random.number(in: 0...500)), at: now, records: records)
      case 8:
        if random.number(in: 0...3) == 0 {
          board.loseAll(records: records)
        } else {
          board.loseFirst(segmentOctets: 1000, records: &records)
        }
      case 9:
        board.loseLarger(than: random.number(in: 1...9_000), records: records)
      case 10:
        let slot = board.firstLost(records: records)
        if slot != .max, records[slot].octets > 500 {
          _ = board.cut(slot, after: 500, records: &records)
        }
      default:
        let slot = board.firstLost(records: records)
        if slot != .max {
          if random.number(in: 0...1) == 0 { board.join(slot, upTo: 3000, records: &records) }
          if records[slot].octets > 500 { _ = board.split(slot, after: 500, records: &records) }
          board.resent(slot, at: now, records: records)
        }
      }
      let count = recount(board, records, from: unacknowledged)
      #expect(count.isOrdered, "seed \(seed)")
      #expect(count.octets == next.distance(from: unacknowledged), "seed \(seed)")
      #expect(board.arrived == count.arrived, "seed \(seed)")
      #expect(board.hasLost == (count.lost > count.resent), "seed \(seed)")
      let waiting = board.firstLost(records: records)
      #expect(waiting == firstWaiting(board, records), "seed \(seed)")
      #expect(
        board.pipe(outstanding: count.octets)
          == count.octets - count.arrived - count.lost + count.resent, "seed \(seed)")
    }
    board.discard(records: &records)
    let left = records.count
    #expect(left == 0)
  }

  @Test("with every record in use, what waits to be sent again can still be cut") func cutWhenFull()
  {
    var records = SentRecordPool(capacity: 2 * SACKScoreboard.recordsMax, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(UInt32.max - 5_000)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    for index in 0..<SACKScoreboard.recordsMax {
      _ = board.sent(start + index * 10, start + index * 10 + 10, at: now, records: &records)
    }
    #expect(board.isFull)
    let refused = board.cut(board.first, after: 4, records: &records)
    #expect(!refused)  // not lost
    board.loseLarger(than: 9, records: records)
    var total = 0
    for _ in 0..<100 {
      let slot = board.firstLost(records: records)
      let done = board.cut(slot, after: 4, records: &records)
      #expect(done && records[slot].octets == 4)
      board.resent(slot, at: now, records: records)
      total += 4
      #expect(board.pipe(outstanding: SACKScoreboard.recordsMax * 10) == total)
    }
    let count = recount(board, records, from: start)
    #expect(count.isOrdered && count.octets == SACKScoreboard.recordsMax * 10)
    board.discard(records: &records)
  }

  @Test("what was sent before something that arrived is lost when the window has passed (§6.2)")
  func lossByTime() {
    var records = SentRecordPool(capacity: 16, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(100)
    let sentAt = MonotonicInstant(nanoseconds: 1_000_000_000)
    for index in 0..<3 {
      _ = board.sent(
        start + index * 10, start + index * 10 + 10, at: sentAt + .milliseconds(index),
        records: &records)
    }
    let now = sentAt + .milliseconds(20)
    var report = DeliveryReport()
    board.acknowledge(
      selectively: SACKBlock(start: start + 10, end: start + 20), segmentOctets: 10, at: now,
      records: &records, report: &report)
    #expect(report.roundTrip == .milliseconds(19))
    let early = board.detectLoss(reorderingWindow: .milliseconds(5), at: now, records: records)
    #expect(!early.found)
    #expect(early.lookAgainAt == sentAt + .milliseconds(24))
    let late = board.detectLoss(
      reorderingWindow: .milliseconds(5), at: sentAt + .milliseconds(24), records: records)
    #expect(late.found && late.lookAgainAt == nil)
    let lost = board.firstLost(records: records)
    #expect(lost == board.first)
    board.discard(records: &records)
  }

  @Test("a record that was resent is no round-trip sample (Karn)")
  func karn() {
    var records = SentRecordPool(capacity: 16, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(1)
    let sentAt = MonotonicInstant(nanoseconds: 1_000_000_000)
    _ = board.sent(start, start + 10, at: sentAt, records: &records)
    board.loseAll(records: records)
    board.resent(board.first, at: sentAt + .milliseconds(200), records: records)
    var report = DeliveryReport()
    board.acknowledge(
      upTo: start + 10, at: sentAt + .milliseconds(210), records: &records, report: &report)
    #expect(report.roundTrip == nil)
    #expect(report.deliveredOctets == 10)
  }

  @Test("what waits to be sent again is joined to full segments, and records go back")
  func joins() {
    var records = SentRecordPool(capacity: 64, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(UInt32.max - 500)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    for index in 0..<20 {
      _ = board.sent(start + index * 100, start + index * 100 + 100, at: now, records: &records)
    }
    board.join(board.first, upTo: 1000, records: &records)
    #expect(records[board.first].octets == 100)  // not lost
    board.loseAll(records: records)
    board.join(board.first, upTo: 950, records: &records)
    #expect(records[board.first].octets == 900)
    board.resent(board.first, at: now, records: records)
    let second = board.firstLost(records: records)
    board.join(second, upTo: 2000, records: &records)
    #expect(records[second].octets == 1100 && records[second].next == .max)
    let used = records.count
    #expect(used == 2)
    let count = recount(board, records, from: start)
    #expect(count.isOrdered && count.octets == 2000 && count.resent == 900)
    board.discard(records: &records)
  }

  @Test("a peer that tells of single octets splits nothing; of every other segment, as many")
  func bounded() {
    var records = SentRecordPool(capacity: 4096, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(0)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    _ = board.sent(start, start + 60_000, at: now, records: &records)
    for index in 0..<20_000 {
      var report = DeliveryReport()
      board.acknowledge(
        selectively: SACKBlock(start: start + index * 3 + 1, end: start + index * 3 + 2),
        segmentOctets: 1000, at: now, records: &records, report: &report)
    }
    var count = records.count
    #expect(count == 1)
    for index in 0..<30 {
      var report = DeliveryReport()
      board.acknowledge(
        selectively: SACKBlock(
          start: start + index * 2000 + 1000, end: start + index * 2000 + 2000),
        segmentOctets: 1000, at: now, records: &records, report: &report)
      #expect(report.deliveredOctets == 1000)
    }
    count = records.count
    #expect(count == 60 && board.arrived == 30_000)
    board.discard(records: &records)
  }

  @Test("whatever blocks are told, no more than two records a segment", arguments: 1...30)
  func noCrumbs(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var records = SentRecordPool(capacity: 4096, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(UInt32.max - 30_000)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    let octets = 60_000 + random.number(in: 0...999)
    _ = board.sent(start, start + octets, at: now, records: &records)
    for _ in 0..<5_000 {
      let from = random.number(in: 0...octets - 1)
      let most = min(octets, from + random.number(in: 1...2_500))
      var report = DeliveryReport()
      board.acknowledge(
        selectively: SACKBlock(
          start: start + from, end: start + random.number(in: from + 1...most)),
        segmentOctets: 1000, at: now, records: &records, report: &report)
    }
    var small = 0
    var slot = board.first
    while slot != .max {
      if records[slot].octets < 500 { small += 1 }
      slot = records[slot].next
    }
    let used = records.count
    #expect(small <= 1 && used <= 123, "seed \(seed)")
    let count = recount(board, records, from: start)
    #expect(count.isOrdered && count.octets == octets && count.arrived == board.arrived)
    board.discard(records: &records)
  }

  @Test("what is told whole has arrived, however short it was cut") func short() {
    var records = SentRecordPool(capacity: 64, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(UInt32.max - 1_000)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    _ = board.sent(start, start + 5_000, at: now, records: &records)
    var report = DeliveryReport()
    board.acknowledge(
      selectively: SACKBlock(start: start + 1_300, end: start + 5_000), segmentOctets: 1000,
      at: now, records: &records, report: &report)
    board.loseFirst(segmentOctets: 1000, records: &records)
    board.acknowledge(
      selectively: SACKBlock(start: start + 1_000, end: start + 1_300), segmentOctets: 1000,
      at: now, records: &records, report: &report)
    #expect(report.deliveredOctets == 4_000 && board.lost == 1_000)
    board.discard(records: &records)
  }

  @Test("blocks of one segment each count, wherever the record begins", arguments: [1, 400, 999])
  func withinSegment(offset: Int) {
    var records = SentRecordPool(capacity: 64, flows: 1)
    var board = SACKScoreboard()
    let start = SequenceNumber(UInt32.max - 3_000)
    let now = MonotonicInstant(nanoseconds: 1_000_000_000)
    _ = board.sent(start, start + 10_000, at: now, records: &records)
    var report = DeliveryReport()
    board.acknowledge(upTo: start + offset, at: now, records: &records, report: &report)
    for index in stride(from: 2, to: 10, by: 2) {
      var report = DeliveryReport()
      board.acknowledge(
        selectively: SACKBlock(start: start + index * 1000, end: start + index * 1000 + 1000),
        segmentOctets: 1000, at: now, records: &records, report: &report)
      #expect(report.deliveredOctets == 1000)
    }
    board.discard(records: &records)
  }
}

@Suite("Records shared among flows")
struct SentRecordPoolTests {
  private static let record = SentRecord(
    start: SequenceNumber(0), end: SequenceNumber(1), sentAt: .zero, next: .max, previous: .max,
    marks: [])

  @Test("however much others take, each flow gets what is guaranteed", arguments: [100, 3000])
  func guaranteed(flows: Int) {
    var pool = SentRecordPool(flows: flows)
    var held = [[UInt32]](repeating: [], count: flows)
    for flow in 0..<flows - 1 {  // all but one take what they get
      while held[flow].count < SACKScoreboard.recordsMax,
        let slot = pool.take(Self.record, held: UInt32(held[flow].count))
      {
        held[flow].append(slot)
      }
    }
    #expect(held[0].count > Int(pool.guaranteed))
    for _ in 0..<Int(pool.guaranteed) {
      guard let slot = pool.take(Self.record, held: UInt32(held[flows - 1].count)) else { break }
      held[flows - 1].append(slot)
    }
    #expect(held.allSatisfy { $0.count >= Int(pool.guaranteed) } && pool.guaranteed >= 2)
    for flow in 0..<flows {
      while let slot = held[flow].last {
        pool.give(slot, held: UInt32(held[flow].count))
        held[flow].removeLast()
      }
    }
    let left = pool.count
    #expect(left == 0)
    var again = 0
    while again < SACKScoreboard.recordsMax, pool.take(Self.record, held: UInt32(again)) != nil {
      again += 1
    }
    #expect(again > Int(pool.guaranteed))  // what was shared is free again
  }
}
