// The few eBPF instructions that the steering program takes (RFC 9669), and their assembly.
//
// Loads from the packet are the socket filter's own (RFC 9669 §7, BPF_ABS and BPF_IND): from the
// context in R6 into R0, in the host's order; they lose R1 to R5, and one beyond the packet's end ends
// the program with 0. Atomic operations are of 32 bits (§5.3); memory is a map's only value (§5.4, type 2).
// Jumps go forward only.

package enum BPFRegister: UInt8, Sendable { case r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 }

/// One instruction of eight octets, laid out as struct bpf_insn.
package struct BPFInstruction: Equatable, Sendable, BitwiseCopyable {
  package var opcode: UInt8
  /// Destination in the low half, source in the high one, as on a little-endian host.
  package var registers: UInt8
  package var offset: Int16
  package var immediate: Int32

  init(
    _ opcode: UInt8, _ destination: BPFRegister = .r0, _ source: BPFRegister = .r0,
    offset: Int16 = 0, immediate: Int32 = 0
  ) {
    self.opcode = opcode
    #if _endian(little)
      registers = destination.rawValue | source.rawValue << 4
    #else
      registers = destination.rawValue << 4 | source.rawValue
    #endif
    self.offset = offset
    self.immediate = immediate
  }

  /// All eight octets, as they lie in memory.
  package var word: UInt64 { unsafeBitCast(self, to: UInt64.self) }

  package var destination: UInt8 {
    #if _endian(little)
      registers & 15
    #else
      registers >> 4
    #endif
  }

  package var source: UInt8 {
    #if _endian(little)
      registers >> 4
    #else
      registers & 15
    #endif
  }
}

/// Arithmetic on 64 bits: the operation's code, without class and source.
enum BPFOperation: UInt8 {
  case add = 0x00
  case multiply = 0x20
  case or = 0x40
  case and = 0x50
  case shiftLeft = 0x60
  case shiftRight = 0x70
  case modulo = 0x90
  case exclusiveOr = 0xa0
  case move = 0xb0
}

/// Octets of a load from the packet: the size's code.
enum BPFSize: UInt8 {
  case octet = 0x10
  case halfword = 0x08
  case word = 0x00
}

/// Instructions in the making. A label is placed once and may be jumped to before.
struct BPFAssembler {
  struct Label { fileprivate var number: Int }

  private(set) var instructions: [BPFInstruction] = []
  private var jumps: [(instruction: Int, label: Int)] = []
  private var places: [Int?] = []

  mutating func label() -> Label {
    places.append(nil)
    return Label(number: places.count - 1)
  }

  mutating func place(_ label: Label) {
    precondition(places[label.number] == nil, "a label is placed once")
    places[label.number] = instructions.count
  }

  mutating func apply(_ operation: BPFOperation, _ to: BPFRegister, _ from: BPFRegister) {
    instructions.append(BPFInstruction(operation.rawValue | 0x0f, to, from))
  }

  /// The immediate is extended by its sign.
  mutating func apply(_ operation: BPFOperation, _ to: BPFRegister, _ immediate: Int32) {
    instructions.append(BPFInstruction(operation.rawValue | 0x07, to, immediate: immediate))
  }

  /// Two instructions long.
  mutating func set(_ register: BPFRegister, _ value: UInt64) {
    instructions.append(
      BPFInstruction(0x18, register, immediate: Int32(truncatingIfNeeded: value)))
    instructions.append(
      BPFInstruction(0x00, immediate: Int32(truncatingIfNeeded: value >> 32)))
  }

  /// The address of the one value of an array map, plus an offset; two instructions long.
  /// - Parameter map: the map's descriptor.
  mutating func set(_ register: BPFRegister, valueOf map: CInt, offset: Int32) {
    instructions.append(BPFInstruction(0x18, register, .r2, immediate: map))
    instructions.append(BPFInstruction(0x00, immediate: offset))
  }

  /// 32 bits of memory.
  mutating func loadWord(_ to: BPFRegister, from address: BPFRegister) {
    instructions.append(BPFInstruction(0x61, to, address))
  }

  /// 32 bits of memory.
  mutating func storeWord(_ from: BPFRegister, to address: BPFRegister) {
    instructions.append(BPFInstruction(0x63, address, from))
  }

  /// Adds to 32 bits of memory, all at once.
  mutating func add(_ address: BPFRegister, _ summand: BPFRegister) {
    instructions.append(BPFInstruction(0xc3, address, summand, immediate: 0x00))
  }

  /// Writes 32 bits of memory if they equal R0, all at once; R0 is then what they were.
  mutating func compareExchange(_ address: BPFRegister, _ value: BPFRegister) {
    instructions.append(BPFInstruction(0xc3, address, value, immediate: 0xf1))
  }

  /// R0 = packet[offset...], in the host's order.
  mutating func load(_ size: BPFSize, _ offset: Int32) {
    instructions.append(BPFInstruction(0x20 | size.rawValue, immediate: offset))
  }

  /// R0 = packet[index + offset...], in the host's order.
  mutating func load(_ size: BPFSize, at index: BPFRegister, _ offset: Int32) {
    instructions.append(BPFInstruction(0x40 | size.rawValue, .r0, index, immediate: offset))
  }

  mutating func jump(to label: Label) { branch(0x05, .r0, 0, label) }

  mutating func jump(if register: BPFRegister, equals value: Int32, to label: Label) {
    branch(0x15, register, value, label)
  }

  mutating func jump(if register: BPFRegister, exceeds other: BPFRegister, to label: Label) {
    branch(0x2d, register, 0, label, other)
  }

  mutating func jump(if register: BPFRegister, hasAnyOf bits: Int32, to label: Label) {
    branch(0x45, register, bits, label)
  }

  mutating func exit() { instructions.append(BPFInstruction(0x95)) }

  /// All instructions, every jump resolved.
  consuming func finish() -> [BPFInstruction] {
    for (instruction, label) in jumps {
      guard let place = places[label], place > instruction else {
        preconditionFailure("a jump goes forward, to a label that is placed")
      }
      instructions[instruction].offset = Int16(place - instruction - 1)
    }
    return instructions
  }

  private mutating func branch(
    _ opcode: UInt8, _ register: BPFRegister, _ immediate: Int32, _ label: Label,
    _ other: BPFRegister = .r0
  ) {
    jumps.append((instructions.count, label.number))
    instructions.append(BPFInstruction(opcode, register, other, immediate: immediate))
  }
}
