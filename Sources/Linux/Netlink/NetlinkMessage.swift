// rtnetlink messages: built with libnl's helpers, read with every length checked.
//
// libnl-route is not used: the messages that are needed here are a fixed structure and a few attributes
// each, and the kernel's headers describe both. C pointers of libnl stay in this file and in
// `NetlinkSocket`.

import CLibnl
import Glibc
import Wire

/// A request being built; freed at its owner's end.
struct NetlinkRequest: ~Copyable {
  let message: OpaquePointer
  private var overflowed = false

  /// - Parameters:
  ///   - type: RTM_…
  ///   - flags: NLM_F_… besides NLM_F_REQUEST and NLM_F_ACK.
  ///   - header: the structure that the type's attributes follow.
  init?(type: Int, flags: Int32, header: some BitwiseCopyable) {
    guard let message = nlmsg_alloc_simple(CInt(type), flags) else { return nil }
    self.message = message
    let result = withUnsafeBytes(of: header) { octets in
      nlmsg_append(
        message, UnsafeMutableRawPointer(mutating: octets.baseAddress), octets.count, 4)
    }
    if result < 0 { overflowed = true }
  }

  deinit { nlmsg_free(message) }

  /// Whether everything fitted.
  var isComplete: Bool { !overflowed }

  mutating func put(_ attribute: Int, _ number: UInt32) {
    note(nla_put_u32(message, CInt(attribute), number))
  }

  mutating func put(_ attribute: Int, _ number: UInt8) {
    note(nla_put_u8(message, CInt(attribute), number))
  }

  mutating func put(_ attribute: Int, _ text: String) {
    note(nla_put_string(message, CInt(attribute), text))
  }

  /// 4 or 16 octets.
  mutating func put(_ attribute: Int, _ address: IPAddress) {
    let octets = address.octets
    note(nla_put(message, CInt(attribute), CInt(octets.count), octets))
  }

  /// Attributes within an attribute.
  mutating func nest(_ attribute: Int, _ body: (inout NetlinkRequest) -> Void) {
    guard let start = nla_nest_start(message, CInt(attribute)) else {
      overflowed = true
      return
    }
    body(&self)
    nla_nest_end(message, start)
  }

  private mutating func note(_ result: CInt) { if result < 0 { overflowed = true } }
}

/// A message of the kernel, valid while its receive buffer is.
struct NetlinkReply {
  let header: UnsafeMutablePointer<nlmsghdr>

  var type: Int { Int(header.pointee.nlmsg_type) }
  var sequence: UInt32 { header.pointee.nlmsg_seq }
  var flags: Int32 { Int32(header.pointee.nlmsg_flags) }

  /// The structure behind the header; nil when the message is too short for it.
  func body<Body: BitwiseCopyable>(as type: Body.Type) -> Body? {
    guard Int(nlmsg_datalen(header)) >= MemoryLayout<Body>.size, let data = nlmsg_data(header)
    else { return nil }
    return data.loadUnaligned(as: type)
  }

  /// Attributes that follow a structure of this size.
  func attributes(after octets: Int) -> NetlinkAttributes {
    NetlinkAttributes(
      first: nlmsg_attrdata(header, CInt(octets)), octets: nlmsg_attrlen(header, CInt(octets)))
  }
}

/// A run of attributes.
struct NetlinkAttributes {
  let first: UnsafeMutablePointer<nlattr>?
  let octets: CInt

  private func find(_ type: Int) -> UnsafeMutablePointer<nlattr>? {
    guard let first, octets > 0 else { return nil }
    return nla_find(first, octets, CInt(type))
  }

  func number(_ type: Int) -> UInt32? {
    guard let attribute = find(type), nla_len(attribute) >= 4 else { return nil }
    return nla_get_u32(attribute)
  }

  /// One of the 64-bit numbers that an attribute is a row of.
  func counter(_ type: Int, at index: Int) -> UInt64? {
    guard let attribute = find(type), Int(nla_len(attribute)) >= 8 * (index + 1),
      let data = nla_data(attribute)
    else { return nil }
    return data.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)
  }

  func text(_ type: Int) -> String? {
    guard let attribute = find(type), let data = nla_data(attribute) else { return nil }
    let octets = UnsafeRawBufferPointer(start: data, count: Int(nla_len(attribute)))
    return String(decoding: octets.prefix { $0 != 0 }, as: UTF8.self)
  }

  func address(_ type: Int) -> IPAddress? {
    guard let attribute = find(type), let data = nla_data(attribute) else { return nil }
    return IPAddress(
      octets: UnsafeRawBufferPointer(start: data, count: Int(nla_len(attribute))))
  }

  func nested(_ type: Int) -> NetlinkAttributes? {
    guard let attribute = find(type), let data = nla_data(attribute) else { return nil }
    return NetlinkAttributes(
      first: data.assumingMemoryBound(to: nlattr.self), octets: nla_len(attribute))
  }
}
