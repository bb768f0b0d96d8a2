import ICMP
import Primitives
import Steering
import TCP
import Wire

// Packets that came to one worker and belong to another.
//
// Home is decided by what a packet is about, after its headers are checked: a TCP segment's or
// datagram's five-tuple, the five-tuple that an ICMP error quotes, of a fragment the two addresses. What
// has no flow (a ping, an unsupported protocol) is answered wherever it comes. A stray is not looked at
// any further here: the owner copies it to the other worker before this turn's memory is used again,
// and that one takes it over as if its own queue had brought it. It goes on from there only if it was
// joined from fragments, to the home of its ports, or if its home has moved meanwhile: each further step
// takes that the last flow there has ended and another has begun elsewhere, so that no packet goes round
// between homes that stay. No flow is ever begun but on its home, and none moves while one lives there:
// that is all that keeps one from living on two workers.

/// A frame for another worker.
package struct Stray: BitwiseCopyable {
  /// Which one: 0..<workers, and not this.
  package var worker: Int
  /// virtio-net header and packet; valid as long as what the device's read put there, or until the
  /// target pass has ended.
  package var frame: UnsafeRawBufferPointer
  /// It was joined from fragments: its sender does not mind if it is fragmented again.
  package var wasFragmented: Bool

  package init(worker: Int, frame: UnsafeRawBufferPointer, wasFragmented: Bool) {
    self.worker = worker
    self.frame = frame
    self.wasFragmented = wasFragmented
  }
}

extension Stack {
  /// Strays of one turn.
  static let straysMax = 512

  /// Takes a frame that another worker handed over; memory as for `receive`.
  package mutating func takeOver(
    _ frame: UnsafeRawBufferPointer, wasFragmented: Bool, at now: MonotonicInstant
  ) {
    do {
      var arrival = try parse(frame)
      if wasFragmented { arrival.packet.ip.dontFragment = false }
      if let home = otherHome(of: arrival) {
        handOver(arrival, to: home, wasFragmented: wasFragmented)
      } else if case .fragment = arrival.packet.transport {
        try fragmentArrives(arrival, at: now)
      } else {
        sort(arrival, at: now)
      }
    } catch {
      memory.drops.count(error)
    }
  }

  /// Whether there is no other worker.
  package var isAlone: Bool { settings.steering == nil }

  /// The owner has handed over this turn's strays.
  package mutating func forgetStrays() { strays.removeAll(keepingCapacity: true) }

  /// The home of a packet, when it is another worker. A flow's that has none is ours from now on; but one
  /// whose ports the kernel's program could not see, in fragments or behind extension headers, was not
  /// dealt by it, and is so here.
  /// - Parameter wasFragmented: it was joined just now.
  @inline(__always)
  func otherHome(of arrival: Arrival, wasFragmented: Bool = false) -> Int? {
    guard let steering = settings.steering else { return nil }
    let ip = arrival.packet.ip
    let home: Int
    if let tuple = arrival.packet.tuple {
      home =
        wasFragmented || !ip.isIPv4 && ip.headerOctets > 40
        ? steering.deal(tuple)
        : steering.homes.take(steering.part(of: tuple), for: settings.worker)
    } else if case .fragment = arrival.packet.transport {
      home = steering.worker(of: ip.source, ip.destination)
    } else {
      return nil
    }
    return home == settings.worker ? nil : home
  }

  /// The home of a flow that something is said about, when it is another worker.
  func otherHome(quoted tuple: FiveTuple) -> Int? {
    guard let home = settings.steering?.home(of: tuple), home != settings.worker else { return nil }
    return home
  }

  mutating func handOver(_ arrival: Arrival, to home: Int, wasFragmented: Bool = false) {
    guard strays.count < Self.straysMax, let base = arrival.octets.baseAddress else {
      memory.drops.count(.handOverFull)
      return
    }
    counters.handedOver += 1
    strays.append(
      Stray(
        worker: home,
        frame: UnsafeRawBufferPointer(
          start: base - VirtioNetHeader.octets, count: arrival.octets.count + VirtioNetHeader.octets
        ),
        wasFragmented: wasFragmented))
  }
}

extension ICMPMessage {
  /// What an error is about.
  var quoted: QuotedFlow? {
    switch self {
    case .unreachable(_, let flow), .packetTooBig(_, let flow), .timeExceeded(let flow),
      .parameterProblem(let flow):
      flow
    case .echoRequest, .echoReply, .other: nil
    }
  }
}
