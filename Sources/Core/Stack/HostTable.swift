import Wire

// The addresses of host names, as a worker keeps them for its rules.
//
// Each worker has a copy of its own of every answer: a flow that begins reads it, and counts no
// reference. A name has a number for as long as rules lead to it, retired ones included, so that no more
// names are kept than rules; a reload gives back those that are of no use only when it has opened its
// new rules.

struct HostTable: ~Copyable {
  private struct Host: BitwiseCopyable {
    var addresses: UnsafeMutableBufferPointer<IPAddress>
    var rules: Int
  }

  /// Of one name; no flow tries more (`Flow.attempt`).
  static let addressesMax = 256

  private var numbers: [String: UInt32] = [:]
  private var names: [String] = []
  private let hosts: UnsafeMutablePointer<Host>
  private var vacant: [UInt32] = []
  /// May lead nowhere by now.
  private var unused: [UInt32] = []

  /// - Parameter capacity: names at once.
  init(capacity: Int) { hosts = .allocate(capacity: capacity) }

  deinit {
    for number in numbers.values { hosts[Int(number)].addresses.deallocate() }
    hosts.deallocate()
  }

  /// The last good answer; nothing while there is none. Valid until the next one comes.
  func addresses(_ number: UInt32) -> UnsafeBufferPointer<IPAddress> {
    number == noHost
      ? UnsafeBufferPointer(start: nil, count: 0)
      : UnsafeBufferPointer(hosts[Int(number)].addresses)
  }

  /// A rule leads to the name.
  mutating func use(_ name: String) -> UInt32 {
    if let number = numbers[name] {
      hosts[Int(number)].rules += 1
      return number
    }
    let number = vacant.popLast() ?? UInt32(names.count)
    if number == names.count { names.append(name) } else { names[Int(number)] = name }
    numbers[name] = number
    (hosts + Int(number)).initialize(
      to: Host(addresses: UnsafeMutableBufferPointer(start: nil, count: 0), rules: 1))
    return number
  }

  /// A rule leads there no more; see `purge`.
  mutating func leave(_ number: UInt32) {
    guard number != noHost else { return }
    hosts[Int(number)].rules -= 1
    if hosts[Int(number)].rules == 0 { unused.append(number) }
  }

  /// Gives back the names that no rule leads to.
  mutating func purge() {
    for number in unused where numbers[names[Int(number)]] == number {
      guard hosts[Int(number)].rules == 0 else { continue }
      hosts[Int(number)].addresses.deallocate()
      numbers[names[Int(number)]] = nil
      names[Int(number)] = ""
      vacant.append(number)
    }
    unused.removeAll()
  }

  /// A name's newest answer; of no interest where no rule leads to it.
  mutating func resolved(_ name: String, _ addresses: [IPAddress]) {
    guard let number = numbers[name] else { return }
    hosts[Int(number)].addresses.deallocate()
    let kept = addresses.prefix(Self.addressesMax)
    let copy = UnsafeMutableBufferPointer<IPAddress>.allocate(capacity: kept.count)
    _ = copy.initialize(fromContentsOf: kept)
    hosts[Int(number)].addresses = copy
  }

  /// Names now.
  var count: Int { numbers.count }
}
