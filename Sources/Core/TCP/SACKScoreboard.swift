import Primitives
import Wire

// What is in flight: one record per transmission, in order of sequence number.
//
// A record covers what one frame carried, up to a whole segmentation-offload packet; cumulative and
// selective acknowledgements trim and split records, so that marks always cover whole records. Where a
// block begins or ends, a record is split only into parts of half a segment or more, whatever a peer
// claims; what goes out is cut at segments, and where the peer's window ends. From the marks comes the
// pipe (RFC 6675 §4): in flight, less what has arrived, less what is lost, plus what was sent again.
// What is lost is found in SACKScoreboard+Loss.

package struct SentRecord: BitwiseCopyable {
  package struct Marks: FlagSet, BitwiseCopyable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// Selectively acknowledged.
    package static let arrived = Marks(rawValue: 1)
    package static let lost = Marks(rawValue: 2)
    /// Sent again since it was marked lost, or at all: no RTT sample (Karn).
    package static let resent = Marks(rawValue: 4)
    /// Was sent more than once, or told to have arrived before a time-out that did not believe it: says
    /// nothing of round trips, nor of order.
    package static let ambiguous = Marks(rawValue: 8)
    /// A block split it from what is behind it: it does not end with a segment that may be short.
    package static let front = Marks(rawValue: 16)
  }

  package var start: SequenceNumber
  package var end: SequenceNumber
  package var sentAt: MonotonicInstant
  package var next: UInt32
  package var previous: UInt32
  package var marks: Marks

  package init(
    start: SequenceNumber, end: SequenceNumber, sentAt: MonotonicInstant, next: UInt32,
    previous: UInt32, marks: Marks
  ) {
    self.start = start
    self.end = end
    self.sentAt = sentAt
    self.next = next
    self.previous = previous
    self.marks = marks
  }

  package var octets: Int { end.distance(from: start) }
}

/// What an acknowledgement told.
package struct DeliveryReport {
  /// Octets acknowledged now for the first time, cumulatively or selectively.
  package var deliveredOctets = 0
  /// Of what arrived now, the most that had been sent as one, and once.
  var largestOctets = 0
  /// The same of what was sent more than once, maybe as smaller ones at first.
  var largestAgainOctets = 0
  /// Octets acknowledged cumulatively.
  package var acknowledgedOctets = 0
  package var roundTrip: Interval?
  /// The least round trip known, microseconds.
  var leastRoundTrip = 0

  package init() {}
  /// Octets that were sent again are among them: what arrived with them may have waited for them at
  /// the peer, so `roundTrip` is no measurement (Karn).
  var isAmbiguous = false

  fileprivate mutating func arrived(_ octets: Int, of marks: SentRecord.Marks) {
    if marks.contains(.ambiguous) {
      largestAgainOctets = max(largestAgainOctets, octets)
    } else {
      largestOctets = max(largestOctets, octets)
    }
  }
}

package struct SACKScoreboard: BitwiseCopyable {
  /// Records one flow may have: bounds what a peer can make us split and walk.
  package static let recordsMax = 1024

  var head = noSlot
  private var tail = noSlot
  /// No record before this one waits to be sent again; `noSlot`: nothing is known.
  var waitingFrom = noSlot
  private var recordCount: UInt32 = 0
  var arrivedOctets: UInt32 = 0
  var lostOctets: UInt32 = 0
  var resentOctets: UInt32 = 0
  /// RACK.xmit_ts and RACK.end_seq: the latest-sent record known to have arrived.
  var latestArrivalSentAt = MonotonicInstant.zero
  var latestArrivalEnd = SequenceNumber(0)
  /// RACK.rtt, microseconds.
  var latestArrivalRTT: UInt32 = 0
  /// RACK.fack: the end of the highest sequence number known to have arrived.
  private var highestArrivalEnd = SequenceNumber(0)
  private var knowsHighestArrival = false
  /// RACK.reordering_seen: something arrived behind what was sent after it.
  package internal(set) var seenReordering = false

  /// - Parameter seenReordering: all that is to be known of a path when nothing is in flight: what was
  ///   sent before has arrived, and RACK compares with what is sent from now on.
  package init(seenReordering: Bool = false) { self.seenReordering = seenReordering }

  package var isEmpty: Bool { head == noSlot }
  package var hasLost: Bool { lostOctets > resentOctets }
  package var hasArrived: Bool { arrivedOctets > 0 }
  package var arrived: Int { Int(arrivedOctets) }
  package var lost: Int { Int(lostOctets) }
  package var isFull: Bool { recordCount >= Self.recordsMax }

  /// Octets estimated to be in the network, of `outstanding` that are not acknowledged.
  package func pipe(outstanding: Int) -> Int {
    max(0, outstanding - Int(arrivedOctets) - Int(lostOctets) + Int(resentOctets))
  }

  /// Notes a first transmission behind all others. False when there is no record for it.
  package mutating func sent(
    _ start: SequenceNumber, _ end: SequenceNumber, at now: MonotonicInstant,
    records: inout SentRecordPool
  ) -> Bool {
    guard recordCount < Self.recordsMax,
      let slot = records.take(
        SentRecord(start: start, end: end, sentAt: now, next: noSlot, previous: tail, marks: []),
        held: recordCount)
    else { return false }
    if tail == noSlot { head = slot } else { records[tail].next = slot }
    tail = slot
    recordCount += 1
    return true
  }

  /// The first lost record that is not sent again yet.
  package func firstLost(records: borrowing SentRecordPool) -> UInt32 {
    guard hasLost else { return noSlot }
    var slot = waitingFrom == noSlot ? head : waitingFrom
    while slot != noSlot {
      if waits(records[slot]) { return slot }
      slot = records[slot].next
    }
    return noSlot
  }

  /// Whether it is to be sent again.
  private func waits(_ record: SentRecord) -> Bool {
    record.marks.intersection([.lost, .resent]) == .lost
  }

  package var first: UInt32 { head }
  var last: UInt32 { tail }

  /// Cuts a record after `octets`, so that its front can be sent again alone.
  package mutating func split(_ slot: UInt32, after octets: Int, records: inout SentRecordPool)
    -> Bool
  {
    let record = records[slot]
    let middle = record.start + octets
    guard
      let rest = records.take(
        SentRecord(
          start: middle, end: record.end, sentAt: record.sentAt, next: record.next, previous: slot,
          marks: record.marks), held: recordCount)
    else { return false }
    if record.next == noSlot { tail = rest } else { records[record.next].previous = rest }
    records[slot].end = middle
    records[slot].next = rest
    recordCount += 1
    return true
  }

  /// The same for a record that is to be sent again. Where the next one waits for that too, the rest
  /// becomes part of it: that makes full segments of what was cut differently, and takes no record.
  package mutating func cut(_ slot: UInt32, after octets: Int, records: inout SentRecordPool)
    -> Bool
  {
    let record = records[slot]
    guard record.next != noSlot, waits(record), waits(records[record.next]) else {
      return !isFull && split(slot, after: octets, records: &records)
    }
    records[slot].end = record.start + octets
    records[record.next].start = record.start + octets
    records[record.next].marks.formUnion(record.marks.subtracting(.front))
    return true
  }

  /// Joins the records behind it to one that is to be sent again, as many as wait for that too and make
  /// no more than `octets` with it: small pieces go out in full segments.
  package mutating func join(_ slot: UInt32, upTo octets: Int, records: inout SentRecordPool) {
    guard waits(records[slot]) else { return }
    while records[slot].next != noSlot {
      let next = records[slot].next
      let record = records[next]
      guard waits(record), records[slot].octets + record.octets <= octets else { return }
      records[slot].end = record.end
      records[slot].next = record.next
      records[slot].marks = records[slot].marks.subtracting(.front).union(record.marks)
      if record.next == noSlot { tail = slot } else { records[record.next].previous = slot }
      if waitingFrom == next { waitingFrom = slot }
      records.give(next, held: recordCount)
      recordCount -= 1
    }
  }

  /// Notes that a record was sent again.
  package mutating func resent(
    _ slot: UInt32, at now: MonotonicInstant, records: borrowing SentRecordPool
  ) {
    let octets = UInt32(records[slot].octets)
    if waits(records[slot]) {
      if firstLost(records: records) == slot { waitingFrom = slot }
      resentOctets += octets
      records[slot].marks.insert(.resent)
    }
    records[slot].marks.insert(.ambiguous)
    records[slot].sentAt = now
  }

  /// Takes off everything before `acknowledgment`.
  package mutating func acknowledge(
    upTo acknowledgment: SequenceNumber, at now: MonotonicInstant,
    records: inout SentRecordPool, report: inout DeliveryReport
  ) {
    while head != noSlot {
      let slot = head
      let record = records[slot]
      if record.end.precedesOrEquals(acknowledgment) {
        if !record.marks.contains(.arrived) {
          report.deliveredOctets += record.octets
          arrival(of: record, at: now, report: &report)
        }
        uncount(record.marks, UInt32(record.octets))
        head = record.next
        if head == noSlot { tail = noSlot } else { records[head].previous = noSlot }
        if waitingFrom == slot { waitingFrom = head }
        records.give(slot, held: recordCount)
        recordCount -= 1
      } else {
        if record.start.precedes(acknowledgment) {
          let octets = acknowledgment.distance(from: record.start)
          if !record.marks.contains(.arrived) {
            report.deliveredOctets += octets
            report.arrived(octets, of: record.marks)
          }
          uncount(record.marks, UInt32(octets))
          records[slot].start = acknowledgment
        }
        return
      }
    }
  }

  /// Marks what [block.start, block.end) covers as arrived. A record is split where the block begins or
  /// ends, but no part becomes less than half a segment, other than the last segment of what went out as
  /// one: what would is taken for missing. (Otherwise blocks of an octet each would make as many records,
  /// and as many packets of an octet, of what is in flight.) Segments need not begin where a record does,
  /// since acknowledgements and the window's edge may lie within one.
  /// - Parameter segmentOctets: the least size of those in flight that are full.
  package mutating func acknowledge(
    selectively block: SACKBlock, segmentOctets: Int, at now: MonotonicInstant,
    records: inout SentRecordPool, report: inout DeliveryReport
  ) {
    #if PLANTED_FAULTS
      let segmentOctets = PlantedFault.isPlanted(.splitsAtAnyOctet) ? 1 : segmentOctets
    #endif
    let least = (segmentOctets + 1) / 2
    var slot = head
    while slot != noSlot {
      let record = records[slot]
      if block.end.precedesOrEquals(record.start) { return }
      if record.end.precedesOrEquals(block.start) || record.marks.contains(.arrived) {
        slot = record.next
        continue
      }
      let endsShort = !record.marks.contains(.front)
      var from = max(0, block.start.distance(from: record.start))
      if from > 0 { from = max(from, least) }
      var until = record.octets
      if block.end.precedes(record.end) {
        until = block.end.distance(from: record.start)
        let isBeforeLast = endsShort && until % segmentOctets == 0
        if !isBeforeLast { until = min(until, record.octets - least) }
      }
      let isLast = until == record.octets && (from == 0 || endsShort && from % segmentOctets == 0)
      guard from < until, isLast || until - from >= least else {
        slot = record.next
        continue
      }
      if from > 0 {
        guard !isFull, split(slot, after: from, records: &records) else { return }
        records[slot].marks.insert(.front)
        slot = records[slot].next
      }
      if until < record.octets {
        guard !isFull, split(slot, after: until - from, records: &records) else { return }
        records[slot].marks.insert(.front)
      }
      let whole = records[slot]
      uncount(whole.marks, UInt32(whole.octets))
      report.deliveredOctets += whole.octets
      arrival(of: whole, at: now, report: &report)
      records[slot].marks = whole.marks.subtracting([.lost, .resent]).union(.arrived)
      arrivedOctets += UInt32(whole.octets)
      slot = whole.next
    }
  }

  /// Gives every record back.
  package mutating func discard(records: inout SentRecordPool) {
    while head != noSlot {
      let next = records[head].next
      records.give(head, held: recordCount)
      recordCount -= 1
      head = next
    }
    self = SACKScoreboard()
  }

  /// Whether the peer has given up what it said had arrived (reneging, RFC 2018 §8): its
  /// acknowledgement stops right in front of it.
  package func wasReneged(records: borrowing SentRecordPool) -> Bool {
    head != noSlot && records[head].marks.contains(.arrived)
  }

  /// Segments in flight, counted up to `most`.
  package func segments(
    _ segmentOctets: Int, most: Int, records: borrowing SentRecordPool
  ) -> Int {
    var count = 0
    var slot = head
    while slot != noSlot, count < most {
      count += (records[slot].octets + segmentOctets - 1) / segmentOctets
      slot = records[slot].next
    }
    return min(count, most)
  }

  private mutating func uncount(_ marks: SentRecord.Marks, _ octets: UInt32) {
    if marks.contains(.arrived) { arrivedOctets -= octets }
    if marks.contains(.lost) { lostOctets -= octets }
    if marks.contains(.lost), marks.contains(.resent) { resentOctets -= octets }
  }

  /// A record arrived: RTT sample (Karn: only if it was sent once) and RACK's state (§6.2 step 2).
  private mutating func arrival(
    of record: SentRecord, at now: MonotonicInstant, report: inout DeliveryReport
  ) {
    report.arrived(record.octets, of: record.marks)
    let roundTrip = now - record.sentAt
    if record.marks.contains(.ambiguous) {
      report.isAmbiguous = true
      // Sooner than any round trip: it is the original that arrived (RFC 8985 §6.2, step 2).
      guard roundTrip.microseconds >= report.leastRoundTrip else { return }
    } else {
      report.roundTrip = roundTrip
      if knowsHighestArrival, record.end.precedes(highestArrivalEnd) { seenReordering = true }
    }
    if !knowsHighestArrival || highestArrivalEnd.precedes(record.end) {
      knowsHighestArrival = true
      highestArrivalEnd = record.end
    }
    if latestArrivalSentAt < record.sentAt
      || (latestArrivalSentAt == record.sentAt && latestArrivalEnd.precedes(record.end))
    {
      latestArrivalSentAt = record.sentAt
      latestArrivalEnd = record.end
      latestArrivalRTT = UInt32(clamping: roundTrip.microseconds)
    }
  }
}
