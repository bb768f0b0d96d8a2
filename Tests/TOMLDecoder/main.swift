// A decoder in the sense of toml-test: TOML on standard input, tagged JSON on standard output, exit
// status 0; for an invalid document the diagnostics on standard error and exit status 1.
//
// Not installed. It exists to run the compliance cases against the parser.

import Glibc
import TOML

func readStandardInput() -> [UInt8] {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = read(0, &buffer, buffer.count)
    guard count > 0 else { return bytes }
    bytes.append(contentsOf: buffer[..<count])
  }
}

func write(_ text: String, to descriptor: CInt) {
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { return }
    rest = rest.dropFirst(count)
  }
}

let document = TOMLDocument(parsing: readStandardInput(), file: "standard input")
guard document.isValid else {
  let report = document.log.inOrder().map { $0.render() }.joined(separator: "\n")
  write(report + "\n", to: 2)
  exit(1)
}
write(taggedJSON(document.root) + "\n", to: 1)
