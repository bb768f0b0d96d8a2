// Octets as tests look at them: numbers in network order, and the checksum by its definition and
// not by the code under test.

package func big16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
package func big32(_ value: Int) -> [UInt8] { big16(value >> 16) + big16(value & 0xffff) }

/// RFC 1071 §1 by the letter: big-endian words, odd octet padded with zero, end-around carry.
package func onesComplementSum(_ octets: [UInt8]) -> UInt16 {
  var sum: UInt32 = 0
  for index in stride(from: 0, to: octets.count, by: 2) {
    let low = index + 1 < octets.count ? octets[index + 1] : 0
    sum += UInt32(octets[index]) << 8 | UInt32(low)
    if sum > 0xffff { sum = sum & 0xffff + 1 }
  }
  return UInt16(sum)
}
