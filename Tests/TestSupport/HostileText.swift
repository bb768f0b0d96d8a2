// Strings that a peer, a name server or a configuration could send to whoever reads what the daemon
// writes.

package enum HostileText {
  /// One of every kind that some format gives a meaning to.
  package static let samples = [
    "", " ", "a b", "\"", "\\", "\\\"", "\"\\", "a\"b", "a\\", "a=b", "=", "'", "`", "{}", "#",
    "line\nbreak", "carriage\rreturn", "\r\n", "tab\tstop", "bell\u{7}", "nul\u{0}", "\u{1}\u{1f}",
    "delete\u{7f}", "next\u{85}line", "\u{9b}31m", "\u{1b}[2J\u{1b}[31mred", "\u{1b}]0;title\u{7}",
    "\u{2028}\u{2029}", "\u{202e}desrever", "e\u{301}", "\u{301}", "\u{feff}", "😀", "\u{10ffff}",
    "<script>alert(1)</script>", "</title>", "&amp;", "' onload='x", "\" onload=\"x", "<!--", "]]>",
    "x\" level=error y=\"", "x\\\" level=error", "\",\"level\":\"error", "a\"} 1\nevil_metric 1",
    "${jndi:ldap://x}", "%s%n", "../../etc/passwd", String(repeating: "long", count: 1000),
  ]

  /// Control characters: what drives a terminal or ends a line.
  package static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || 0x7f...0x9f ~= scalar.value
  }
}
