import Primitives
import Stack
import Wire

// Datagrams, connections that come and go, and packets that belong to nobody.

/// A query and its answer, in a session that stands.
package struct Datagrams: HotPath, ~Copyable {
  package static let name = "datagrams of a session, both ways"
  private var worker = HotWorker()
  private var client = Client()
  private var sent = 0

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: 20)
      worker.receive(client.datagram(payloadOctets: 1200))
      worker.turn(&client)
      worker.datagramsWaiting = 1
      worker.targetReady(worker.slot, readable: true)
      worker.turn(&client)
      sent += 1
      driven += 2
    }
    return driven
  }

  package func failure() -> String? {
    worker.datagramsTaken == sent && worker.framesSent == sent
      ? worker.losses() : "\(worker.datagramsTaken) of \(sent) datagrams arrived"
  }
}

/// Forty datagrams in one frame; each counts.
package struct DatagramSuperPackets: HotPath, ~Copyable {
  package static let name = "datagrams in super-packets"
  private static let count = 40
  private var worker = HotWorker()
  private var client = Client()
  private var sent = 0

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: 20)
      worker.receive(client.datagram(payloadOctets: 1200 * Self.count, segmentOctets: 1200))
      worker.turn(&client)
      driven += Self.count
    }
    sent += driven
    return driven
  }

  package func failure() -> String? {
    worker.datagramsTaken == sent ? worker.losses() : "\(worker.datagramsTaken) of \(sent) arrived"
  }
}

/// Forty datagrams of a target in one frame; each counts.
package struct DatagramRuns: HotPath, ~Copyable {
  package static let name = "datagrams of a target in runs"
  private static let count = 40
  private var worker = HotWorker()
  private var client = Client()
  private var frames = 0

  package init() { worker.joinsDatagrams = true }

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      worker.advance(microseconds: 20)
      worker.receive(client.datagram(payloadOctets: 1200))
      worker.turn(&client)
      worker.datagramsWaiting = Self.count
      worker.targetReady(worker.slot, readable: true)
      worker.turn(&client)
      frames += 1
      driven += Self.count
    }
    return driven
  }

  package func failure() -> String? {
    worker.framesSent == frames
      ? worker.losses() : "\(worker.framesSent) frames instead of \(frames)"
  }
}

/// Whole connections: SYN, target, an octet, both FINs.
package struct Connections: HotPath, ~Copyable {
  package static let name = "connections, opened and closed"
  package static let countsReferences = true
  private static let packetsEach = 5
  private var worker = HotWorker()
  private var client = Client()
  private var made = 0

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    var driven = 0
    while driven < packets {
      client.restart()
      worker.advance(microseconds: 20)
      worker.finishes = false
      worker.connect(&client)
      worker.receive(client.segment(.pushed, payloadOctets: 1, at: worker.now))
      worker.turn(&client)
      worker.finishes = true
      worker.targetReady(worker.slot, readable: true)
      worker.turn(&client)
      worker.receive(client.segment(.finished, at: worker.now))
      worker.turn(&client)
      worker.receive(client.segment(.ack, at: worker.now))
      worker.turn(&client)
      made += 1
      driven += Self.packetsEach
    }
    return driven
  }

  package func failure() -> String? {
    guard worker.stack.flowCount == 0 else { return "\(worker.stack.flowCount) flows are left" }
    return worker.failure(expecting: made)
  }
}

/// Segments of no flow to an address without a rule: dropped.
package struct UnknownSegments: HotPath, ~Copyable {
  package static let name = "segments of no flow"
  private var worker = HotWorker()
  private var client = Client(virtualPort: 81)
  private var sent: UInt64 = 0

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      worker.receive(client.segment(.ack, payloadOctets: 100, at: worker.now))
      worker.turn(&client)
    }
    sent += UInt64(packets)
    return packets
  }

  package func failure() -> String? {
    worker.stack.drops[.unknownFlow] == sent ? nil : "they are taken for something else"
  }
}

/// Echo requests to an address that a rule covers.
package struct Echoes: HotPath, ~Copyable {
  package static let name = "echo requests"
  private var worker = HotWorker()
  private var client = Client()
  private var sent: UInt64 = 0

  package init() {}

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      worker.advance(microseconds: 2000)
      worker.receive(client.echoRequest())
      worker.turn(&client)
    }
    sent += UInt64(packets)
    return packets
  }

  package func failure() -> String? {
    worker.stack.counters.echoReplies == sent ? worker.losses() : "not all are answered"
  }
}
