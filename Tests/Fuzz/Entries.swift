import Glibc

// What libFuzzer calls: one executable, whose entry is chosen by the environment.
//
// An entry is a function of an input that does not return if the input shows a fault: a trap, what
// AddressSanitizer finds, or a broken invariant (`require`). libFuzzer hands the input over in memory
// of its exact size, so that a read behind its end is seen. `Scripts/fuzz` builds this, runs it, and
// replays the committed corpora.

typealias Entry = @Sendable (UnsafeRawBufferPointer) -> Void

private let entries: [String: Entry] = [
  "packet": packetEntry,
  "icmp": icmpEntry,
  "tcp-options": tcpOptionsEntry,
  "virtio": virtioEntry,
  "toml": tomlEntry,
  "configuration": configurationEntry,
  "address": addressEntry,
  "fragments": fragmentsEntry,
  "stack": stackEntry,
  "workers": workersEntry,
]

private let chosen: Entry = {
  guard let name = getenv("PORTFERRY_FUZZ_ENTRY"), let entry = entries[String(cString: name)] else {
    fatalError("PORTFERRY_FUZZ_ENTRY must be one of \(entries.keys.sorted())")
  }
  return entry
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ base: UnsafeRawPointer?, _ count: Int) -> CInt {
  chosen(UnsafeRawBufferPointer(start: base, count: base == nil ? 0 : count))
  return 0
}

/// An invariant; what breaks it is a finding.
@inline(__always)
func require(_ holds: Bool, _ what: @autoclosure () -> String) {
  if !holds { fatalError("broken: \(what())") }
}

/// An input read from front to back; behind its end there are zeros.
struct Input {
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isEmpty: Bool { offset >= bytes.count }

  mutating func octet() -> UInt8 {
    guard offset < bytes.count else { return 0 }
    defer { offset += 1 }
    return bytes[offset]
  }

  mutating func number() -> UInt16 { UInt16(octet()) << 8 | UInt16(octet()) }

  /// At most `count` octets.
  mutating func octets(_ count: Int) -> UnsafeRawBufferPointer {
    let end = min(bytes.count, offset + count)
    defer { offset = end }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<end])
  }

  mutating func rest() -> UnsafeRawBufferPointer { octets(bytes.count) }
}

extension UnsafeMutableRawBufferPointer {
  /// Memory of its own for the time of a call, exactly as large as its content.
  static func withCopy<R>(
    of bytes: UnsafeRawBufferPointer, _ body: (UnsafeMutableRawBufferPointer) -> R
  ) -> R {
    let copy = allocate(byteCount: bytes.count, alignment: 16)
    defer { copy.deallocate() }
    copy.copyMemory(from: bytes)
    return body(copy)
  }
}
