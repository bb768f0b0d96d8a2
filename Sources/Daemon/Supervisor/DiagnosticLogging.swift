// A diagnostic of a configuration as one log line: the place in `at`, the line itself in `text`. One
// about the file as a whole has no place but the file.

import Logging
import TOML

extension Logger {
  func record(_ diagnostic: Diagnostic) {
    let place =
      diagnostic.line == 0
      ? diagnostic.file : "\(diagnostic.file):\(diagnostic.line):\(diagnostic.column)"
    var fields: Metadata = ["at": "\(place)"]
    if let hint = diagnostic.hint { fields["hint"] = "\(hint)" }
    if let excerpt = diagnostic.excerpt { fields["text"] = "\(excerpt)" }
    switch diagnostic.severity {
    case .error: error("\(diagnostic.message)", metadata: fields)
    case .warning: warning("\(diagnostic.message)", metadata: fields)
    }
  }
}
