import Primitives
import SocketTable
import Wire

// The tables by themselves, at a size that no cache holds.

/// A million rules: a thousand ports each on a thousand addresses.
struct MillionRules: ~Copyable {
  static let addressCount: UInt32 = 1000
  static let portCount: UInt32 = 1000
  private static let firstAddress: UInt32 = 0x0A00_0001
  private static let firstPort: UInt16 = 10_000

  let table: PassiveSocketTable
  private var number: UInt32 = 1
  private(set) var wrong = 0

  init() {
    var entries: [PassiveSocketTable.Entry] = []
    entries.reserveCapacity(Int(Self.addressCount * Self.portCount))
    for address in 0..<Self.addressCount {
      let prefix = IPPrefix(IPAddress(v4: Self.firstAddress + address))
      for port in 0..<Self.portCount {
        entries.append(
          (
            pattern: ListenPattern(
              addresses: .prefix(prefix), ports: PortRange(Self.firstPort + UInt16(port))),
            transport: .tcp, rule: address * Self.portCount + port
          ))
      }
    }
    table = PassiveSocketTable(entries)
  }

  /// Looks rules up in an order that no prefetcher follows.
  mutating func lookUp(_ count: Int, hits: Bool) -> Int {
    for _ in 0..<count {
      number = number &* 1_664_525 &+ 1_013_904_223
      let rule = (number >> 8) % (Self.addressCount * Self.portCount)
      let address = IPAddress(v4: Self.firstAddress + rule / Self.portCount)
      let firstPort = Self.firstPort + (hits ? 0 : UInt16(Self.portCount))
      let port = firstPort + UInt16(rule % Self.portCount)
      let found = table.rule(for: address, port: port, transport: .tcp)
      if found != (hits ? rule : nil) { wrong += 1 }
    }
    return count
  }

  func failure() -> String? { wrong == 0 ? nil : "\(wrong) look-ups found another rule" }
}

package struct SocketTableHits: HotPath, ~Copyable {
  package static let name = "rule look-up among a million, found"
  private var rules = MillionRules()
  package init() {}
  package mutating func drive(packets: Int) -> Int { rules.lookUp(packets, hits: true) }
  package func failure() -> String? { rules.failure() }
}

package struct SocketTableMisses: HotPath, ~Copyable {
  package static let name = "rule look-up among a million, not found"
  private var rules = MillionRules()
  package init() {}
  package mutating func drive(packets: Int) -> Int { rules.lookUp(packets, hits: false) }
  package func failure() -> String? { rules.failure() }
}

/// Flows found by their five-tuples' hash, among 200 000.
package struct FlowIndexHits: HotPath, ~Copyable {
  package static let name = "flow look-up among 200 000"
  private static let flowCount: UInt32 = 200_000
  private var index = FlowIndex(capacity: Int(flowCount))
  private let hash = FlowHash(0x0123_4567_89AB_CDEF, 42)
  private var number: UInt32 = 1
  private var missing = 0

  package init() {
    for flow in 0..<Self.flowCount { index.insert(hash.hash(Self.tuple(flow)), flow) }
  }

  private static func tuple(_ flow: UInt32) -> FiveTuple {
    FiveTuple(
      client: IPAddress(v4: 0xC612_0000 + flow / 1000), virtual: IPAddress(v4: 0x0A4D_000A),
      clientPort: UInt16(20_000 + flow % 1000), virtualPort: 80, transport: .tcp)
  }

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      number = number &* 1_664_525 &+ 1_013_904_223
      let flow = (number >> 8) % Self.flowCount
      var probe = index.probe(hash.hash(Self.tuple(flow)))
      var found = index.next(&probe)
      while let slot = found, slot != flow { found = index.next(&probe) }
      if found == nil { missing += 1 }
    }
    return packets
  }

  package func failure() -> String? { missing == 0 ? nil : "\(missing) flows are not found" }
}

/// Deadlines of ten thousand flows, armed and served.
package struct Deadlines: HotPath, ~Copyable {
  package static let name = "deadlines, armed and due"
  private static let slots: UInt32 = 10_000
  private var now = MonotonicInstant(nanoseconds: 5_000_000_000)
  private var wheel: TimingWheel
  private var number: UInt32 = 1
  private var armed = 0
  private var due = 0

  package init() { wheel = TimingWheel(capacity: Int(Self.slots), origin: now) }

  package mutating func drive(packets: Int) -> Int {
    for _ in 0..<packets {
      number = number &* 1_664_525 &+ 1_013_904_223
      let slot = (number >> 8) % Self.slots
      if !wheel.isArmed(slot) { armed += 1 }
      wheel.arm(slot, at: now + .microseconds(Int(number >> 12)))
      now = now + .microseconds(30)
      while wheel.popDue(at: now) != nil { due += 1 }
    }
    return packets
  }

  package func failure() -> String? {
    armed == due + Int(wheel.count) ? nil : "\(armed) were armed, \(due) came due"
  }
}
