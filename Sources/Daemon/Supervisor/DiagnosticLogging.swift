// A diagnostic of a configuration as one log line: the place in `at`, the line itself in `text`.

import Logging
import TOML

extension Logger {
  func record(_ diagnostic: Diagnostic) {
    var fields: Metadata = ["at": "\(diagnostic.file):\(diagnostic.line):\(diagnostic.column)"]
    if let hint = diagnostic.hint { fields["hint"] = "\(hint)" }
    if let excerpt = diagnostic.excerpt { fields["text"] = "\(excerpt)" }
    switch diagnostic.severity {
    case .error: error("\(diagnostic.message)", metadata: fields)
    case .warning: warning("\(diagnostic.message)", metadata: fields)
    }
  }
}
