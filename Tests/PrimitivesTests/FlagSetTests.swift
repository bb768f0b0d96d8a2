// Flag sets: the operations that stand in for those of the standard library agree with them.

import Primitives
import Testing

private struct Flags: FlagSet, Sendable, CustomTestStringConvertible {
  let rawValue: UInt8
  init(rawValue: UInt8) { self.rawValue = rawValue }

  static let first = Flags(rawValue: 1)
  static let second = Flags(rawValue: 2)
  static let last = Flags(rawValue: 128)
  var testDescription: String { "\(rawValue)" }
}

@Suite("Flag set") struct FlagSetTests {
  private static let samples: [UInt8] = [0, 1, 2, 3, 5, 128, 129, 254, 255]

  @Test("every operation is that of a set of bits", arguments: samples, samples)
  func operations(_ left: UInt8, _ right: UInt8) {
    let a = Flags(rawValue: left)
    let b = Flags(rawValue: right)
    #expect(a.contains(b) == (left & right == right))
    #expect(a.isSuperset(of: b) == (left & right == right))
    #expect(a.isDisjoint(with: b) == (left & right == 0))
    #expect(a.isEmpty == (left == 0))
    #expect((a == b) == (left == right))
    #expect(a.union(b).rawValue == left | right)
    #expect(a.intersection(b).rawValue == left & right)
    #expect(a.subtracting(b).rawValue == left & ~right)
  }

  @Test("what changes a set agrees with what makes another", arguments: samples, samples)
  func mutations(_ left: UInt8, _ right: UInt8) {
    let a = Flags(rawValue: left)
    let b = Flags(rawValue: right)
    func changed(_ change: (inout Flags) -> Void) -> UInt8 {
      var flags = a
      change(&flags)
      return flags.rawValue
    }
    #expect(changed { $0.insert(b) } == left | right)
    #expect(changed { $0.formUnion(b) } == left | right)
    #expect(changed { $0.remove(b) } == left & ~right)
    #expect(changed { $0.subtract(b) } == left & ~right)
    #expect(changed { $0.formIntersection(b) } == left & right)
    var flags = a
    let inserted = flags.insert(b)
    #expect(inserted.inserted == (left & right != right) && inserted.memberAfterInsert == b)
    flags = a
    #expect(flags.remove(b)?.rawValue == (left & right == 0 ? nil : left & right))
  }

  @Test("literals join their flags") func literals() {
    #expect(Flags().rawValue == 0)
    #expect(([] as Flags).rawValue == 0)
    #expect(([.first, .last] as Flags).rawValue == 129)
    #expect(([.first, .second, .first] as Flags).rawValue == 3)
  }
}
