// Which of several workers a flow lives on.
//
// Workers share nothing, so everything about a five-tuple (its flow, the endpoint that rests in
// TIME-WAIT, the cookie that may come back) must be found on one of them: its home. Home is a keyed
// hash of the addresses and ports, fixed for the daemon's life, and known in two places: here, and in
// the program that the kernel runs for each packet to choose a queue (`SteeringProgram`). Both
// compute the same, and what the kernel gets wrong all the same, or was never asked, is handed over.
//
// The hash is symmetric: client and virtual address may change places. So a packet of ours that an
// ICMP error quotes leads home like one of the client's, and whoever opens a connection through the
// device can try source ports until `worker(of:)` names the worker that it is to live on.
//
// What has ports that are cheap to find is hashed by addresses and ports: TCP and UDP over IPv4 with
// whatever options, and over IPv6 right behind the fixed header. Everything else goes by addresses
// alone (`worker(of:_:)`): fragments, of which only the first has ports, other protocols, and IPv6
// packets with extension headers, whose walk would cost every packet a loop. Fragments are joined
// on the worker of their addresses. A packet whose headers turn out to name a flow is then handed to
// the flow's home.
//
// The keys keep clients from aiming all their flows at one worker. It is no cryptographic hash: what it
// yields shows by timing at most.

import Wire

/// The assignment of flows to workers; the same for the same keys.
package struct Steering: Sendable, BitwiseCopyable {
  /// The number of workers, 1...workersMax.
  package let workers: Int
  package static let workersMax = 256

  /// Exclusive-or'ed with an address's first half.
  let whitening: UInt64
  /// Odd factors: of an address's first half, its second, the port, and the sum.
  let factors: (UInt64, UInt64, UInt64, UInt64)

  /// - Parameters:
  ///   - workers: 1...workersMax.
  ///   - seed: from the system's entropy, drawn once at start and told to nobody.
  package init(workers: Int, seed: (UInt64, UInt64)) {
    precondition(1...Self.workersMax ~= workers, "workers")
    self.workers = workers
    // SplitMix64 spreads the seed: equal or empty halves make no weak keys.
    var state = seed.0
    func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state ^ seed.1
      z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
      return z ^ z >> 31
    }
    whitening = next()
    factors = (next() | 1, next() | 1, next() | 1, next() | 1)
  }

  /// The home of a flow: 0..<workers.
  @inline(__always)
  package func worker(of tuple: FiveTuple) -> Int {
    worker(tuple.client, tuple.clientPort, tuple.virtual, tuple.virtualPort)
  }

  /// Where packets go that are hashed by their addresses alone, in whichever order: 0..<workers.
  package func worker(of source: IPAddress, _ destination: IPAddress) -> Int {
    worker(source, 0, destination, 0)
  }

  @inline(__always)
  private func worker(
    _ first: IPAddress, _ firstPort: UInt16, _ second: IPAddress, _ secondPort: UInt16
  ) -> Int {
    let sum = mixed(first, firstPort) &+ mixed(second, secondPort)
    return Int(((sum &* factors.3) >> 32 &* UInt64(workers)) >> 32)
  }

  @inline(__always)
  private func mixed(_ address: IPAddress, _ port: UInt16) -> UInt64 {
    var x = mixed(high: address.high) ^ address.low
    x = x &* factors.1
    x ^= x >> 32
    x ^= UInt64(port)
    x = x &* factors.2
    return x ^ x >> 32
  }

  /// The part that an address's first half takes; the same for all IPv4 addresses.
  @inline(__always)
  func mixed(high: UInt64) -> UInt64 {
    let x = (high ^ whitening) &* factors.0
    return x ^ x >> 32
  }
}
