import Primitives

// The endpoints of all flows: those that have something to do in full, all others asleep.
//
// Endpoints that are awake lie in a slab of their own, each for the flow slot that it belongs to. Nothing
// has to say that one may sleep: when one is to be woken and many are awake already, a hand goes round
// over these, as in the clock algorithm for pages, and puts a few to sleep which may and were not used
// since it came by last. So the slab grows as far as endpoints are busy at once, a busy one is never
// packed and unpacked, and with few connections none is at all. Sleep shows to nobody:
// `DormantEndpoint` says what it costs. A slot that is not opened must not be asked for.

package struct EndpointTable: ~Copyable {
  private struct Place: BitwiseCopyable {
    /// Where the endpoint lies among those that are awake; `noSlot`: it sleeps.
    var awake: UInt32
    var wasUsed: Bool
    var dormant: DormantEndpoint?
  }

  /// Endpoints that are awake without any being put to sleep for it.
  package static let awakeFew = 64
  /// How far the hand goes for one that is woken.
  private static let looksMax = 4

  private var awake: Slab<TCPEndpoint>
  /// The flow slots of those that are awake.
  private let owners: UnsafeMutablePointer<UInt32>
  private let places: UnsafeMutablePointer<Place>
  private var hand: UInt32 = 0
  private let awakeFew: UInt32
  private let settings: TCPSettings

  /// Endpoints in full.
  package var awakeCount: Int { Int(awake.count) }
  /// Octets for each slot that was ever opened; an endpoint that is awake takes its own besides.
  package static var placeOctets: Int { MemoryLayout<Place>.stride }

  /// - Parameters:
  ///   - capacity: flow slots.
  ///   - settings: those of all endpoints; segment sizes, keep-alive and algorithms may differ.
  package init(capacity: Int, awakeFew: Int = Self.awakeFew, settings: TCPSettings) {
    awake = Slab(capacity: capacity)
    owners = .allocate(capacity: capacity)
    places = .allocate(capacity: capacity)
    self.awakeFew = UInt32(clamping: awakeFew)
    self.settings = settings
  }

  deinit {
    owners.deallocate()
    places.deallocate()
  }

  /// A flow begins.
  package mutating func open(_ slot: UInt32, _ endpoint: TCPEndpoint) {
    (places + Int(slot)).initialize(to: Place(awake: noSlot, wasUsed: true, dormant: nil))
    _ = place(endpoint, slot)
  }

  /// The flow is over; the endpoint was released.
  package mutating func close(_ slot: UInt32) {
    let index = places[Int(slot)].awake
    guard index != noSlot else { return }
    places[Int(slot)].awake = noSlot
    owners[Int(index)] = noSlot
    awake.give(index)
  }

  /// The flow's endpoint, awake.
  package subscript(slot: UInt32) -> TCPEndpoint {
    mutating unsafeAddress { UnsafePointer(address(slot)) }
    mutating unsafeMutableAddress { address(slot) }
  }

  private mutating func address(_ slot: UInt32) -> UnsafeMutablePointer<TCPEndpoint> {
    let place = places + Int(slot)
    var index = place.pointee.awake
    if index == noSlot { index = wake(slot) }
    place.pointee.wasUsed = true
    return awake.pointer(index)
  }

  // MARK: Questions that wake nobody

  /// See `TCPEndpoint.nextDeadline`.
  package func nextDeadline(_ slot: UInt32) -> MonotonicInstant {
    let index = places[Int(slot)].awake
    guard index == noSlot else { return awake[index].nextDeadline }
    return places[Int(slot)].dormant?.nextDeadline ?? .distantFuture
  }

  package func state(_ slot: UInt32) -> TCPState {
    let index = places[Int(slot)].awake
    guard index == noSlot else { return awake[index].state }
    return places[Int(slot)].dormant?.state ?? .closed
  }

  /// See `TCPEndpoint.keptOctets`: one that sleeps keeps nothing.
  package func keptOctets(_ slot: UInt32, memory: borrowing TCPMemory) -> Int {
    let index = places[Int(slot)].awake
    return index == noSlot ? 0 : awake[index].keptOctets(memory: memory)
  }

  /// Octets towards the client that it has not acknowledged.
  package func unacknowledgedOctets(_ slot: UInt32) -> Int {
    let index = places[Int(slot)].awake
    return index == noSlot ? 0 : Int(awake[index].send.buffer.octets)
  }

  // MARK: Sleep

  private mutating func wake(_ slot: UInt32) -> UInt32 {
    guard let dormant = places[Int(slot)].dormant else { preconditionFailure("endpoint") }
    return place(dormant.woken(settings: settings), slot)
  }

  private mutating func place(_ endpoint: TCPEndpoint, _ slot: UInt32) -> UInt32 {
    if awake.count >= awakeFew { putSomeToSleep() }
    guard let index = awake.take(endpoint) else { preconditionFailure("a place for every flow") }
    owners[Int(index)] = slot
    places[Int(slot)].awake = index
    return index
  }

  private mutating func putSomeToSleep() {
    guard awake.touchedCount > 0 else { return }
    for _ in 0..<Self.looksMax {
      hand = hand + 1 < awake.touchedCount ? hand + 1 : 0
      let slot = owners[Int(hand)]
      guard slot != noSlot else { continue }
      if places[Int(slot)].wasUsed {
        places[Int(slot)].wasUsed = false
      } else {
        putToSleep(slot)
      }
    }
  }

  /// Puts to sleep whatever may: for a long silence that its owner knows of, and for tests.
  package mutating func putAllToSleep() {
    for index in 0..<awake.touchedCount where owners[Int(index)] != noSlot {
      putToSleep(owners[Int(index)])
    }
  }

  private mutating func putToSleep(_ slot: UInt32) {
    let index = places[Int(slot)].awake
    guard let dormant = DormantEndpoint(awake[index], settings: settings) else { return }
    places[Int(slot)].dormant = dormant
    close(slot)
  }
}
