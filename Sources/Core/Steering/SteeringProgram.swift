// The program by which the kernel chooses a packet's queue: `Steering` as a socket filter.
//
// The TUN driver runs it for each packet towards us (TUNSETSTEERINGEBPF) on the IP packet, without a
// virtio-net header, and takes what it returns, modulo the number of queues, for the queue. A packet
// that is cut short inside of what is read goes to queue 0, where it is dropped as malformed.
//
//   R6 the context   R7 the length of the IPv4 header, then the sum   R8 the address being mixed, then
//   the part's word  R9 both ports, the source's above the destination's; 0 without
//
// A part without home is dealt by atomic operations (Linux 5.12 on x86-64) in the memory of a map, which
// the workers have mapped (`Homes`).

import Wire

package enum SteeringProgram {
  /// The instructions for `steering`; some two hundred, without a loop.
  /// - Parameter map: the descriptor of an array map whose one value is the memory of `steering.homes`.
  package static func assemble(_ steering: Steering, map: CInt) -> [BPFInstruction] {
    var a = BPFAssembler()
    let ipv6 = a.label()
    let finish = a.label()
    let unknown = a.label()
    a.apply(.move, .r6, .r1)
    a.load(.octet, 0)
    a.apply(.move, .r7, .r0)
    a.apply(.shiftRight, .r0, 4)
    a.jump(if: .r0, equals: 6, to: ipv6)
    let ipv4 = a.label()
    a.jump(if: .r0, equals: 4, to: ipv4)
    a.jump(to: unknown)

    a.place(ipv4)
    loadPortsIPv4(&a)
    for isSource in [true, false] {
      // ::ffff:a.b.c.d: all but the last four octets is known.
      a.set(.r8, steering.mixed(high: 0) ^ 0xffff_0000_0000)
      a.load(.word, isSource ? 12 : 16)
      a.apply(.exclusiveOr, .r8, .r0)
      mix(&a, steering, isSource: isSource)
    }
    a.jump(to: finish)

    a.place(ipv6)
    loadPortsIPv6(&a)
    for isSource in [true, false] {
      loadAddressIPv6(&a, steering, at: isSource ? 8 : 24)
      mix(&a, steering, isSource: isSource)
    }

    a.place(finish)
    multiply(&a, .r7, by: steering.factors.3)
    let byAddresses = a.label()
    a.jump(if: .r9, equals: 0, to: byAddresses)
    goHome(&a, steering, map: map)
    a.place(byAddresses)
    a.apply(.shiftRight, .r7, 32)
    a.apply(.multiply, .r7, Int32(steering.workers))
    a.apply(.shiftRight, .r7, 32)
    a.apply(.move, .r0, .r7)
    a.exit()
    a.place(unknown)
    a.apply(.move, .r0, 0)
    a.exit()
    return a.finish()
  }

  /// Ends with the home of the part that R7 belongs to; what has none is dealt, as `Steering.deal` does it.
  private static func goHome(_ a: inout BPFAssembler, _ steering: Steering, map: CInt) {
    let vacant = a.label()
    let second = a.label()
    let chosen = a.label()
    let taken = a.label()
    let settled = a.label()
    a.apply(.move, .r8, .r7)
    a.apply(.shiftRight, .r8, Int32(64 - Homes.partBits))
    a.apply(.shiftLeft, .r8, 2)
    a.set(.r1, valueOf: map, offset: 0)
    a.apply(.add, .r8, .r1)
    a.loadWord(.r0, from: .r8)
    a.jump(if: .r0, equals: 0, to: vacant)
    a.jump(to: settled)
    a.place(vacant)
    let workers = Int32(steering.workers)
    a.apply(.move, .r2, .r7)
    a.apply(.shiftRight, .r2, Int32(Steering.secondBits))
    a.apply(.shiftLeft, .r2, 32)
    a.apply(.shiftRight, .r2, 32)
    a.apply(.multiply, .r2, workers)
    a.apply(.shiftRight, .r2, 32)
    a.apply(.move, .r3, .r7)
    a.apply(.and, .r3, 1 << Int32(Steering.secondBits) - 1)
    a.apply(.modulo, .r3, max(1, workers - 1))
    a.apply(.add, .r3, .r2)
    a.apply(.add, .r3, 1)
    a.apply(.modulo, .r3, workers)
    // R2 and R3 the two workers, R4 and R5 where their loads are.
    a.set(.r1, valueOf: map, offset: Int32(Homes.loadsOffset))
    for (worker, address) in [(BPFRegister.r2, BPFRegister.r4), (.r3, .r5)] {
      a.apply(.move, address, worker)
      // It is less already: older verifiers forget what a modulo leaves.
      a.apply(.and, address, Int32(Steering.workersMax - 1))
      a.apply(.shiftLeft, address, Int32(Homes.lineBits))
      a.apply(.add, address, .r1)
    }
    a.loadWord(.r0, from: .r4)
    a.loadWord(.r1, from: .r5)
    a.jump(if: .r0, exceeds: .r1, to: second)
    a.jump(if: .r1, exceeds: .r0, to: chosen)
    // Both have as much: not who got the newest.
    a.set(.r1, valueOf: map, offset: Int32(Homes.newestOffset))
    a.loadWord(.r0, from: .r1)
    a.apply(.add, .r0, -1)
    a.apply(.exclusiveOr, .r0, .r2)
    a.jump(if: .r0, equals: 0, to: second)
    a.jump(to: chosen)
    a.place(second)
    a.apply(.move, .r2, .r3)
    a.apply(.move, .r4, .r5)
    a.place(chosen)
    a.apply(.add, .r2, 1)
    a.apply(.move, .r0, 0)
    a.compareExchange(.r8, .r2)
    a.jump(if: .r0, equals: 0, to: taken)
    a.jump(to: settled)
    a.place(taken)
    a.apply(.move, .r0, .r2)
    a.apply(.move, .r1, 1)
    a.add(.r4, .r1)
    a.set(.r1, valueOf: map, offset: Int32(Homes.newestOffset))
    a.storeWord(.r0, to: .r1)
    a.place(settled)
    a.apply(.add, .r0, -1)
    a.exit()
  }

  /// R9 = both ports, or 0.
  private static func loadPortsIPv4(_ a: inout BPFAssembler) {
    let havePorts = a.label()
    let done = a.label()
    a.apply(.move, .r9, 0)
    a.load(.halfword, 6)
    a.jump(if: .r0, hasAnyOf: 0x3fff, to: done)  // more fragments, or not the first
    a.load(.octet, 9)
    a.jump(if: .r0, equals: Int32(IPProtocol.tcp), to: havePorts)
    a.jump(if: .r0, equals: Int32(IPProtocol.udp), to: havePorts)
    a.jump(to: done)
    a.place(havePorts)
    a.apply(.and, .r7, 15)
    a.apply(.shiftLeft, .r7, 2)
    a.load(.word, at: .r7, 0)
    a.apply(.move, .r9, .r0)
    a.place(done)
  }

  private static func loadPortsIPv6(_ a: inout BPFAssembler) {
    let havePorts = a.label()
    let done = a.label()
    a.apply(.move, .r9, 0)
    a.load(.octet, 6)
    a.jump(if: .r0, equals: Int32(IPProtocol.tcp), to: havePorts)
    a.jump(if: .r0, equals: Int32(IPProtocol.udp), to: havePorts)
    a.jump(to: done)
    a.place(havePorts)
    a.load(.word, 40)
    a.apply(.move, .r9, .r0)
    a.place(done)
  }

  /// R8 = the first half mixed, exclusive-or'ed with the second.
  private static func loadAddressIPv6(
    _ a: inout BPFAssembler, _ steering: Steering, at offset: Int32
  ) {
    a.load(.word, offset)
    a.apply(.move, .r8, .r0)
    a.apply(.shiftLeft, .r8, 32)
    a.load(.word, offset + 4)
    a.apply(.or, .r8, .r0)
    a.set(.r1, steering.whitening)
    a.apply(.exclusiveOr, .r8, .r1)
    multiply(&a, .r8, by: steering.factors.0)
    fold(&a)
    a.load(.word, offset + 8)
    a.apply(.shiftLeft, .r0, 32)
    a.apply(.exclusiveOr, .r8, .r0)
    a.load(.word, offset + 12)
    a.apply(.exclusiveOr, .r8, .r0)
  }

  /// R7 takes up R8 and the port in R9: as `Steering.mixed(_:_:)` from its second line on.
  private static func mix(_ a: inout BPFAssembler, _ steering: Steering, isSource: Bool) {
    multiply(&a, .r8, by: steering.factors.1)
    fold(&a)
    a.apply(.move, .r2, .r9)
    if isSource {
      a.apply(.shiftRight, .r2, 16)
    } else {
      a.apply(.and, .r2, 0xffff)
    }
    a.apply(.exclusiveOr, .r8, .r2)
    multiply(&a, .r8, by: steering.factors.2)
    fold(&a)
    a.apply(isSource ? .move : .add, .r7, .r8)
  }

  /// R8 ^= R8 >> 32
  private static func fold(_ a: inout BPFAssembler) {
    a.apply(.move, .r1, .r8)
    a.apply(.shiftRight, .r1, 32)
    a.apply(.exclusiveOr, .r8, .r1)
  }

  private static func multiply(
    _ a: inout BPFAssembler, _ register: BPFRegister, by factor: UInt64
  ) {
    a.set(.r1, factor)
    a.apply(.multiply, register, .r1)
  }
}
