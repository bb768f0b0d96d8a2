// Which of several workers a flow lives on.
//
// Workers share nothing, so everything about a five-tuple (its flow, the endpoint that rests in
// TIME-WAIT) must be found on one of them: its home. Five-tuples are divided into many parts by a keyed
// hash, and a part has a home while anything of it lives: the worker that took it last. One that has none
// is dealt when a packet of it comes, to that of two workers, which the hash names, that has fewer
// conversations, or if both have as many, to the one that did not get the newest. So they are spread evenly,
// however few they are: a home that the hash alone decided would bring two streams together as often as
// not, and of 32 connections at a time 20 and more would wait for one of two workers
// (Tests/Benchmarks/TRIED.md). A flow of a part that has a home already lives there, whoever has fewer: of
// a thousand flows, one in sixteen.
//
// Whose home a part is stands in memory (`Homes`) that all workers and the program share which the
// kernel runs for each packet to choose a queue (`SteeringProgram`). The program deals; a worker that
// is brought a packet of a part without home, or begins a flow, takes it. What came to another than its
// home is handed over.
//
// The hash is symmetric: client and virtual address may change places. So a packet of ours that an
// ICMP error quotes leads home like one of the client's, and whoever opens a connection through the
// device can look for source ports whose part nobody has, and take it.
//
// What has ports that are cheap to find is hashed by addresses and ports: TCP and UDP over IPv4 with
// whatever options, and over IPv6 right behind the fixed header. Everything else goes by addresses
// alone (`worker(of:_:)`): fragments, of which only the first has ports, other protocols, and IPv6
// packets with extension headers, whose walk would cost every packet a loop. Fragments are joined
// on the worker of their addresses. A packet whose headers turn out to name a flow is then handed to
// the flow's home.
//
// The keys keep clients from knowing whom a flow may be dealt to. It is no cryptographic hash: what it yields
// shows by timing at most.

import Wire

/// The assignment of flows to workers.
package struct Steering: Sendable, BitwiseCopyable {
  /// The number of workers, 1...workersMax.
  package let workers: Int
  package static let workersMax = 256

  package let homes: Homes
  /// Exclusive-or'ed with an address's first half.
  let whitening: UInt64
  /// Odd factors: of an address's first half, its second, the port, and the sum.
  let factors: (UInt64, UInt64, UInt64, UInt64)

  /// - Parameters:
  ///   - workers: 1...workersMax.
  ///   - seed: from the system's entropy, drawn once at start and told to nobody.
  ///   - homes: of no other steering, all parts without one.
  package init(workers: Int, seed: (UInt64, UInt64), homes: Homes) {
    precondition(1...Self.workersMax ~= workers, "workers")
    self.workers = workers
    self.homes = homes
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

  /// The part that a five-tuple belongs to: 0..<Homes.partCount.
  @inline(__always)
  package func part(of tuple: FiveTuple) -> Int { Self.part(sum(tuple)) }

  private static func part(_ sum: UInt64) -> Int { Int(sum >> UInt64(64 - Homes.partBits)) }

  /// Bits of the sum that choose the second worker; those between them and the part's choose the first.
  static let secondBits = 18

  /// The home of a five-tuple; nil while nothing of its part lives.
  package func home(of tuple: FiveTuple) -> Int? { homes[part(of: tuple)] }

  /// The worker that a packet of a flow is brought to: its home, and where it has none, the one that it is
  /// dealt to, which has it from then on. The kernel's program does the same.
  package func deal(_ tuple: FiveTuple) -> Int {
    let sum = sum(tuple)
    let first = Int(((sum >> UInt64(Self.secondBits) & 0xffff_ffff) &* UInt64(workers)) >> 32)
    let bits = Int(sum & (1 << UInt64(Self.secondBits) - 1))
    let second = (first + 1 + bits % max(1, workers - 1)) % workers
    return homes.deal(Self.part(sum), to: first, or: second)
  }

  /// Where packets go that are hashed by their addresses alone, in whichever order: 0..<workers.
  package func worker(of source: IPAddress, _ destination: IPAddress) -> Int {
    Int((sum(source, 0, destination, 0) >> 32 &* UInt64(workers)) >> 32)
  }

  @inline(__always)
  private func sum(_ tuple: FiveTuple) -> UInt64 {
    sum(tuple.client, tuple.clientPort, tuple.virtual, tuple.virtualPort)
  }

  @inline(__always)
  private func sum(
    _ first: IPAddress, _ firstPort: UInt16, _ second: IPAddress, _ secondPort: UInt16
  ) -> UInt64 {
    (mixed(first, firstPort) &+ mixed(second, secondPort)) &* factors.3
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
