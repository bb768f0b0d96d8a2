import Primitives
import Stack
import Wire

// What every path of packets stands in: a worker with its one client, and rounds of what they do.

struct HotWorld: ~Copyable {
  var worker: HotWorker
  /// What has been sent, in whatever the path counts.
  var sent = 0

  /// - Parameters:
  ///   - lossEvery: each so many frames of a target's payload one is lost; 0: none.
  ///   - connects: the client's connection stands.
  ///   - rules: see `HotWorker`.
  init(
    isIPv4: Bool = true, virtualPort: UInt16 = 80, offloads: Bool = true, lossEvery: Int = 0,
    connects: Bool = false, rules: RuleSet? = nil
  ) {
    worker = HotWorker(
      client: Client(isIPv4: isIPv4, virtualPort: virtualPort), offloads: offloads, rules: rules)
    if connects { worker.connect() }
    worker.client.lossEvery = lossEvery
  }

  /// Makes rounds, which are so far apart, of so many packets each, until there were enough.
  /// - Returns: how many packets there were.
  mutating func drive(
    packets: Int, each: Int = 1, microseconds: Int = 20, _ round: (inout HotWorld) -> Void
  ) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: microseconds)
      round(&self)
      driven += each
    }
    return driven
  }

  /// A turn that brings a segment of the client's.
  mutating func send(_ flags: TCPFlags, payloadOctets: Int = 0) {
    worker.receive(worker.client.segment(flags, payloadOctets: payloadOctets, at: worker.now))
    worker.turn()
  }

  /// A turn that brings datagrams of the client's, `segmentOctets` long each; 0: one.
  mutating func sendDatagrams(octets: Int, segmentOctets: Int = 0) {
    worker.receive(worker.client.datagram(payloadOctets: octets, segmentOctets: segmentOctets))
    worker.turn()
  }

  /// A turn in which the target has room, and something to say if `readable`.
  mutating func wake(readable: Bool = true) {
    worker.targetReady(worker.slot, readable: readable)
    worker.turn()
  }

  /// Whether the target was given so many octets as were sent, and nothing was lost.
  func uploadFailure() -> String? { worker.failure(expecting: sent) }

  /// What went wrong: so many came of what was sent, or something was lost.
  func failure(of things: String, came: Int) -> String? {
    came == sent ? worker.losses() : "\(came) \(things) for \(sent)"
  }
}
