import Primitives
import Wire

// IPv4 and IPv6 fragments in, whole packets out (RFC 791 §3.2, RFC 815, RFC 8200 §4.5).
//
// Every waiting datagram has a slot of memory of its own, into which a fragment is copied where it
// belongs: the last one to come completes a packet that lies in one piece, and its headers are
// written in front of it. All memory is laid out at the start and touched only when fragments come;
// no fragment allocates, and a worker that sees none never comes here.
//
// A fragment may cause at most: one waiting datagram within `ReassemblyLimits`, or the end of the one
// that it belongs to. What ends a datagram:
// - an overlap, or two opinions about its end (RFC 5722 §4, which is kept for IPv4 too). An exact
//   duplicate, octet for octet, is only counted (RFC 8200 §4.5 allows that);
// - a first fragment without the whole transport header (RFC 1858, RFC 7112);
// - more octets than an IP packet may have, more fragments than the limit;
// - its time, which begins with whichever fragment came first;
// - want of room: the oldest datagram of the source that has the most is forgotten, and whoever is
//   over his own share loses the oldest of his own.
// After the first three nothing of it is kept, and until its time is over nothing more is taken.
//
// The packet is rebuilt with a plain header of 20 or 40 octets: IPv4 options and the extension headers
// in front of the fragment header were checked by `IPHeader` and say nothing to a host. Left out: the
// ICMP "parameter problem" messages of RFC 8200 §4.5; the caller sends "time exceeded". Atomic
// fragments (RFC 6946) are whole packets to `IPHeader` and do not come here.

package struct Reassembler: ~Copyable {
  /// Room in front of a datagram's payload: for the first fragment's headers as they came, then for
  /// the rebuilt ones with the virtio-net header. Longer headers are not kept for a quotation.
  static let headroomOctets = 128
  static let slotOctets = headroomOctets + ReassemblyLimits.payloadOctetsMax + 1
  static let bucketBits: UInt64 = 8

  package let limits: ReassemblyLimits
  /// Fragment payload of waiting datagrams, in octets.
  package internal(set) var octets = 0
  /// Datagrams completed since the start.
  package private(set) var completedTotal: UInt64 = 0

  /// Waiting and completed datagrams; a datagram's index is that of its memory, too.
  var slots: Slab<WaitingDatagram>
  var sources: Slab<FragmentSource>
  /// The first source of each bucket.
  let buckets: UnsafeMutablePointer<UInt32>
  var ages = (ipv4: AgeList(), ipv6: AgeList())
  private let memory: UnsafeMutableRawPointer
  private let ranges: UnsafeMutablePointer<FragmentRange>
  /// Completed in this turn, linked by `newer`.
  private var completed = none
  private var completedCount = 0

  package init(limits: ReassemblyLimits = ReassemblyLimits()) {
    precondition(
      limits.datagramsPerSource >= 1 && limits.datagrams >= 1 && limits.completedPerTurn >= 1
        && limits.fragmentsPerDatagram >= 1, "limits")
    // A datagram on its own must fit, or making room for it would not end.
    precondition(
      limits.octetsPerSource >= ReassemblyLimits.payloadOctetsMax
        && limits.octets >= ReassemblyLimits.payloadOctetsMax, "limits")
    self.limits = limits
    let capacity = limits.datagrams + limits.completedPerTurn
    slots = Slab(capacity: capacity)
    sources = Slab(capacity: limits.datagrams)
    buckets = .allocate(capacity: 1 << Self.bucketBits)
    buckets.initialize(repeating: none, count: 1 << Self.bucketBits)
    memory = .allocate(byteCount: capacity * Self.slotOctets, alignment: 4096)
    ranges = .allocate(capacity: capacity * limits.fragmentsPerDatagram)
  }

  deinit {
    buckets.deallocate()
    memory.deallocate()
    ranges.deallocate()
  }

  /// Datagrams that wait for fragments, refused ones included.
  package var datagrams: Int { Int(slots.count) - completedCount }

  /// Takes one fragment.
  ///
  /// Throws why the fragment was discarded, possibly with its datagram: `duplicateFragment`,
  /// `fragmentOverlap`, `tinyFragment`, `badFragment`, `badExtensionHeader`, `fragmentECNMixed`,
  /// `reassemblyFull`. Datagrams of others that had to go for it are counted in `drops`.
  /// - Parameters:
  ///   - packet: the IP packet, of which `header` was read and is a fragment's.
  /// - Returns: nil while fragments are missing; else a virtio-net header without flags and the
  ///   whole packet, its transport checksum unverified. Valid until `endTurn`.
  package mutating func receive(
    _ packet: RawSpan, header: IPHeader, at now: MonotonicInstant, drops: inout DropCounters
  ) throws(DropReason) -> UnsafeRawBufferPointer? {
    let known = find(header)
    if let known, let refusal = slots[known].refusal { throw refusal }
    let position: Int
    do throws(DropReason) {
      position = try place(packet, header, in: known)
    } catch {
      if let known, error != .duplicateFragment { refuse(known, error) }
      throw error
    }
    let index = known ?? open(header, at: now, drops: &drops)
    guard makeRoom(octets: header.payloadOctets, for: index, drops: &drops) else {
      throw .reassemblyFull
    }
    keep(packet, header, at: position, in: index)
    guard slots[index].octets == slots[index].totalOctets else { return nil }
    return try complete(index)
  }

  /// The packets returned so far are dealt with: gives their memory back.
  package mutating func endTurn() {
    while completed != none {
      let index = completed
      completed = slots[index].newer
      slots.give(index)
    }
    completedCount = 0
  }

  // MARK: Time

  /// A datagram that waited in vain.
  package struct Expired {
    /// The first fragment as it came, if it came: an ICMP "time exceeded" quotes it, and is not sent
    /// without it (RFC 792, RFC 8200 §4.5). Valid until the next call.
    package let firstFragment: UnsafeRawBufferPointer?
  }

  /// When `popExpired` wants to be called; nil: never.
  package func nextDeadline() -> MonotonicInstant? {
    let (first, second) = (ages.ipv4.oldest, ages.ipv6.oldest)
    guard first != none else { return second == none ? nil : slots[second].deadline }
    let deadline = slots[first].deadline
    return second == none ? deadline : min(deadline, slots[second].deadline)
  }

  /// Forgets a datagram whose time is over, and counts it; nil when there is none left.
  package mutating func popExpired(
    at now: MonotonicInstant, drops: inout DropCounters
  ) -> Expired? {
    while let index = due(at: now) {
      let datagram = slots[index]
      remove(index)
      // What was refused has been counted.
      guard datagram.refusal == nil else { continue }
      drops.count(.fragmentTimeout)
      guard datagram.firstHeaderOctets > 0 else { return Expired(firstFragment: nil) }
      return Expired(
        firstFragment: UnsafeRawBufferPointer(
          start: payload(index) - datagram.firstHeaderOctets,
          count: datagram.firstHeaderOctets + datagram.firstOctets))
    }
    return nil
  }

  private func due(at now: MonotonicInstant) -> UInt32? {
    let (first, second) = (ages.ipv4.oldest, ages.ipv6.oldest)
    if first != none, slots[first].deadline <= now { return first }
    if second != none, slots[second].deadline <= now { return second }
    return nil
  }

  // MARK: One datagram

  func payload(_ index: UInt32) -> UnsafeMutableRawPointer {
    memory + Int(index) * Self.slotOctets + Self.headroomOctets
  }

  private func held(_ index: UInt32) -> HeldFragments {
    HeldFragments(
      ranges: ranges + Int(index) * limits.fragmentsPerDatagram, count: slots[index].fragments)
  }

  /// Checks a fragment against what is known of its datagram, and finds its place there.
  private func place(
    _ packet: RawSpan, _ header: IPHeader, in known: UInt32?
  ) throws(DropReason) -> Int {
    let octets = header.payloadOctets
    let start = header.fragmentOffset
    let end = start + octets
    // IPv4's total length counts the header; IPv6's payload length what is behind 40 octets, less
    // the fragment header.
    let packetOctets = end + header.headerOctets - (header.isIPv4 ? 0 : 48)
    guard octets > 0, packetOctets <= 65_535 else { throw .badFragment }
    let payload = packet.extracting(header.headerOctets..<header.totalOctets)
    if start == 0 {
      try HeaderChain.check(payload, transport: header.transport, isIPv4: header.isIPv4)
    }
    guard let known else { return 0 }
    let datagram = slots[known]
    let fragments = held(known)
    switch fragments.place(of: FragmentRange(start: UInt16(start), end: UInt16(end))) {
    case .repeated:
      let isSame =
        header.moreFragments == (datagram.totalOctets != end)
        && isHeld(payload, at: self.payload(known) + start)
      throw isSame ? .duplicateFragment : .fragmentOverlap
    case .overlapping:
      throw .fragmentOverlap
    case .free(let position):
      // The end must be one, and behind everything.
      let isLastPlace = position == fragments.count
      guard
        header.moreFragments
          ? datagram.totalOctets == 0 || !isLastPlace
          : datagram.totalOctets == 0 && isLastPlace
      else { throw .fragmentOverlap }
      guard fragments.count < limits.fragmentsPerDatagram else { throw .reassemblyFull }
      return position
    }
  }

  private func isHeld(_ octets: RawSpan, at memory: UnsafeMutableRawPointer) -> Bool {
    octets.withUnsafeBytes { octets in
      octets.elementsEqual(UnsafeRawBufferPointer(start: memory, count: octets.count))
    }
  }

  private mutating func keep(
    _ packet: RawSpan, _ header: IPHeader, at position: Int, in index: UInt32
  ) {
    let start = header.fragmentOffset
    let octets = header.payloadOctets
    held(index).insert(
      FragmentRange(start: UInt16(start), end: UInt16(start + octets)), at: position)
    let datagram = slots.pointer(index)
    datagram.pointee.fragments += 1
    datagram.pointee.codepoints |= 1 << (header.trafficClass & 3)
    if !header.moreFragments { datagram.pointee.totalOctets = start + octets }
    var source = header.headerOctets
    if start == 0 {
      datagram.pointee.firstOctets = octets
      datagram.pointee.transport = header.transport
      datagram.pointee.hopLimit = header.hopLimit
      datagram.pointee.trafficClass = header.trafficClass
      if header.headerOctets <= Self.headroomOctets {
        datagram.pointee.firstHeaderOctets = header.headerOctets
        source = 0
      }
    }
    let target = payload(index) + start - (header.headerOctets - source)
    packet.extracting(source..<header.totalOctets).withUnsafeBytes { octets in
      if let base = octets.baseAddress { target.copyMemory(from: base, byteCount: octets.count) }
    }
    hold(index, octets)
  }

  /// Makes a packet of a datagram all of whose octets are here.
  private mutating func complete(_ index: UInt32) throws(DropReason) -> UnsafeRawBufferPointer {
    let datagram = slots[index]
    let source = sources[datagram.source].address
    unlink(index)
    let trafficClass: UInt8
    do throws(DropReason) {
      guard completedCount < limits.completedPerTurn else { throw .reassemblyFull }
      trafficClass = try datagram.joinedTrafficClass()
    } catch {
      slots.give(index)
      throw error
    }
    slots[index].newer = completed
    completed = index
    completedCount += 1
    completedTotal += 1
    let ipOctets = datagram.isIPv4 ? 20 : 40
    let packet = payload(index) - ipOctets
    RebuiltHeader.write(
      to: packet, of: datagram, source: source, trafficClass: trafficClass)
    let frame = packet - VirtioNetHeader.octets
    VirtioNetHeader().write(to: frame)
    return UnsafeRawBufferPointer(
      start: frame, count: VirtioNetHeader.octets + ipOctets + datagram.totalOctets)
  }
}
