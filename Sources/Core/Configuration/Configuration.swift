// What an operator asked for, checked: the device, the daemon, the rules.
//
// A `Configuration` is only made by `load` (from a file) or by hand in tests; whoever holds one may
// rely on every bound that is written here. It is a value: a reload makes a new one, and compares
// (`ReloadDifference`). Where something stood in the file is not part of what it is: `==` ignores
// lines.

import Primitives
import Wire

/// Everything that a configuration file says, with defaults for what it leaves out.
package struct Configuration: Sendable, Equatable {
  /// Rules of one file.
  package static let forwardCountMax = 32_768

  package var device: DeviceConfiguration
  package var daemon: DaemonConfiguration
  /// In the order of the file; names are unique.
  package var forwards: [ForwardRule]

  package init(
    device: DeviceConfiguration = DeviceConfiguration(),
    daemon: DaemonConfiguration = DaemonConfiguration(), forwards: [ForwardRule] = []
  ) {
    self.device = device
    self.daemon = daemon
    self.forwards = forwards
  }
}

extension Configuration {
  /// How many workers, each with a queue of the device, are asked for: as many as the file says, or one
  /// for each core and each 1024 flows of `max_flows`, whichever is less. Never more than flows.
  /// - Parameter cores: processors that this process may use.
  package func workers(cores: Int) -> Int {
    let range = DeviceConfiguration.queueCountRange
    if let queues = device.queues { return min(queues, daemon.maxFlows) }
    let worthwhile = daemon.maxFlows / DeviceConfiguration.flowsPerWorkerMin
    return max(range.lowerBound, min(cores, worthwhile, range.upperBound))
  }
}

/// `[device]`: the TUN interface.
package struct DeviceConfiguration: Sendable, Equatable {
  /// Octets of an interface name: IFNAMSIZ less its NUL.
  package static let nameOctetCountMax = 15
  /// From the least MTU that IPv6 works with (RFC 8200 §5) to the largest IPv4 packet.
  package static let mtuRange = 1280...65535
  package static let queueCountRange = 1...64
  /// Flows that "auto" wants for each worker at least: fewer are not worth dividing.
  package static let flowsPerWorkerMin = 1024
  package static let addressCountMax = 64
  package static let routeCountMax = 4096

  package var name: String
  /// Given to the interface; each brings its on-link prefix.
  package var addresses: [InterfaceAddress]
  /// Further prefixes to route into the interface.
  package var routes: [IPPrefix]
  /// Path of the network namespace that the interface is made in; nil is the daemon's own.
  package var netns: String?
  /// In octets.
  package var mtu: Int
  /// TUN queues, one worker each; nil is "auto", see `Configuration.workers(cores:)`.
  package var queues: Int?
  /// Whether segmentation and checksum offload are negotiated.
  package var offload: Bool
  /// Whether the interface stays when the daemon ends.
  package var keep: Bool

  package init(
    name: String = "ferry0", addresses: [InterfaceAddress] = [], routes: [IPPrefix] = [],
    netns: String? = nil, mtu: Int = 1500, queues: Int? = nil, offload: Bool = true,
    keep: Bool = false
  ) {
    self.name = name
    self.addresses = addresses
    self.routes = routes
    self.netns = netns
    self.mtu = mtu
    self.queues = queues
    self.offload = offload
    self.keep = keep
  }
}

/// An address of the interface with the length of its on-link prefix.
package struct InterfaceAddress: Sendable, Hashable, CustomStringConvertible {
  package var address: IPAddress
  /// As people write it: 0...32 for IPv4, 0...128 for IPv6.
  package var length: Int

  /// - Precondition: `length` fits the family.
  package init(address: IPAddress, length: Int) {
    precondition(0...(address.isIPv4 ? 32 : 128) ~= length, "prefix length")
    self.address = address
    self.length = length
  }

  /// The prefix that the kernel routes to the interface because of this address.
  package var onLinkPrefix: IPPrefix {
    IPPrefix(address, length: address.isIPv4 ? length + 96 : length)
  }

  /// The broadcast address of its network (RFC 1122 §3.2.1.3): the last one of an IPv4 network. One of
  /// two addresses (RFC 3021) or of a single one has none.
  package var broadcast: IPAddress? {
    guard address.isIPv4, length <= 30 else { return nil }
    return IPAddress(v4: address.v4 | UInt32.max >> UInt32(length))
  }

  /// "10.77.0.1/24"
  package var description: String { "\(address)/\(length)" }
}

/// `[daemon]`: everything that is neither the interface nor a rule.
package struct DaemonConfiguration: Sendable, Equatable {
  package static let maxFlowsRange = 1...1_000_000
  package static let controlDefault = "/run/portferry/control.sock"

  /// Path of the control socket; nil when the file says "off".
  package var control: String?
  /// Where the status page is served; nil when it is not.
  package var status: SocketAddress?
  package var log: LogConfiguration
  /// How long flows of removed or changed rules may go on after a reload, where the rule drains.
  package var drainTimeout: Interval
  package var maxFlows: Int
  package var unmatched: UnmatchedPolicy
  /// Whom to become once everything is set up; nil stays root.
  package var user: String?

  package init(
    control: String? = Self.controlDefault, status: SocketAddress? = nil,
    log: LogConfiguration = LogConfiguration(), drainTimeout: Interval = .seconds(30),
    maxFlows: Int = 65536, unmatched: UnmatchedPolicy = .reject, user: String? = nil
  ) {
    self.control = control
    self.status = status
    self.log = log
    self.drainTimeout = drainTimeout
    self.maxFlows = maxFlows
    self.unmatched = unmatched
    self.user = user
  }
}

/// What a client hears at a port without a rule.
package enum UnmatchedPolicy: String, Sendable, Hashable, CaseIterable {
  /// RST, or ICMP port unreachable.
  case reject
  /// Nothing.
  case drop
}

package enum LogLevel: String, Sendable, Hashable, CaseIterable {
  case trace, debug, info, notice, warning, error
}

package enum LogFormat: String, Sendable, Hashable, CaseIterable { case text, json }

package struct LogConfiguration: Sendable, Hashable {
  package var level: LogLevel
  package var format: LogFormat

  package init(level: LogLevel = .notice, format: LogFormat = .text) {
    self.level = level
    self.format = format
  }
}

/// An address with a port, as a kernel socket is bound to.
package struct SocketAddress: Sendable, Hashable, BitwiseCopyable, CustomStringConvertible {
  package var address: IPAddress
  package var port: UInt16

  package init(address: IPAddress, port: UInt16) {
    self.address = address
    self.port = port
  }

  /// "127.0.0.1:9077" or "[::1]:9077"
  package var description: String { address.endpoint(port: port) }
}
