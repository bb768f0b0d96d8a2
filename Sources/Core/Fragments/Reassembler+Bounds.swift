import Primitives
import Wire

// Who waits, for whom, since when; and who goes when there is no more room.
//
// A datagram is in two lists by age: its family's, whose head is the next to expire (time is one
// value per family), and its source's, whose head goes first when the source has too much. Sources
// are found by a hash without a secret: it only ever holds as many as datagrams may wait, so that a
// client who makes them collide gains a short walk.

/// Datagrams of one family, oldest first.
struct AgeList: BitwiseCopyable {
  var oldest = none
  var newest = none
}

extension Reassembler {
  // MARK: Finding

  private func bucket(_ address: IPAddress) -> Int {
    let mixed = (address.high ^ (address.low &* 0x9E37_79B9_7F4A_7C15)) &* 0xBF58_476D_1CE4_E5B9
    return Int(mixed >> (64 - Self.bucketBits))
  }

  private func findSource(_ address: IPAddress) -> UInt32? {
    var source = buckets[bucket(address)]
    while source != none {
      if sources[source].address == address { return source }
      source = sources[source].next
    }
    return nil
  }

  /// The datagram that a fragment belongs to.
  func find(_ header: IPHeader) -> UInt32? {
    guard let source = findSource(header.source) else { return nil }
    let name = DatagramName(header)
    // The newest is the likeliest.
    var index = sources[source].newest
    while index != none {
      if slots[index].name == name { return index }
      index = slots[index].olderOfSource
    }
    return nil
  }

  // MARK: Room

  /// Makes a new datagram for a fragment, in place of an older one if need be.
  mutating func open(
    _ header: IPHeader, at now: MonotonicInstant, drops: inout DropCounters
  ) -> UInt32 {
    if let source = findSource(header.source),
      sources[source].datagrams >= limits.datagramsPerSource
    {
      evict(sources[source].oldest, drops: &drops)
    } else if datagrams >= limits.datagrams {
      evict(sources[heaviest { $0.datagrams }].oldest, drops: &drops)
    }
    let isIPv4 = header.isIPv4
    let timeout = isIPv4 ? limits.timeoutIPv4 : limits.timeoutIPv6
    let datagram = WaitingDatagram(
      name: DatagramName(header), source: findSource(header.source) ?? add(header.source),
      isIPv4: isIPv4, deadline: now + timeout)
    guard let index = slots.take(datagram) else {
      preconditionFailure("as many slots as datagrams may wait and be completed")
    }
    link(index)
    return index
  }

  /// Makes room for so many more octets of a datagram.
  /// - Returns: false when the datagram itself had to go; its fragment is to be counted.
  mutating func makeRoom(octets wanted: Int, for index: UInt32, drops: inout DropCounters) -> Bool {
    let source = slots[index].source
    while true {
      let victim: UInt32
      if sources[source].octets + wanted > limits.octetsPerSource {
        victim = sources[source].oldest
      } else if octets + wanted > limits.octets {
        victim = sources[heaviest { $0.octets }].oldest
      } else {
        return true
      }
      guard victim != index else {
        remove(index)
        return false
      }
      evict(victim, drops: &drops)
    }
  }

  /// The source that has the most; of equals, the one whose time is over first.
  private func heaviest(_ weight: (FragmentSource) -> Int) -> UInt32 {
    var (found, most, first) = (none, -1, MonotonicInstant.distantFuture)
    for index in 0..<sources.touchedCount where sources[index].datagrams > 0 {
      let own = weight(sources[index])
      guard own >= most else { continue }
      let deadline = slots[sources[index].oldest].deadline
      guard own > most || deadline < first else { continue }
      (found, most, first) = (index, own, deadline)
    }
    return found
  }

  private mutating func evict(_ index: UInt32, drops: inout DropCounters) {
    if slots[index].refusal == nil { drops.count(.reassemblyFull) }
    remove(index)
  }

  /// Keeps nothing of a datagram but its name.
  mutating func refuse(_ index: UInt32, _ reason: DropReason) {
    hold(index, -slots[index].octets)
    slots[index].refusal = reason
  }

  /// Puts octets down to a datagram, to its source and to all.
  mutating func hold(_ index: UInt32, _ change: Int) {
    slots[index].octets += change
    sources[slots[index].source].octets += change
    octets += change
  }

  // MARK: Lists

  private mutating func add(_ address: IPAddress) -> UInt32 {
    let bucket = bucket(address)
    guard let source = sources.take(FragmentSource(address: address, next: buckets[bucket])) else {
      preconditionFailure("as many sources as datagrams may wait")
    }
    buckets[bucket] = source
    return source
  }

  private mutating func link(_ index: UInt32) {
    let (source, isIPv4) = (slots[index].source, slots[index].isIPv4)
    let last = isIPv4 ? ages.ipv4.newest : ages.ipv6.newest
    slots[index].older = last
    if last != none { slots[last].newer = index }
    if isIPv4 { ages.ipv4.newest = index } else { ages.ipv6.newest = index }
    if last == none {
      if isIPv4 { ages.ipv4.oldest = index } else { ages.ipv6.oldest = index }
    }
    let lastOfSource = sources[source].newest
    slots[index].olderOfSource = lastOfSource
    if lastOfSource != none { slots[lastOfSource].newerOfSource = index }
    sources[source].newest = index
    if lastOfSource == none { sources[source].oldest = index }
    sources[source].datagrams += 1
  }

  /// Takes a datagram out of everything but its slot.
  mutating func unlink(_ index: UInt32) {
    hold(index, -slots[index].octets)
    let datagram = slots[index]
    if datagram.older != none { slots[datagram.older].newer = datagram.newer }
    if datagram.newer != none { slots[datagram.newer].older = datagram.older }
    if ages.ipv4.oldest == index { ages.ipv4.oldest = datagram.newer }
    if ages.ipv4.newest == index { ages.ipv4.newest = datagram.older }
    if ages.ipv6.oldest == index { ages.ipv6.oldest = datagram.newer }
    if ages.ipv6.newest == index { ages.ipv6.newest = datagram.older }

    let source = datagram.source
    let (older, newer) = (datagram.olderOfSource, datagram.newerOfSource)
    if older != none { slots[older].newerOfSource = newer }
    if newer != none { slots[newer].olderOfSource = older }
    if sources[source].oldest == index { sources[source].oldest = newer }
    if sources[source].newest == index { sources[source].newest = older }
    sources[source].datagrams -= 1
    if sources[source].datagrams == 0 { forget(source) }
  }

  private mutating func forget(_ source: UInt32) {
    let bucket = bucket(sources[source].address)
    if buckets[bucket] == source {
      buckets[bucket] = sources[source].next
    } else {
      var before = buckets[bucket]
      while sources[before].next != source { before = sources[before].next }
      sources[before].next = sources[source].next
    }
    sources.give(source)
  }

  mutating func remove(_ index: UInt32) {
    unlink(index)
    slots.give(index)
  }

  /// Forgets every waiting datagram, without counting it: the daemon stops.
  package mutating func removeAll() {
    while ages.ipv4.oldest != none { remove(ages.ipv4.oldest) }
    while ages.ipv6.oldest != none { remove(ages.ipv6.oldest) }
  }
}
