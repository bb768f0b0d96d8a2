import Fragments
import Primitives
import TestSupport
import Wire

// Fragments made by hand, and a reassembler that copies out what it delivers.

func address(_ text: String) -> IPAddress {
  guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
  return address
}

/// One datagram, as its sender has it before it is cut.
struct Whole {
  var isIPv4: Bool
  var source: IPAddress
  var destination: IPAddress
  var transport: UInt8 = IPProtocol.udp
  var identification: UInt32 = 0x1234
  /// Transport header and all.
  var payload: [UInt8]
  var trafficClass: UInt8 = 0
  var hopLimit: UInt8 = 61
  /// IPv4 options, or IPv6 extension headers in front of the fragment header with the number of the
  /// first.
  var options: [UInt8] = []
  var firstExtension: UInt8 = IPProtocol.fragment

  init(isIPv4: Bool = true, client: Int = 1, payload: [UInt8]) {
    self.isIPv4 = isIPv4
    self.payload = payload
    source = isIPv4 ? IPAddress(v4: 0xC000_0200 + UInt32(client)) : address("2001:db8::")
    if !isIPv4 { source.low = UInt64(client) }
    destination = isIPv4 ? address("10.77.0.10") : address("fd77::10")
  }

  /// The part `range` as an IP fragment.
  func fragment(_ range: Range<Int>, more: Bool? = nil) -> [UInt8] {
    let octets = Array(payload[range])
    return fragment(
      at: range.lowerBound, octets, more: more ?? (range.upperBound < payload.count))
  }

  func fragment(at offset: Int, _ octets: [UInt8], more: Bool) -> [UInt8] {
    let addresses = source.octets + destination.octets
    guard isIPv4 else {
      let header =
        [transport, 0] + big16(offset | (more ? 1 : 0)) + big32(Int(identification))
      let length = options.count + 8 + octets.count
      return big32(6 << 28 | Int(trafficClass) << 20 | 0xABCDE) + big16(length)
        + [firstExtension, hopLimit] + addresses + options + header + octets
    }
    var header =
      [0x45 + UInt8(options.count / 4), trafficClass] + big16(20 + options.count + octets.count)
      + big16(Int(identification)) + big16(offset / 8 | (more ? 0x2000 : 0))
      + [hopLimit, transport, 0, 0] + addresses + options
    let checksum = ~onesComplementSum(header)
    header[10] = UInt8(checksum >> 8)
    header[11] = UInt8(checksum & 255)
    return header + octets
  }

  /// The payload in fragments of at most so many octets each.
  func fragments(of octets: Int) -> [[UInt8]] {
    stride(from: 0, to: payload.count, by: octets).map {
      fragment($0..<min($0 + octets, payload.count))
    }
  }

  /// What the network would have carried had it not been cut.
  var packet: [UInt8] {
    let addresses = source.octets + destination.octets
    guard isIPv4 else {
      return big32(6 << 28 | Int(trafficClass) << 20) + big16(payload.count)
        + [transport, hopLimit] + addresses + payload
    }
    var header =
      [0x45, trafficClass] + big16(20 + payload.count) + big16(Int(identification)) + [0, 0]
      + [hopLimit, transport, 0, 0] + addresses
    let checksum = ~onesComplementSum(header)
    header[10] = UInt8(checksum >> 8)
    header[11] = UInt8(checksum & 255)
    return header + payload
  }
}

/// Octets that tell where they stand.
func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8 &+ seed) }
}

final class Joiner {
  var reassembler: Reassembler
  var drops = DropCounters()
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)

  init(_ change: (inout ReassemblyLimits) -> Void = { _ in }) {
    var limits = ReassemblyLimits()
    change(&limits)
    reassembler = Reassembler(limits: limits)
  }

  enum Outcome: Equatable {
    case waits
    case dropped(DropReason)
    /// The IP packet.
    case whole([UInt8])
  }

  /// Gives one packet; what comes of it. Its memory is overwritten afterwards.
  @discardableResult func give(_ packet: [UInt8], endsTurn: Bool = true) -> Outcome {
    defer { if endsTurn { reassembler.endTurn() } }
    do throws(DropReason) {
      let header = try IPHeader(parsing: packet.span.bytes)
      precondition(header.isFragment, "a fragment")
      guard
        let frame = try reassembler.receive(
          packet.span.bytes, header: header, at: now, drops: &drops)
      else { return .waits }
      let octets = Array(frame)
      let virtio = try VirtioNetHeader(parsing: octets.span.bytes)
      precondition(virtio == VirtioNetHeader(), "no flags")
      return .whole(Array(octets[VirtioNetHeader.octets...]))
    } catch {
      drops.count(error)
      return .dropped(error)
    }
  }

  /// Gives several; what came of the last.
  @discardableResult func give(_ packets: [[UInt8]]) -> Outcome? {
    packets.map { give($0) }.last
  }

  /// Lets time pass: the first fragments of what expired, nil for those without.
  func expire(after interval: Interval) -> [[UInt8]?] {
    now = now + interval
    var expired: [[UInt8]?] = []
    while let datagram = reassembler.popExpired(at: now, drops: &drops) {
      expired.append(datagram.firstFragment.map { Array($0) })
    }
    return expired
  }

  /// Nothing waits, nothing is held, nothing is due.
  var isEmpty: Bool {
    reassembler.datagrams == 0 && reassembler.octets == 0 && reassembler.nextDeadline() == nil
  }
}
