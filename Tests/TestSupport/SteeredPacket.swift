// Packets of every kind that the kernel may be asked to steer, and by what each is to be hashed.

import Steering
import Wire

package struct SteeredPacket: Sendable {
  /// The IP packet: headers that are right as far as steering looks, a few octets behind them.
  package var octets: [UInt8]
  package var source: IPAddress
  package var destination: IPAddress
  /// Nil: it goes by its addresses alone.
  package var ports: (source: UInt16, destination: UInt16)?

  /// A packet of a random kind, its addresses and ports from few enough that parts of them meet.
  package init(_ generator: inout SeededGenerator) {
    let ports = (
      source: UInt16(truncatingIfNeeded: generator.next()),
      destination: UInt16(generator.number(in: 1...3))
    )
    let transport: [UInt8] = [
      UInt8(ports.source >> 8), UInt8(ports.source & 255), UInt8(ports.destination >> 8),
      UInt8(ports.destination & 255),
    ]
    let payload = transport + generator.octets(generator.number(in: 16...40))
    let isIPv4 = generator.number(in: 0...1) == 0
    let kind = generator.number(in: 0...9)
    let protocolNumber: UInt8 = [6, 6, 6, 6, 17, 17, 17, 1, 47, 58][kind]
    var hasPorts = kind < 7
    if isIPv4 {
      let optionOctets = 4 * max(0, generator.number(in: -10...10))
      var fragment: UInt16 = generator.number(in: 0...1) == 0 ? 0x4000 : 0
      if generator.number(in: 0...4) == 0 {
        fragment = UInt16(generator.number(in: 1...0x3fff))
        hasPorts = false
      }
      let (from, to) = (
        UInt32(truncatingIfNeeded: generator.next()),
        0x0a4d_0000 | UInt32(generator.number(in: 0...255))
      )
      source = IPAddress(v4: from)
      destination = IPAddress(v4: to)
      octets = [UInt8(0x45 + optionOctets / 4), 0, 0, 0, 0, 0]
      octets += [UInt8(fragment >> 8), UInt8(fragment & 255), 64, protocolNumber, 0, 0]
      octets += Self.octets(UInt64(from) << 32 | UInt64(to))
      octets += [UInt8](repeating: 1, count: optionOctets)
      octets += payload
      let total = octets.count
      octets.replaceSubrange(2..<4, with: [UInt8(total >> 8), UInt8(total & 255)])
    } else {
      source = IPAddress(high: 0xfd77 << 48 | generator.next() >> 40, low: generator.next())
      destination = IPAddress(high: 0xfd77 << 48, low: UInt64(generator.number(in: 0...255)))
      let isExtended = generator.number(in: 0...3) == 0
      if isExtended { hasPorts = false }
      let next: UInt8 = isExtended ? [0, 43, 44, 60][generator.number(in: 0...3)] : protocolNumber
      let behind = (isExtended ? [protocolNumber, 0, 1, 4, 0, 0, 0, 0] : []) + payload
      octets = [0x60, 0, 0, 0, UInt8(behind.count >> 8), UInt8(behind.count & 255), next, 64]
      for half in [source.high, source.low, destination.high, destination.low] {
        octets += Self.octets(half)
      }
      octets += behind
    }
    self.ports = hasPorts ? ports : nil
  }

  /// Nil without ports.
  package var tuple: FiveTuple? {
    ports.map {
      FiveTuple(
        client: source, virtual: destination, clientPort: $0.source, virtualPort: $0.destination,
        transport: .tcp)
    }
  }

  private static func octets(_ word: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
  }
}

extension Steering {
  /// The queue that a packet is brought to, as the kernel's program is to find.
  package func brings(_ packet: SteeredPacket) -> Int {
    packet.tuple.map { deal($0) } ?? worker(of: packet.source, packet.destination)
  }
}
