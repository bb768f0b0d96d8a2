// Who stands behind a device name that is taken already.
//
// A TUN that a `keep`ing run left behind has nobody attached and may be taken over; one that another
// process serves may not, and with several queues the kernel would let us attach beside it. Only
// rtnetlink tells the two apart. The answer is walked here with every length checked; the
// full rtnetlink client is a sibling of this target and not available to it.

import CLinux
import Glibc
import Kernel

/// A link as far as the choice needs it.
struct LinkProbe: Equatable {
  var kind = ""
  /// Whether somebody is attached: a TUN has carrier then.
  var isServed = false
  /// IFF_TUN, as opposed to a TAP.
  var isTun = false
  var isPersistent = false
  var isMultiQueue = false

  /// Looks a name up in the calling thread's namespace; nil when no link has it.
  static func find(_ name: String) throws(SystemError) -> LinkProbe? {
    // A link's description takes 2 to 4 KiB, more with many virtual functions; what is cut off then is
    // treated as not told.
    var reply = [UInt8](repeating: 0, count: 32 * 1024)
    let octets = clinux_query_link(name, &reply, reply.count)
    if octets == -ENODEV { return nil }
    _ = try SystemError.check(octets, .netlink)
    return try LinkProbe(message: reply[..<Int(octets)])
  }

  private init(message: ArraySlice<UInt8>) throws(SystemError) {
    let type = message.word16(at: 4)
    if type == 2 {  // NLMSG_ERROR: struct nlmsgerr begins with the error number, negated
      let code = message.word32(at: 16).map { CInt(bitPattern: 0 &- $0) } ?? EPROTO
      throw SystemError(code: code, call: .netlink)
    }
    // nlmsghdr takes 16 octets, ifinfomsg 16.
    for (attribute, value) in message.dropFirst(32).attributes {
      switch attribute {
      case 33: isServed = value.first == 1  // IFLA_CARRIER
      case 18: readInformation(value)  // IFLA_LINKINFO
      default: break
      }
    }
  }

  private mutating func readInformation(_ information: ArraySlice<UInt8>) {
    for (attribute, value) in information.attributes {
      switch attribute {
      case 1: kind = String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)  // IFLA_INFO_KIND
      case 2 where kind == "tun":  // IFLA_INFO_DATA
        for (attribute, value) in value.attributes {
          switch attribute {
          case 3: isTun = value.first == 1  // IFLA_TUN_TYPE: IFF_TUN
          case 6: isPersistent = value.first == 1  // IFLA_TUN_PERSIST
          case 7: isMultiQueue = value.first == 1  // IFLA_TUN_MULTI_QUEUE
          case 8, 9:  // IFLA_TUN_NUM_QUEUES, IFLA_TUN_NUM_DISABLED_QUEUES: of several-queue devices
            if let queues = value.word32(at: 0), queues > 0 { isServed = true }
          default: break
          }
        }
      default: break
      }
    }
  }
}

extension ArraySlice<UInt8> {
  /// Numbers in the host's order, as netlink has them; nil past the end.
  fileprivate func word16(at offset: Int) -> UInt16? {
    guard offset + 2 <= count else { return nil }
    return withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
  }

  fileprivate func word32(at offset: Int) -> UInt32? {
    guard offset + 4 <= count else { return nil }
    return withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  }

  /// struct rtattr by struct rtattr: length with its header, type (without flags), value, padding to 4.
  fileprivate var attributes: [(type: UInt16, value: ArraySlice<UInt8>)] {
    var rest = self
    var found: [(type: UInt16, value: ArraySlice<UInt8>)] = []
    while let length = rest.word16(at: 0).map(Int.init), let type = rest.word16(at: 2),
      length >= 4, length <= rest.count
    {
      found.append((type & 0x3fff, rest.prefix(length).dropFirst(4)))
      rest = rest.dropFirst((length + 3) & ~3)
    }
    return found
  }
}
