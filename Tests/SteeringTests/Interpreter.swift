// eBPF as far as the steering program goes (RFC 9669), checked where the kernel's verifier checks.

import Steering
import Testing

enum ProgramFault: Error {
  case opcode(UInt8)
  case register(UInt8)
  case address(UInt64)
  case end
}

/// What a program returns for a packet.
/// - Parameter map: the value of the map that it refers to.
func interpret(
  _ program: [BPFInstruction], on packet: [UInt8], map: UnsafeMutableRawBufferPointer
) throws -> UInt64 {
  /// A word of the map, by an address that the program computed.
  func word(_ address: UInt64) throws -> UnsafeMutablePointer<UInt32> {
    let start = UInt64(UInt(bitPattern: map.baseAddress))
    guard address >= start, address % 4 == 0, address - start + 4 <= UInt64(map.count) else {
      throw ProgramFault.address(address)
    }
    return try #require(UnsafeMutablePointer(bitPattern: UInt(address)))
  }
  // Nil: not set yet, or lost by a load from the packet.
  var registers = [UInt64?](repeating: nil, count: 10)
  registers[1] = 0  // the context
  var position = 0
  func value(_ register: UInt8) throws -> UInt64 {
    guard Int(register) < registers.count, let value = registers[Int(register)] else {
      throw ProgramFault.register(register)
    }
    return value
  }
  while position < program.count {
    let each = program[position]
    position += 1
    switch each.opcode {
    case 0x18:
      guard position < program.count, program[position].opcode == 0 else { throw ProgramFault.end }
      let high = UInt64(UInt32(bitPattern: program[position].immediate))
      registers[Int(each.destination)] =
        each.source == 2
        ? UInt64(UInt(bitPattern: map.baseAddress)) + high
        : high << 32 | UInt64(UInt32(bitPattern: each.immediate))
      position += 1
    case 0x20, 0x28, 0x30, 0x40:
      _ = try value(6)
      var offset = Int(each.immediate)
      if each.opcode == 0x40 { offset += Int(try value(each.source)) }
      let count = [0x20: 4, 0x28: 2, 0x30: 1, 0x40: 4][Int(each.opcode)] ?? 0
      guard offset >= 0, offset + count <= packet.count else { return 0 }
      let loaded = packet[offset..<offset + count].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      for lost in 1...5 { registers[lost] = nil }
      registers[0] = loaded
    case 0x61: registers[Int(each.destination)] = UInt64(try word(try value(each.source)).pointee)
    case 0x63:
      try word(try value(each.destination)).pointee =
        UInt32(truncatingIfNeeded: try value(each.source))
    case 0xc3:
      let word = try word(try value(each.destination))
      let operand = UInt32(truncatingIfNeeded: try value(each.source))
      switch each.immediate {
      case 0x00: word.pointee &+= operand
      case 0xf1:
        let expected = UInt32(truncatingIfNeeded: try value(0))
        registers[0] = UInt64(word.pointee)
        if word.pointee == expected { word.pointee = operand }
      default: throw ProgramFault.opcode(each.opcode)
      }
    case 0x05: position += Int(each.offset)
    case 0x15:
      let isEqual = try value(each.destination) == UInt64(bitPattern: Int64(each.immediate))
      if isEqual { position += Int(each.offset) }
    case 0x2d:
      if try value(each.destination) > value(each.source) { position += Int(each.offset) }
    case 0x45:
      let bits = try value(each.destination) & UInt64(bitPattern: Int64(each.immediate))
      if bits != 0 { position += Int(each.offset) }
    case 0x95: return try value(0)
    default:
      guard each.opcode & 7 == 7 else { throw ProgramFault.opcode(each.opcode) }
      let operand =
        each.opcode & 8 == 0
        ? UInt64(bitPattern: Int64(each.immediate)) : try value(each.source)
      let old = each.opcode & 0xf0 == 0xb0 ? 0 : try value(each.destination)
      registers[Int(each.destination)] = try result(each.opcode & 0xf0, old, operand)
    }
  }
  throw ProgramFault.end
}

private func result(_ operation: UInt8, _ a: UInt64, _ b: UInt64) throws -> UInt64 {
  switch operation {
  case 0x00: a &+ b
  case 0x20: a &* b
  case 0x40: a | b
  case 0x50: a & b
  case 0x60: a &<< b
  case 0x70: a &>> b
  case 0x90: b == 0 ? a : a % b
  case 0xa0: a ^ b
  case 0xb0: b
  default: throw ProgramFault.opcode(operation)
  }
}
