// The gate of the hot path: drives every path and fails if a packet costs an allocation, a reference count
// or an exclusivity check. The time of a packet is shown and never judged.
//
//     portferry-hotpath [--packets N] [--only TEXT] [--list]
//
// Each path is driven until it is warm (tables grown, memory touched, buffers at their peak), then for
// so many packets more, over which is counted. A reload may cost what does not grow with the rules. The last
// line is "N passed, N failed".

import Counting
import Glibc
import HotPaths

final class Provoked {
  var value = 0
}

/// What the optimiser knows nothing of.
@inline(never) @_optimize(none) func provoke(_ objects: inout [Provoked]) -> Int {
  let object = Provoked()
  for _ in 0..<4 {
    objects.append(object)
    increase(&object.value)
  }
  return object.value
}

@inline(never) @_optimize(none) func increase(_ value: inout Int) { value += 1 }

/// What of all that is counted is not counted when it is provoked: a counter that counts nothing would
/// pass everything.
func blindness() -> [String] {
  let before = counting_read()
  var objects: [Provoked] = []
  _ = provoke(&objects)
  objects = []
  return changes(from: before).filter { $0.count == 0 }.map(\.name)
}

/// What was counted since.
func changes(from before: counts) -> [(name: String, count: UInt64)] {
  let now = counting_read()
  return [
    ("allocations", now.allocations - before.allocations), ("frees", now.frees - before.frees),
    ("reference counts", now.references - before.references),
    ("exclusivity checks", now.accesses - before.accesses),
  ]
}

/// Of this thread's own processor time, which a busy machine does not stretch.
func nanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

struct Gate: HotPathVisitor {
  var packets = 200_000
  var only = ""
  var lists = false
  var passed = 0
  var failed = 0

  mutating func visit<Path: HotPath & ~Copyable>(_ type: Path.Type) {
    guard only.isEmpty || Path.name.contains(only) else { return }
    if lists { return print(Path.name) }
    var path = Path()
    _ = path.drive(packets: packets)
    let began = nanoseconds()
    let before = counting_read()
    let driven = path.drive(packets: packets)
    let counted = changes(from: before)
    let spent = nanoseconds() - began
    let counts = counted.filter { $0.count > 0 }.map { "\($0.count) \($0.name)" }
    var wrong = counts.isEmpty ? [] : [counts.joined(separator: ", ") + " in \(driven) packets"]
    if let failure = path.failure() { wrong.append(failure) }
    if wrong.isEmpty {
      passed += 1
      print("ok \(Path.name) (\(driven) packets, \(spent / UInt64(driven)) ns each)")
    } else {
      failed += 1
      print("FAILED \(Path.name): \(wrong.joined(separator: "; "))")
    }
  }
}

extension Gate {
  /// What a worker may allocate, and references that it may count, for a reload of whatever rules.
  static let reloadCountMax: UInt64 = 32

  mutating func checkReload(_ change: Reload.Change) {
    let name = "a reload of \(Reload.ruleCount) rules, \(change.rawValue)"
    guard only.isEmpty || name.contains(only) else { return }
    if lists { return print(name) }
    var reload = Reload(change)
    for _ in 0..<4 { reload.install() }
    let began = nanoseconds()
    let before = counting_read()
    reload.install()
    let counted = changes(from: before)
    let spent = nanoseconds() - began
    var wrong = counted.filter { $0.count > Self.reloadCountMax }.map { "\($0.count) \($0.name)" }
    if let failure = reload.failure() { wrong.append(failure) }
    if wrong.isEmpty {
      passed += 1
      print("ok \(name) (\(spent / 1000) µs)")
    } else {
      failed += 1
      print("FAILED \(name): \(wrong.joined(separator: "; "))")
    }
  }
}

func usage() -> Never {
  print("usage: portferry-hotpath [--packets N] [--only TEXT] [--list]")
  exit(2)
}

var gate = Gate()
var arguments = CommandLine.arguments.dropFirst()
while let argument = arguments.popFirst() {
  switch argument {
  case "--list": gate.lists = true
  case "--only":
    guard let text = arguments.popFirst() else { usage() }
    gate.only = text
  case "--packets":
    guard let text = arguments.popFirst(), let count = Int(text), count > 0 else { usage() }
    gate.packets = count
  default: usage()
  }
}
let blind = blindness()
guard blind.isEmpty else {
  print("FAILED nothing counts \(blind.joined(separator: ", "))")
  print("0 passed, 1 failed")
  exit(1)
}
gate.visitAll()
for change in Reload.Change.allCases { gate.checkReload(change) }
if !gate.lists { print("\(gate.passed) passed, \(gate.failed) failed") }
exit(gate.failed == 0 && (gate.lists || gate.passed > 0) ? 0 : 1)
