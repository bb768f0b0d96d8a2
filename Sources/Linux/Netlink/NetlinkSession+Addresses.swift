// Giving addresses and routes to the device, and taking them back.

import CLibnl
import Glibc
import Kernel
import Wire

extension NetlinkSession {
  /// Gives an address to a link; its on-link prefix is routed there with it. IPv6 addresses are usable at
  /// once: duplicate address detection has nobody to ask on a TUN.
  ///
  /// - Parameter length: of the prefix, over sixteen octets: 120 for an IPv4 /24.
  /// - Returns: false when the link had the address already.
  /// - Throws: `addressInUse` when another link of the namespace has it.
  @discardableResult
  package mutating func addAddress(
    _ address: IPAddress, length: Int, interfaceIndex: Int
  ) throws(NetlinkError) -> Bool {
    let holders = try addresses().filter { $0.address == address }
    if let other = holders.first(where: { $0.interfaceIndex != interfaceIndex }) {
      throw .addressInUse(address, link: try linkName(other.interfaceIndex))
    }
    if holders.contains(where: { $0.length == length }) { return false }
    let action = "adding address \(address) to the device"
    do throws(NetlinkError) {
      try perform(
        try addressRequest(Int(RTM_NEWADDR), address, length, interfaceIndex, action), action)
      return true
    } catch {
      guard case .refused(_, let cause, _) = error else { throw error }
      if cause.alreadyExists { return false }
      if !address.isIPv4 && (cause.isNotPermitted || cause.isUnsupported) {
        throw .ipv6Unavailable(address)
      }
      throw error
    }
  }

  /// Takes an address from a link.
  ///
  /// - Returns: false when it was gone already.
  @discardableResult
  package mutating func removeAddress(
    _ address: IPAddress, length: Int, interfaceIndex: Int
  ) throws(NetlinkError) -> Bool {
    let action = "removing address \(address) from the device"
    return try removed { () throws(NetlinkError) in
      try perform(
        try addressRequest(Int(RTM_DELADDR), address, length, interfaceIndex, action), action)
    }
  }

  /// Leads a prefix into a link, which must be up.
  ///
  /// - Parameter known: what `routesByPrefix` has just said, where many routes are added; nil asks.
  /// - Returns: false when it led there already, such as by an address's on-link prefix.
  /// - Throws: `routeInUse` when the same prefix leads elsewhere.
  @discardableResult
  package mutating func addRoute(
    _ prefix: IPPrefix, interfaceIndex: Int, known: [IPPrefix: [Route]]? = nil
  ) throws(NetlinkError) -> Bool {
    let holders: [Route]
    if let known {
      holders = known[prefix] ?? []
    } else {
      holders = try routes().filter { $0.prefix == prefix }
    }
    if holders.contains(where: { $0.interfaceIndex == interfaceIndex }) { return false }
    if let other = holders.first {
      throw .routeInUse(prefix, link: try linkName(other.interfaceIndex))
    }
    let action = "routing \(prefix) to the device"
    do throws(NetlinkError) {
      try perform(try routeRequest(Int(RTM_NEWROUTE), prefix, interfaceIndex, action), action)
      return true
    } catch {
      // Made by somebody else since the look above.
      guard case .refused(_, let cause, _) = error, cause.alreadyExists else { throw error }
      throw .routeInUse(prefix, link: "another device")
    }
  }

  /// Takes a prefix back.
  ///
  /// - Returns: false when it was gone already.
  @discardableResult
  package mutating func removeRoute(
    _ prefix: IPPrefix, interfaceIndex: Int
  ) throws(NetlinkError) -> Bool {
    let action = "removing the route of \(prefix)"
    return try removed { () throws(NetlinkError) in
      try perform(try routeRequest(Int(RTM_DELROUTE), prefix, interfaceIndex, action), action)
    }
  }

  private func removed(_ removal: () throws(NetlinkError) -> Void) throws(NetlinkError) -> Bool {
    do throws(NetlinkError) {
      try removal()
      return true
    } catch {
      switch error {
      case .linkMissing: return false
      case .refused(_, let cause, _) where cause.code == EADDRNOTAVAIL || cause.code == ESRCH:
        return false
      default: throw error
      }
    }
  }

  private mutating func linkName(_ index: Int) throws(NetlinkError) -> String {
    index == 0 ? "several devices" : try link(index)?.name ?? "another device"
  }

  private func addressRequest(
    _ type: Int, _ address: IPAddress, _ length: Int, _ interfaceIndex: Int, _ action: String
  ) throws(NetlinkError) -> NetlinkRequest {
    precondition((address.isIPv4 ? 96 : 0)...128 ~= length, "prefix length")
    var header = ifaddrmsg()
    header.ifa_family = UInt8(address.isIPv4 ? AF_INET : AF_INET6)
    header.ifa_prefixlen = UInt8(length - (address.isIPv4 ? 96 : 0))
    header.ifa_index = UInt32(interfaceIndex)
    header.ifa_flags = address.isIPv4 ? 0 : 0x02  // IFA_F_NODAD
    let isNew = type == Int(RTM_NEWADDR)
    guard
      var request = NetlinkRequest(
        type: type, flags: isNew ? Int32(NLM_F_CREATE | NLM_F_EXCL) : 0, header: header)
    else { throw Self.outOfMemory(action) }
    request.put(Int(IFA_LOCAL), address)
    request.put(Int(IFA_ADDRESS), address)
    return request
  }

  private func routeRequest(
    _ type: Int, _ prefix: IPPrefix, _ interfaceIndex: Int, _ action: String
  ) throws(NetlinkError) -> NetlinkRequest {
    var header = rtmsg()
    header.rtm_family = UInt8(prefix.isIPv4 ? AF_INET : AF_INET6)
    header.rtm_dst_len = UInt8(prefix.textLength)
    header.rtm_table = 254  // RT_TABLE_MAIN
    header.rtm_protocol = 4  // RTPROT_STATIC
    header.rtm_scope = prefix.isIPv4 ? 253 : 0  // RT_SCOPE_LINK; IPv6 knows only the universe
    header.rtm_type = 1  // RTN_UNICAST
    let isNew = type == Int(RTM_NEWROUTE)
    guard
      var request = NetlinkRequest(
        type: type, flags: isNew ? Int32(NLM_F_CREATE | NLM_F_EXCL) : 0, header: header)
    else { throw Self.outOfMemory(action) }
    request.put(Int(RTA_DST.rawValue), prefix.address)
    request.put(Int(RTA_OIF.rawValue), UInt32(interfaceIndex))
    return request
  }
}
