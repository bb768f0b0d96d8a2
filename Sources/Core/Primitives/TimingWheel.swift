// Deadlines by slot number: at most one each, armed, moved and taken back in constant time.
//
// A wheel of wheels: eight levels of 64 buckets over ticks of 2^16 ns (66 µs, just above the slack
// of the kernel's own timers), which is all of a 64-bit instant, so that no deadline is too far
// away to be placed. An entry stands at the level of the highest tick digit in which its deadline
// differs from `baseTick`. Three invariants follow, and everything here leans on them:
//
// - a level's entries lie in the same block of the level above as `baseTick`, so the first occupied
//   bucket of the lowest occupied level is the earliest of all;
// - no bucket ends before `baseTick`, so a bitmap's lowest bit is its level's earliest bucket;
// - an entry only ever cascades downwards, so its moves are bounded by the number of levels.
//
// Each bucket knows a lower bound of its deadlines: exact until an entry leaves it early. With it
// `nextDeadline` names a deadline and never the mere turn of a wheel, and an owner that sleeps until
// then sleeps without interruption. Deadlines are kept to the nanosecond; ticks only order them.
// Entries that are due at one call come out in no particular order. Slots' memory is touched when
// they are first armed.

/// A set of at most one deadline for each slot number below a capacity.
package struct TimingWheel: ~Copyable {
  private struct Entry: BitwiseCopyable {
    var deadline: UInt64
    var next: UInt32
    var previous: UInt32  // none: first in its bucket
    var bucket: UInt16  // unarmed: in no bucket
  }

  private struct Bucket: BitwiseCopyable {
    var head: UInt32
    var earliest: UInt64  // a lower bound while the bucket has entries
  }

  private static let tickBits: UInt64 = 16
  private static let digitBits: UInt64 = 6
  private static let levelCount = 8
  private static let bucketsPerLevel = 64
  private static let none = UInt32.max
  private static let unarmed = UInt16.max
  /// The bucket behind all levels: entries found due and not yet handed out.
  private static let due = levelCount * bucketsPerLevel

  private let entries: UnsafeMutablePointer<Entry>
  private let buckets: UnsafeMutablePointer<Bucket>
  private let occupied: UnsafeMutablePointer<UInt64>  // a bit for each bucket of a level
  private var occupiedLevels: UInt8 = 0
  private var baseTick: UInt64
  private var touched: UInt32 = 0
  package let capacity: UInt32
  /// Slots armed now.
  package private(set) var count: UInt32 = 0

  /// - Parameters:
  ///   - capacity: slot numbers are below it; 24 octets each once armed.
  ///   - origin: the present; an earlier deadline is due at once.
  package init(capacity: Int, origin: MonotonicInstant) {
    precondition(capacity > 0 && capacity < Int(UInt32.max), "wheel capacity")
    self.capacity = UInt32(capacity)
    entries = .allocate(capacity: capacity)
    buckets = .allocate(capacity: Self.due + 1)
    buckets.initialize(repeating: Bucket(head: Self.none, earliest: 0), count: Self.due + 1)
    occupied = .allocate(capacity: Self.levelCount)
    occupied.initialize(repeating: 0, count: Self.levelCount)
    baseTick = origin.nanoseconds >> Self.tickBits
  }

  deinit {
    entries.deallocate()
    buckets.deallocate()
    occupied.deallocate()
  }

  package func isArmed(_ slot: UInt32) -> Bool {
    precondition(slot < capacity, "wheel slot")
    return slot < touched && entries[Int(slot)].bucket != Self.unarmed
  }

  /// The instant the slot is armed for; nil when it is not armed.
  package func deadline(of slot: UInt32) -> MonotonicInstant? {
    guard isArmed(slot) else { return nil }
    return MonotonicInstant(nanoseconds: entries[Int(slot)].deadline)
  }

  /// Arms the slot for `instant`, which replaces what it was armed for.
  package mutating func arm(_ slot: UInt32, at instant: MonotonicInstant) {
    precondition(slot < capacity, "wheel slot")
    touch(slot)
    let entry = entries + Int(slot)
    if entry.pointee.bucket == Self.unarmed {
      count += 1
    } else if entry.pointee.deadline == instant.nanoseconds {
      return
    } else {
      unlink(slot)
    }
    entry.pointee.deadline = instant.nanoseconds
    place(slot)
  }

  /// Disarms the slot if it is armed.
  package mutating func disarm(_ slot: UInt32) {
    guard isArmed(slot) else { return }
    unlink(slot)
    entries[Int(slot)].bucket = Self.unarmed
    count -= 1
  }

  /// When `popDue` is to be called next; nil when nothing is armed.
  ///
  /// No armed deadline is earlier, except that while due slots have not all been popped it is the
  /// deadline of one of them. It is the earliest deadline itself unless an entry near it was moved or
  /// disarmed: then it may be one that is gone, and `popDue` at that instant puts the bound right.
  package func nextDeadline() -> MonotonicInstant? {
    let head = buckets[Self.due].head
    if head != Self.none { return MonotonicInstant(nanoseconds: entries[Int(head)].deadline) }
    guard let bucket = earliestBucket() else { return nil }
    return MonotonicInstant(nanoseconds: buckets[bucket].earliest)
  }

  /// Disarms and returns a slot whose deadline is `now` or earlier; nil when there is none.
  ///
  /// - Parameter now: never earlier than at the last call.
  package mutating func popDue(at now: MonotonicInstant) -> UInt32? {
    if buckets[Self.due].head == Self.none { collectDue(at: now.nanoseconds) }
    let slot = buckets[Self.due].head
    if slot == Self.none { return nil }
    disarm(slot)
    return slot
  }

  // MARK: Buckets

  /// The occupied bucket that holds the earliest deadline.
  private func earliestBucket() -> Int? {
    if occupiedLevels == 0 { return nil }
    let level = occupiedLevels.trailingZeroBitCount
    return level * Self.bucketsPerLevel + occupied[level].trailingZeroBitCount
  }

  /// Moves due entries to the due list, until some are there or none is due; brings `baseTick`
  /// up to `now` as far as no entry is passed.
  private mutating func collectDue(at now: UInt64) {
    let nowTick = max(now >> Self.tickBits, baseTick)
    while buckets[Self.due].head == Self.none {
      guard let bucket = earliestBucket() else {
        baseTick = nowTick
        return
      }
      let (first, last) = ticks(of: bucket)
      if first > nowTick {
        baseTick = nowTick
        return
      }
      baseTick = max(baseTick, min(nowTick, last))
      // A bucket of the lowest level has no level to cascade to: it waits for its first deadline.
      if bucket < Self.bucketsPerLevel && buckets[bucket].earliest > now { return }
      redistribute(bucket, at: now)
    }
  }

  /// The ticks whose deadlines the bucket holds as seen from `baseTick`.
  private func ticks(of bucket: Int) -> (first: UInt64, last: UInt64) {
    let shift = UInt64(bucket / Self.bucketsPerLevel) * Self.digitBits
    let digit = UInt64(bucket % Self.bucketsPerLevel)
    let first = ((baseTick >> shift) & ~63 | digit) << shift
    return (first, first | ((1 << shift) - 1))
  }

  /// Empties a bucket that begins at `baseTick` or earlier: due entries to the due list, the others
  /// to where they belong from now on.
  private mutating func redistribute(_ bucket: Int, at now: UInt64) {
    var slot = buckets[bucket].head
    buckets[bucket].head = Self.none
    markEmpty(bucket)
    while slot != Self.none {
      let next = entries[Int(slot)].next
      if entries[Int(slot)].deadline <= now {
        push(slot, to: Self.due)
      } else {
        place(slot)
      }
      slot = next
    }
  }

  /// Puts an entry that is in no bucket into the one its deadline names.
  private mutating func place(_ slot: UInt32) {
    let tick = max(entries[Int(slot)].deadline >> Self.tickBits, baseTick)
    let differing = UInt64.bitWidth - 1 - ((tick ^ baseTick) | 1).leadingZeroBitCount
    let level = differing / Int(Self.digitBits)
    let digit = Int(truncatingIfNeeded: tick >> (UInt64(level) * Self.digitBits)) & 63
    occupied[level] |= 1 << UInt64(digit)
    occupiedLevels |= 1 << UInt8(level)
    push(slot, to: level * Self.bucketsPerLevel + digit)
  }

  private mutating func push(_ slot: UInt32, to bucket: Int) {
    let entry = entries + Int(slot)
    let head = buckets[bucket].head
    entry.pointee.next = head
    entry.pointee.previous = Self.none
    entry.pointee.bucket = UInt16(truncatingIfNeeded: bucket)
    if head == Self.none {
      buckets[bucket].earliest = entry.pointee.deadline
    } else {
      entries[Int(head)].previous = slot
      buckets[bucket].earliest = min(buckets[bucket].earliest, entry.pointee.deadline)
    }
    buckets[bucket].head = slot
  }

  private mutating func unlink(_ slot: UInt32) {
    let entry = entries[Int(slot)]
    if entry.next != Self.none { entries[Int(entry.next)].previous = entry.previous }
    if entry.previous != Self.none {
      entries[Int(entry.previous)].next = entry.next
      return
    }
    let bucket = Int(entry.bucket)
    buckets[bucket].head = entry.next
    if entry.next == Self.none && bucket != Self.due { markEmpty(bucket) }
  }

  private mutating func markEmpty(_ bucket: Int) {
    let level = bucket / Self.bucketsPerLevel
    occupied[level] &= ~(1 << UInt64(bucket % Self.bucketsPerLevel))
    if occupied[level] == 0 { occupiedLevels &= ~(1 << UInt8(level)) }
  }

  private mutating func touch(_ slot: UInt32) {
    let fresh = Entry(deadline: 0, next: Self.none, previous: Self.none, bucket: Self.unarmed)
    while touched <= slot {
      (entries + Int(touched)).initialize(to: fresh)
      touched += 1
    }
  }
}
