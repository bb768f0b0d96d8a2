/// Protocol numbers (IANA) that the stack knows, as they stand in IP headers.
package enum IPProtocol {
  package static let icmp: UInt8 = 1
  package static let tcp: UInt8 = 6
  package static let udp: UInt8 = 17
  package static let fragment: UInt8 = 44
  package static let icmpV6: UInt8 = 58
  package static let none: UInt8 = 59
}
