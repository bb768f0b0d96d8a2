// Why a packet, or what it asked for, came to nothing.
//
// Nothing is dropped silently: whoever discards counts one of these. `word` is what an operator
// reads in metrics and logs and must not change once released; `explanation` is one clause, which
// stands beside the number on the status page, and after the word in portferry(1). Parsers throw a
// reason, everyone else counts one.

/// One cause of a discard.
package enum DropReason: UInt8, Error, Hashable, Sendable, CaseIterable, BitwiseCopyable {
  // The device and its header.
  case badOffloadHeader
  /// The kernel's drop: counted by it, see Daemon+Overflow.
  case deviceQueueFull
  case deviceWriteFailed
  case frameQueueFull
  case handOverFull

  // IP.
  case truncatedHeader
  case badVersion
  case badHeaderLength
  case badTotalLength
  case badHeaderChecksum
  case badExtensionHeader
  case badIPOptions
  case sourceRouted
  case badFragment
  case fragment
  case tinyFragment
  case duplicateFragment
  case fragmentOverlap
  case fragmentECNMixed
  case fragmentTimeout
  case reassemblyFull
  case unsupportedProtocol
  case martianSource
  case martianDestination
  case multicastDestination
  case landAttack

  // Transport headers.
  case badTransportChecksum
  case badTransportLength
  case badTCPOptions
  case badTCPFlags
  case zeroPort
  case datagramTooLarge

  // Finding the flow.
  case notForUs
  case noRule
  case unknownFlow
  case flowTableFull
  case ruleFull
  case memoryFull
  case noSocket
  case duplicateSYN

  // In a flow.
  case outOfWindow
  case badAcknowledgment
  case pawsRejected
  case challenged
  case resetInTimeWait
  case targetWriteFailed
  case targetQueueFull

  // ICMP.
  case icmpIgnored
  case icmpBadChecksum
  case icmpUnmatched
  case icmpBadMTU
  case rateLimited
}

extension DropReason {
  /// The operator's word, in kebab case.
  package var word: String {
    switch self {
    case .badOffloadHeader: "bad-offload-header"
    case .deviceQueueFull: "device-queue-full"
    case .deviceWriteFailed: "device-write-failed"
    case .frameQueueFull: "frame-queue-full"
    case .handOverFull: "hand-over-full"
    case .truncatedHeader: "truncated-header"
    case .badVersion: "bad-version"
    case .badHeaderLength: "bad-header-length"
    case .badTotalLength: "bad-total-length"
    case .badHeaderChecksum: "bad-header-checksum"
    case .badExtensionHeader: "bad-extension-header"
    case .badIPOptions: "bad-ip-options"
    case .sourceRouted: "source-routed"
    case .badFragment: "bad-fragment"
    case .fragment: "fragment"
    case .tinyFragment: "tiny-fragment"
    case .duplicateFragment: "duplicate-fragment"
    case .fragmentOverlap: "fragment-overlap"
    case .fragmentECNMixed: "fragment-ecn-mixed"
    case .fragmentTimeout: "fragment-timeout"
    case .reassemblyFull: "reassembly-full"
    case .unsupportedProtocol: "unsupported-protocol"
    case .martianSource: "martian-source"
    case .martianDestination: "martian-destination"
    case .multicastDestination: "multicast-destination"
    case .landAttack: "land-attack"
    case .badTransportChecksum: "bad-transport-checksum"
    case .badTransportLength: "bad-transport-length"
    case .badTCPOptions: "bad-tcp-options"
    case .badTCPFlags: "bad-tcp-flags"
    case .zeroPort: "zero-port"
    case .datagramTooLarge: "datagram-too-large"
    case .notForUs: "not-for-us"
    case .noRule: "no-rule"
    case .unknownFlow: "unknown-flow"
    case .flowTableFull: "flow-table-full"
    case .ruleFull: "rule-full"
    case .memoryFull: "memory-full"
    case .noSocket: "no-socket"
    case .duplicateSYN: "duplicate-syn"
    case .outOfWindow: "out-of-window"
    case .badAcknowledgment: "bad-acknowledgment"
    case .pawsRejected: "paws-rejected"
    case .challenged: "challenged"
    case .resetInTimeWait: "reset-in-time-wait"
    case .targetWriteFailed: "target-write-failed"
    case .targetQueueFull: "target-queue-full"
    case .icmpIgnored: "icmp-ignored"
    case .icmpBadChecksum: "icmp-bad-checksum"
    case .icmpUnmatched: "icmp-unmatched"
    case .icmpBadMTU: "icmp-bad-mtu"
    case .rateLimited: "rate-limited"
    }
  }

  /// One clause: what was discarded and why.
  package var explanation: String {
    switch self {
    case .badOffloadHeader: "the virtio-net header is cut short or contradicts its packet"
    case .deviceQueueFull: "the kernel found no room in the device's queue"
    case .deviceWriteFailed: "the device refused a packet of ours"
    case .frameQueueFull: "an answer found no room among the packets waiting for the device"
    case .handOverFull: "too many packets wait for the worker that this one belongs to"
    case .truncatedHeader: "the packet ends inside a header"
    case .badVersion: "the IP version is neither 4 nor 6"
    case .badHeaderLength: "a header states a length under its minimum or beyond its packet"
    case .badTotalLength: "the IP length field is less than the header or more than arrived"
    case .badHeaderChecksum: "the IPv4 header checksum is wrong"
    case .badExtensionHeader: "an IPv6 extension header is malformed, misplaced or not understood"
    case .badIPOptions: "the IPv4 options do not fill their header"
    case .sourceRouted: "the packet names its own way: a source route, or a routing header"
    case .badFragment: "a fragment is empty, ends off an 8-octet border or beyond 65535 octets"
    case .fragment: "a datagram that was put together from fragments is a fragment again"
    case .tinyFragment: "a first fragment does not hold the whole transport header"
    case .duplicateFragment: "the fragment repeats one that is already here"
    case .fragmentOverlap: "fragments of one datagram overlap or disagree about its end"
    case .fragmentECNMixed: "of one datagram's fragments one says congestion, one not ECN-capable"
    case .fragmentTimeout: "not all fragments of a datagram came in time"
    case .reassemblyFull: "a bound on what may wait for missing fragments is reached"
    case .unsupportedProtocol: "the payload is not TCP, UDP, ICMP or ICMPv6"
    case .martianSource: "the source address cannot belong to a host"
    case .martianDestination: "the destination address cannot be one of ours"
    case .multicastDestination: "the packet is for a multicast or broadcast address"
    case .landAttack: "source and destination address are the same"
    case .badTransportChecksum: "the TCP or UDP checksum is wrong"
    case .badTransportLength: "the TCP or UDP header states an impossible length"
    case .badTCPOptions: "a TCP option states an impossible length"
    case .badTCPFlags: "SYN is combined with FIN or RST, or ACK is missing"
    case .zeroPort: "a port is zero"
    case .datagramTooLarge: "the datagram is larger than the way out takes"
    case .notForUs: "no rule covers the destination address"
    case .noRule: "a rule covers the destination address, none its port"
    case .unknownFlow: "a TCP segment other than a SYN belongs to no flow"
    case .flowTableFull: "there are as many flows as daemon.max_flows, or open files, allow"
    case .ruleFull: "the rule has as many flows as its max_connections allows"
    case .memoryFull: "the memory for payload of all flows together is spent"
    case .noSocket: "no kernel socket could be had for the flow, or too many are being connected"
    case .duplicateSYN: "a SYN repeats one that is still being connected"
    case .outOfWindow: "the segment lies outside of the receive window"
    case .badAcknowledgment: "the segment acknowledges what was never sent"
    case .pawsRejected: "the segment's timestamp is older than the flow's, or missing (RFC 7323)"
    case .challenged: "a SYN or reset within a flow may be forged, its sender is asked (RFC 5961)"
    case .resetInTimeWait: "a reset came to an endpoint that rests in TIME-WAIT (RFC 1337)"
    case .targetWriteFailed: "the target's socket refused a datagram"
    case .targetQueueFull: "the target's datagrams found no room in its socket"
    case .icmpIgnored: "the ICMP message asks for nothing that is answered or acted on"
    case .icmpBadChecksum: "the ICMP checksum is wrong"
    case .icmpUnmatched: "the ICMP error quotes no flow of ours, or octets that are not in flight"
    case .icmpBadMTU: "the ICMP error claims an MTU that is impossible, or not below the known one"
    case .rateLimited: "an ICMP error or a challenge ACK was due, and too many were sent lately"
    }
  }
}

extension DropReason: CustomStringConvertible {
  package var description: String { word }
}
