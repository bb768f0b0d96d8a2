// A client of the control socket that sends what it is told, right or wrong, and reads what comes.

import Glibc
import Testing

/// A connection to a Unix socket; no wait is longer than a minute.
final class Client {
  private let number: CInt

  deinit { close(number) }

  /// Nil when nobody listens there.
  init?(path: String) {
    number = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
    var patience = timeval(tv_sec: 60, tv_usec: 0)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
    setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
    let connected = withUnixAddress(path) { connect(number, $0, $1) }
    guard number >= 0, connected == 0 else { return nil }
  }

  func send(_ text: String) {
    var text = text
    text.withUTF8 { octets in
      _ = Glibc.send(number, octets.baseAddress, octets.count, CInt(MSG_NOSIGNAL))
    }
  }

  func finishSending() { shutdown(number, CInt(SHUT_WR)) }

  /// Everything until the server closes; nil when it does not.
  func readToEnd() -> String? {
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(number, &chunk, chunk.count, 0)
      if count > 0 {
        text += chunk[..<count]
      } else {
        return count == 0 || errno == ECONNRESET ? String(decoding: text, as: UTF8.self) : nil
      }
    }
  }

  /// One answer with its body, by its Content-Length; the connection stays.
  func readAnswer(hasBody: Bool = true) -> Answer? {
    var text: [UInt8] = []
    var octet: UInt8 = 0
    while recv(number, &octet, 1, 0) == 1 {
      text.append(octet)
      guard text.suffix(4).elementsEqual("\r\n\r\n".utf8) else { continue }
      guard let answer = Answer(String(decoding: text, as: UTF8.self)) else { return nil }
      var missing = hasBody ? Int(answer.fields["content-length"] ?? "") ?? 0 : 0
      while missing > 0, recv(number, &octet, 1, 0) == 1 {
        text.append(octet)
        missing -= 1
      }
      return missing == 0 ? Answer(String(decoding: text, as: UTF8.self)) : nil
    }
    return nil
  }
}

/// An HTTP/1 answer.
struct Answer {
  var code: Int
  /// Names in lower case.
  var fields: [String: String] = [:]
  var body: String

  init?(_ text: String) {
    guard let end = text.firstRange(of: "\r\n\r\n") else { return nil }
    let lines = text[..<end.lowerBound].split(separator: "\r\n")
    let words = lines[0].split(separator: " ")
    guard words.count >= 2, let code = Int(words[1]) else { return nil }
    self.code = code
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      fields[line[..<colon].lowercased()] = String(value)
    }
    body = String(text[end.upperBound...])
  }
}

func withUnixAddress<R>(
  _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  withUnsafeMutableBytes(of: &address.sun_path) {
    $0.copyBytes(from: path.utf8.prefix($0.count - 1))
  }
  return withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}

/// A directory that ends with its owner, if it is empty by then.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/portferry-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  deinit { rmdir(path) }

  /// What the kernel says of a path: type and permissions; nil when there is nothing.
  static func mode(_ path: String) -> mode_t? {
    var status = stat()
    return lstat(path, &status) == 0 ? status.st_mode : nil
  }
}
