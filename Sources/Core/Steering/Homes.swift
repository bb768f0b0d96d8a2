// Which worker has which part of the five-tuples: memory that all workers share with the kernel.
//
// A word for each part, 0 while nothing of it lives and the worker's number plus one otherwise. Only who
// finds a 0 may write there, by compare-and-exchange, and only the worker that has a part may give it
// up: so a part has one home at a time, whatever two of them, or a worker and the kernel, do at once.
// Behind the words lie, in cache lines of their own, the number of parts dealt so far, whose turn it is, and
// how many parts each worker has. A part goes to the worker whose turn it is, or to another if that has
// fewer, which is another one each time round: so long conversations are spread evenly too, whatever
// short ones come between.
//
// A packet costs a worker the reading of one word. Words are written when the first flow of a part
// begins and when its last one ends, beside a dozen system calls that each of these costs; that the words
// of sixteen parts share a cache line is nothing next to that.

import Synchronization

package struct Homes: BitwiseCopyable, @unchecked Sendable {
  static let partBits = 14
  package static let partCount = 1 << partBits
  /// Where the count of parts dealt lies, octets from the start.
  static let dealtOffset = partCount * MemoryLayout<UInt32>.stride
  /// Where the counts of the workers' parts lie, and how far from each other.
  static let loadsOffset = dealtOffset + 1 << lineBits
  static let lineBits = 7
  /// What `memory` must have.
  package static let octets = loadsOffset + Steering.workersMax << lineBits

  private let memory: UnsafeMutableRawPointer

  /// - Parameter memory: `octets` of zeros, at a border of eight octets, that stay as long as the value.
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
    load(worker).pointee.wrappingAdd(1, ordering: .relaxed)
    return worker
  }

  /// Gives up a part that is a worker's and of which nothing lives.
  package func leave(_ part: Int) {
    guard let home = self[part] else { return }
    load(home).pointee.wrappingSubtract(1, ordering: .relaxed)
    word(part).pointee.store(0, ordering: .relaxed)
  }

  /// Parts that a worker has.
  package func load(of worker: Int) -> Int {
    Int(load(worker).pointee.load(ordering: .relaxed))
  }

  func deal(_ part: Int, among workers: Int) -> Int {
    if let home = self[part] { return home }
    let dealt = (memory + Self.dealtOffset).assumingMemoryBound(to: Atomic<UInt32>.self)
    let count = Int(dealt.pointee.wrappingAdd(1, ordering: .relaxed).oldValue)
    let turn = count % workers
    let other = (turn + 1 + count / workers % max(1, workers - 1)) % workers
    return takeVacant(part, for: load(of: turn) > load(of: other) ? other : turn)
  }

  /// All parts are without a home again: for who begins anew with nothing living.
  package func leaveAll() {
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.octets)
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
