// The line under a message, and the caret under the line.
//
// The caret must stand under the character that it means in any terminal: tabs are repeated in the
// caret's line, characters that fill two cells are matched by two blanks, combining marks by none.
// What a terminal would obey or reorder (control and format characters) is shown as a symbol.

/// A printable cut of one line, with the caret line that goes under it.
struct LineExcerpt {
  /// Scalars shown of a line.
  static let scalarCountMax = 120
  /// Scalars shown before the caret when the line had to be cut.
  static let leadCountMax = 60

  private(set) var text = ""
  private(set) var marker = ""

  /// - Parameters:
  ///   - line: the line's octets without its end.
  ///   - start: where the caret stands, within `line` or at its end.
  ///   - end: where the underlining stops, not before `start`.
  init(_ source: SourceText, line: Range<Int>, start: Int, end: Int) {
    // A line may be megabytes long: only the octets that can be shown are decoded.
    let near = 4 * (Self.scalarCountMax + 1)
    var leadStart = max(line.lowerBound, start - near)
    while leadStart > line.lowerBound, leadStart < start, source.bytes[leadStart] & 0xC0 == 0x80 {
      leadStart += 1
    }
    let lead = Self.scalars(source, leadStart..<start)
    let marked = Self.scalars(source, start..<min(end, start + near))
    let rest = Self.scalars(source, end..<min(line.upperBound, end + near))

    var shownLead = lead[...]
    if lead.count + marked.count + rest.count > Self.scalarCountMax, lead.count > Self.leadCountMax
    {
      shownLead = lead.suffix(Self.leadCountMax)
      append("…", under: " ")
    }
    for scalar in shownLead { append(scalar, tail: nil) }

    var room = Self.scalarCountMax - shownLead.count
    let shownMarked = marked.prefix(max(room, 1))
    if shownMarked.isEmpty {
      marker += "^"
    } else {
      for (index, scalar) in shownMarked.enumerated() {
        append(scalar, tail: index == 0 ? "^" : "~")
      }
    }
    room -= shownMarked.count
    let shownRest = rest.prefix(max(room, 0))
    for scalar in shownRest { append(scalar, tail: " ") }
    if shownMarked.count < marked.count || shownRest.count < rest.count {
      append("…", under: " ")
    }
    while marker.last == " " || marker.last == "\t" { marker.removeLast() }
  }

  private static func scalars(_ source: SourceText, _ range: Range<Int>) -> [Unicode.Scalar] {
    Array(String(decoding: source.bytes[range], as: UTF8.self).unicodeScalars)
  }

  private mutating func append(_ symbol: String, under: String) {
    text += symbol
    marker += under
  }

  /// `tail` is what underlines the scalar; nil stands for blanks before the caret.
  private mutating func append(_ scalar: Unicode.Scalar, tail: Character?) {
    let shown = scalar.printable
    text.unicodeScalars.append(shown)
    if shown == "\t", tail == nil || tail == " " {
      marker += "\t"
      return
    }
    let cells = shown.cellCount
    guard cells > 0 else { return }
    marker.append(tail ?? " ")
    if cells > 1 { marker.append(tail == nil || tail == " " ? " " : "~") }
  }
}

extension Unicode.Scalar {
  /// This scalar, or a symbol for it when printing it would do more than leave a mark. Tabs stay.
  var printable: Unicode.Scalar {
    if self == "\t" { return self }
    if value < 0x20 { return Unicode.Scalar(0x2400 + value) ?? "?" }
    if value == 0x7F { return "␡" }
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: return "\u{FFFD}"
    default: return self
    }
  }

  /// Cells of a terminal that the scalar fills: East Asian wide and emoji two, marks none.
  var cellCount: Int {
    switch value {
    case 0x20...0x7E: return 1
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
      0xA000...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
      0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
      return 2
    default: break
    }
    switch properties.generalCategory {
    case .nonspacingMark, .enclosingMark: return 0
    default: return 1
    }
  }
}

extension String {
  /// The string in single quotes as messages show it: printable, and cut to 60 scalars.
  package var quotedForMessage: String {
    var text = "'"
    var count = 0
    for scalar in unicodeScalars {
      if count == 60 {
        text += "…"
        break
      }
      text.unicodeScalars.append(scalar == "\t" ? "␉" : scalar.printable)
      count += 1
    }
    return text + "'"
  }
}
