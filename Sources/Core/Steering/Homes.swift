// Which worker has which part of the five-tuples: memory that all workers share with the kernel.
//
// A word for each part, 0 while nothing of it lives and the worker's number plus one otherwise. Only who
// finds a 0 may write there, by compare-and-exchange, and only the worker that has a part may give it
// up: so a part has one home at a time, whatever two of them, or a worker and the kernel, do at once. A
// word says all there is to say about its part, and so the order of writes to several means nothing.
//
// Behind the words lies, in a cache line each, how many parts a worker has in which a conversation goes on:
// its load, by which new ones are dealt. It counts conversations, not what they cost: nobody knows
// beforehand which will be heavy.
//
// A packet of a flow costs a worker the reading of one word. Words and loads are written as the first
// flow of a part begins and the last one ends, and for packets that begin none, some cache misses each;
// that the words of sixteen parts share a line is nothing next to that. Then lies until when SYN cookies
// may come back, which is written once a second while there are any. Last lies who was dealt the newest
// part: flows that begin together are often of one kind, and where loads are equal, who has the one does
// not get the next.

import Synchronization

package struct Homes: BitwiseCopyable, @unchecked Sendable {
  static let partBits = 14
  package static let partCount = 1 << partBits
  /// Where the loads lie, octets from the start, and how far from each other.
  static let loadsOffset = partCount * MemoryLayout<UInt32>.stride
  static let lineBits = 7
  static let cookiesOffset = loadsOffset + Steering.workersMax << lineBits
  static let newestOffset = cookiesOffset + 1 << lineBits
  /// What `memory` must have.
  package static let octets = newestOffset + 1 << lineBits

  private let memory: UnsafeMutableRawPointer

  /// - Parameter memory: `octets` of zeros, at a border of 128 octets, that stay as long as the value.
  package init(_ memory: UnsafeMutableRawPointer) { self.memory = memory }

  /// With memory of this process, which stays as long as it runs.
  package static func ofProcess() -> Homes {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: octets, alignment: 128)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: octets)
    return Homes(memory)
  }

  /// A part's home; nil where nothing of it lives.
  @inline(__always)
  package subscript(part: Int) -> Int? {
    let word = word(part).pointee.load(ordering: .relaxed)
    return word == 0 ? nil : Int(word) - 1
  }

  /// Takes a part for a worker unless another has it.
  /// - Returns: its home from now on.
  @inline(__always)
  package func take(_ part: Int, for worker: Int) -> Int {
    self[part] ?? takeVacant(part, for: worker)
  }

  @inline(never)
  private func takeVacant(_ part: Int, for worker: Int) -> Int {
    let (isTaken, word) = word(part).pointee.compareExchange(
      expected: 0, desired: UInt32(worker) + 1, ordering: .relaxed)
    guard isTaken else { return Int(word) - 1 }
    addLoad(of: worker)
    return worker
  }

  /// Takes a part for that of two workers which has less load; if both have the same, for the first, but
  /// not if it was dealt the newest.
  /// - Returns: its home from now on.
  func deal(_ part: Int, to first: Int, or second: Int) -> Int {
    if let home = self[part] { return home }
    let firstLoad = load(of: first)
    let secondLoad = load(of: second)
    let firstHasNewest = newest.pointee.load(ordering: .relaxed) == UInt32(first) + 1
    let isSecond = firstLoad > secondLoad || firstLoad == secondLoad && firstHasNewest
    let chosen = isSecond ? second : first
    let home = takeVacant(part, for: chosen)
    if home == chosen { newest.pointee.store(UInt32(home) + 1, ordering: .relaxed) }
    return home
  }

  /// Who was dealt the newest part, plus one; 0: nobody yet.
  private var newest: UnsafeMutablePointer<Atomic<UInt32>> {
    (memory + Self.newestOffset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  /// Gives up a part of which nothing lives, if it is a worker's.
  /// - Parameter isLoad: it counts in the worker's load.
  package func leave(_ part: Int, of worker: Int, isLoad: Bool = true) {
    guard self[part] == worker else { return }
    if isLoad { subtractLoad(of: worker) }
    word(part).pointee.store(0, ordering: .relaxed)
  }

  // MARK: Loads

  package func load(of worker: Int) -> Int {
    Int(load(worker).pointee.load(ordering: .relaxed))
  }

  /// A conversation begins in a part that a worker has.
  package func addLoad(of worker: Int) {
    load(worker).pointee.wrappingAdd(1, ordering: .relaxed)
  }

  /// No conversation goes on any more in a part that a worker keeps.
  package func subtractLoad(of worker: Int) {
    load(worker).pointee.wrappingSubtract(1, ordering: .relaxed)
  }

  // MARK: Cookies

  /// Until when a SYN cookie may come back, to whichever worker: nanoseconds of the monotonic clock.
  package var cookiesUntil: UInt64 { cookies.pointee.load(ordering: .relaxed) }

  /// A cookie is out that is good until then.
  package func extendCookies(until end: UInt64) {
    cookies.pointee.max(end, ordering: .relaxed)
  }

  private var cookies: UnsafeMutablePointer<Atomic<UInt64>> {
    (memory + Self.cookiesOffset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  private func load(_ worker: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    precondition(0..<Steering.workersMax ~= worker, "worker")
    return (memory + Self.loadsOffset + worker << Self.lineBits)
      .assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  @inline(__always)
  private func word(_ part: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    precondition(0..<Self.partCount ~= part, "part")
    return memory.assumingMemoryBound(to: Atomic<UInt32>.self) + part
  }
}
