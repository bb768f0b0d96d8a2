import Primitives
import Wire

// What is lost of what is in flight. By time as RACK tells it (RFC 8985 §6.2): a record is lost when
// one sent later has arrived and the reordering window has passed; else by duplicate acknowledgements,
// by the timer, or by its size. Marks and counters change together: `lostOctets` counts what is marked
// lost, `resentOctets` what of it was sent again since, and `waitingFrom` is never behind the first
// that waits for that.

extension SACKScoreboard {
  /// Marks as lost what was sent sufficiently long before something that has arrived
  /// (RFC 8985 §6.2, step 5).
  /// - Returns: whether anything is newly lost, and when to look again.
  package mutating func detectLoss(
    reorderingWindow: Interval, at now: MonotonicInstant, records: borrowing SentRecordPool
  ) -> (found: Bool, lookAgainAt: MonotonicInstant?) {
    guard latestArrivalSentAt != .zero else { return (false, nil) }
    let wait = Interval.microseconds(Int(latestArrivalRTT)) + reorderingWindow
    var found = false
    var again: MonotonicInstant?
    var slot = head
    while slot != noSlot {
      let current = slot
      let record = records[current]
      slot = record.next
      if record.marks.contains(.arrived) { continue }
      if record.marks.contains(.lost) && !record.marks.contains(.resent) { continue }
      guard sentBeforeLatestArrival(record) else {
        // First transmissions go by sequence: none is earlier.
        if record.marks.isDisjoint(with: [.lost, .resent, .ambiguous]) { break }
        continue
      }
      let due = record.sentAt + wait
      if due <= now {
        markLost(current, records: records)
        found = true
      } else if again.map({ due < $0 }) ?? true {
        again = due
      }
    }
    return (found, again)
  }

  /// Marks the first segment lost: three duplicate acknowledgements from a peer without SACK
  /// (RFC 5681 §3.2), or a partial acknowledgement (RFC 6582 §3.2).
  package mutating func loseFirst(segmentOctets: Int, records: inout SentRecordPool) {
    guard head != noSlot, records[head].marks.isDisjoint(with: [.lost, .arrived]) else { return }
    if records[head].octets > segmentOctets, !isFull {
      _ = split(head, after: segmentOctets, records: &records)
    }
    records[head].marks.insert(.lost)
    lostOctets += UInt32(records[head].octets)
    waitingFrom = head
  }

  /// Marks the first record lost, and not sent again since then: it went into a closed window.
  package mutating func loseProbe(records: borrowing SentRecordPool) {
    guard head != noSlot else { return }
    let marks = records[head].marks.intersection([.arrived, .lost, .resent])
    guard marks.isEmpty || marks == [.lost, .resent] else { return }
    markLost(head, records: records)
  }

  /// Marks everything lost, also what was selectively acknowledged: the retransmission timer
  /// expired, and the peer may have reneged (RFC 2018 §8).
  package mutating func loseAll(records: borrowing SentRecordPool) {
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.trustsTakenBackBlocks) {
        return loseAllButArrived(records: records)
      }
    #endif
    arrivedOctets = 0
    resentOctets = 0
    lostOctets = 0
    var slot = head
    while slot != noSlot {
      var marks = records[slot].marks
      if marks.contains(.arrived) { marks.insert(.ambiguous) }
      records[slot].marks = marks.subtracting([.arrived, .resent]).union(.lost)
      lostOctets += UInt32(records[slot].octets)
      slot = records[slot].next
    }
    waitingFrom = head
    latestArrivalSentAt = .zero
  }

  /// Marks as lost, and not sent again, what was sent in larger segments and has not arrived: the path
  /// does not take them.
  package mutating func loseLarger(than octets: Int, records: borrowing SentRecordPool) {
    var slot = head
    while slot != noSlot {
      let record = records[slot]
      if record.octets > octets, !record.marks.contains(.arrived),
        !record.marks.contains(.lost) || record.marks.contains(.resent)
      {
        markLost(slot, records: records)
      }
      slot = record.next
    }
  }

  #if PLANTED_FAULTS
    private mutating func loseAllButArrived(records: borrowing SentRecordPool) {
      resentOctets = 0
      lostOctets = 0
      var slot = head
      while slot != noSlot {
        records[slot].marks.remove(.resent)
        if !records[slot].marks.contains(.arrived) {
          records[slot].marks.insert(.lost)
          lostOctets += UInt32(records[slot].octets)
        }
        slot = records[slot].next
      }
      waitingFrom = head
      latestArrivalSentAt = .zero
    }
  #endif

  /// Nothing is lost after all: takes back what is marked, and knows that the path reorders.
  package mutating func loseNothing(records: borrowing SentRecordPool) {
    var slot = head
    while slot != noSlot {
      records[slot].marks.subtract([.lost, .resent])
      slot = records[slot].next
    }
    lostOctets = 0
    resentOctets = 0
    seenReordering = true
  }

  private mutating func markLost(_ slot: UInt32, records: borrowing SentRecordPool) {
    let octets = UInt32(records[slot].octets)
    if waitingFrom != noSlot, records[slot].start.precedes(records[waitingFrom].start) {
      waitingFrom = slot
    }
    if records[slot].marks.contains(.lost) {
      resentOctets -= octets  // the retransmission was lost too
      records[slot].marks.remove(.resent)
    } else {
      records[slot].marks.insert(.lost)
      lostOctets += octets
    }
  }

  private func sentBeforeLatestArrival(_ record: SentRecord) -> Bool {
    record.sentAt < latestArrivalSentAt
      || (record.sentAt == latestArrivalSentAt && record.end.precedes(latestArrivalEnd))
  }
}
