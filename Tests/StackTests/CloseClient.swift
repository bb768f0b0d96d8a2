import Primitives
import Stack
import TCP
import Testing
import Wire

// A client on the same host: what it acknowledges is on its way for microseconds.

/// It has a large window, and acknowledges as much as the test says.
struct CloseClient {
  private var client: Client
  let slot: UInt32
  private let initial: UInt32
  private var arrived = 0
  private var acknowledged = 0
  private let world: World

  init(_ world: World, port: UInt16) throws {
    self.world = world
    let before = Set(world.sockets.keys)
    client = Client(world, port: port)
    var options = TCPOptions()
    options.windowScale = 14
    options.maximumSegmentSize = 1460
    _ = try client.connect(scaling: options)
    initial = client.acknowledgment
    slot = try #require(Set(world.sockets.keys).subtracting(before).first)
  }

  /// Octets read of the target that the client has not acknowledged.
  var kept: Int {
    let view = world.stack.flowViews(limit: 16, at: world.now)
      .first { $0.tuple.clientPort == client.port }
    return Int(view?.octetsDown ?? 0) - acknowledged
  }

  mutating func hear(_ reply: Reply) {
    guard let header = reply.tcp, header.destinationPort == client.port else { return }
    arrived = max(arrived, Int(header.sequence.rawValue &- initial) + reply.payload.count)
  }

  /// Acknowledges so many octets behind what it has acknowledged, come or not, and hands the packet in.
  mutating func claim(_ octets: Int) {
    acknowledged += octets
    client.acknowledgment = initial &+ UInt32(acknowledged)
    world.give(client.packet(.ack, window: 65_535))
  }

  /// Hands a reset in.
  mutating func reset() { world.give(client.packet(.rst)) }

  /// As much of it as has come.
  mutating func acknowledge(_ octets: Int) {
    acknowledged += min(octets, arrived - acknowledged)
    client.acknowledgment = initial &+ UInt32(acknowledged)
    world.now = world.now + .microseconds(5)
    world.send(client.packet(.ack, window: 65_535))
  }
}
