// What stands in the namespace now.

import CLibnl
import Glibc
import Kernel
import Wire

extension NetlinkSession {
  package mutating func links() throws(NetlinkError) -> [Link] {
    try dump(Int(RTM_GETLINK), "listing links", header: ifinfomsg()) { Self.link($0) }
  }

  /// The link of a name; nil when there is none.
  package mutating func link(named name: String) throws(NetlinkError) -> Link? {
    try links().first { $0.name == name }
  }

  /// The link of a number; nil when there is none.
  package mutating func link(_ index: Int) throws(NetlinkError) -> Link? {
    try links().first { $0.index == index }
  }

  /// Packets that the kernel has dropped on their way into a link: for a TUN, those that its queue had no
  /// room for.
  package mutating func droppedPackets(_ interfaceIndex: Int) throws(NetlinkError) -> UInt64 {
    let action = "reading the device's statistics"
    var header = ifinfomsg()
    header.ifi_index = Int32(interfaceIndex)
    guard let request = NetlinkRequest(type: Int(RTM_GETLINK), flags: 0, header: header) else {
      throw Self.outOfMemory(action)
    }
    var dropped: UInt64?
    do throws(NetlinkFailure) {
      try socket.exchange(request) { reply in
        guard reply.type == Int(RTM_NEWLINK) else { return }
        // tx_dropped of struct rtnl_link_stats64
        dropped = reply.attributes(after: MemoryLayout<ifinfomsg>.size)
          .counter(Int(IFLA_STATS64), at: 7)
      }
    } catch {
      throw Self.explain(error, action)
    }
    guard let dropped else { throw .exchange(action: action, reason: "they are not told") }
    return dropped
  }

  /// Addresses of both families, on one link or on all.
  package mutating func addresses(
    interfaceIndex: Int? = nil
  ) throws(NetlinkError) -> [LinkAddress] {
    try dump(Int(RTM_GETADDR), "listing addresses", header: ifaddrmsg()) { reply in
      guard reply.type == Int(RTM_NEWADDR), let header = reply.body(as: ifaddrmsg.self) else {
        return nil
      }
      let attributes = reply.attributes(after: MemoryLayout<ifaddrmsg>.size)
      let index = Int(header.ifa_index)
      guard interfaceIndex == nil || interfaceIndex == index,
        let address = attributes.address(Int(IFA_LOCAL)) ?? attributes.address(Int(IFA_ADDRESS)),
        let length = Self.length(header.ifa_prefixlen, of: address)
      else { return nil }
      return LinkAddress(address: address, length: length, interfaceIndex: index)
    }
  }

  /// Unicast routes of the main table, of both families, through one link or through any.
  package mutating func routes(interfaceIndex: Int? = nil) throws(NetlinkError) -> [Route] {
    try dump(Int(RTM_GETROUTE), "listing routes", header: rtmsg()) { reply in
      guard reply.type == Int(RTM_NEWROUTE), let route = Self.mainRoute(reply),
        interfaceIndex == nil || interfaceIndex == route.interfaceIndex
      else { return nil }
      return route
    }
  }

  /// `routes` of all links, to look many prefixes up in.
  package mutating func routesByPrefix() throws(NetlinkError) -> [IPPrefix: [Route]] {
    Dictionary(grouping: try routes(), by: \.prefix)
  }

  /// What a message says of a unicast route of the main table; nil when it is about another.
  static func mainRoute(_ message: NetlinkReply) -> Route? {
    guard let header = message.body(as: rtmsg.self), header.rtm_type == 1,  // RTN_UNICAST
      header.rtm_flags & 0x200 == 0  // RTM_F_CLONED
    else { return nil }
    let attributes = message.attributes(after: MemoryLayout<rtmsg>.size)
    let table = attributes.number(Int(RTA_TABLE.rawValue)) ?? UInt32(header.rtm_table)
    let isIPv4 = header.rtm_family == UInt8(AF_INET)
    guard table == 254, isIPv4 || header.rtm_family == UInt8(AF_INET6)  // RT_TABLE_MAIN
    else { return nil }
    let address = attributes.address(Int(RTA_DST.rawValue)) ?? (isIPv4 ? .anyIPv4 : .anyIPv6)
    guard let length = length(header.rtm_dst_len, of: address) else { return nil }
    return Route(
      prefix: IPPrefix(address, length: length),
      interfaceIndex: Int(attributes.number(Int(RTA_OIF.rawValue)) ?? 0),
      metric: Int(attributes.number(Int(RTA_PRIORITY.rawValue)) ?? 0))
  }

  /// Whether packets to the address are delivered to this host: it has a route of its own. For an IPv6
  /// address the kernel makes that route a moment after it has taken the address, DAD or not.
  package mutating func delivers(_ address: IPAddress) throws(NetlinkError) -> Bool {
    let found = try dump(Int(RTM_GETROUTE), "listing local routes", header: rtmsg()) { reply in
      guard reply.type == Int(RTM_NEWROUTE), let header = reply.body(as: rtmsg.self),
        header.rtm_type == 2  // RTN_LOCAL
      else { return nil as Bool? }
      let attributes = reply.attributes(after: MemoryLayout<rtmsg>.size)
      return attributes.address(Int(RTA_DST.rawValue)) == address ? true : nil
    }
    return !found.isEmpty
  }

  /// A prefix length as rtnetlink has it, over sixteen octets; nil when it is none.
  private static func length(_ length: UInt8, of address: IPAddress) -> Int? {
    guard Int(length) <= address.wireOctets * 8 else { return nil }
    return Int(length) + (address.isIPv4 ? 96 : 0)
  }

  private static func link(_ reply: NetlinkReply) -> Link? {
    guard reply.type == Int(RTM_NEWLINK), let header = reply.body(as: ifinfomsg.self) else {
      return nil
    }
    let attributes = reply.attributes(after: MemoryLayout<ifinfomsg>.size)
    return Link(
      index: Int(header.ifi_index), name: attributes.text(Int(IFLA_IFNAME)) ?? "",
      kind: attributes.nested(Int(IFLA_LINKINFO))?.text(Int(IFLA_INFO_KIND)) ?? "",
      isUp: header.ifi_flags & UInt32(IFF_UP) != 0,
      mtu: Int(attributes.number(Int(IFLA_MTU)) ?? 0),
      queueLength: Int(attributes.number(Int(IFLA_TXQLEN)) ?? 0))
  }
}
