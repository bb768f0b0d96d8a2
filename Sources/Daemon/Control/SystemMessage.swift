// An errno value that a library handed over, as a clause for people.

import Glibc

/// What to tell the person whose bind failed; the frequent causes with what to do about them.
func systemMessage(_ code: CInt) -> String {
  switch code {
  case EADDRINUSE: return "another program already uses it"
  case EADDRNOTAVAIL: return "no interface of this machine has that address"
  case EACCES, EPERM: return "permission denied"
  case ENOENT: return "the directory does not exist"
  default:
    var text = [CChar](repeating: 0, count: 256)
    guard strerror_r(code, &text, text.count) == 0 else { return "error \(code)" }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
