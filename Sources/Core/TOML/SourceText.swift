// A document's octets, and where its lines begin.
//
// Everything parsed from a document carries a `SourceSpan`: two octet offsets. Line and column are
// computed from it when somebody asks, which is when something is to be reported; counting columns
// while scanning would cost every value, and counting them per value on demand would be quadratic
// only if every value of one long line were asked for, which the bound on diagnostics prevents.
//
// Columns count Unicode scalars from 1: what an editor's "go to column" and the caret agree on for
// all text but combining marks; where octets are no UTF-8, every octet counts that could not continue
// a scalar. Lines end with LF or CRLF.

/// A stretch of a document: octet offsets, half-open.
package struct SourceSpan: Hashable, Sendable, BitwiseCopyable {
  package var start: Int
  package var end: Int

  package init(start: Int, end: Int) {
    self.start = start
    self.end = end
  }

  /// From the start of this span to the end of `other`.
  package func extended(to other: SourceSpan) -> SourceSpan {
    SourceSpan(start: start, end: max(end, other.end))
  }
}

/// A line and a column, both from 1; the column counts Unicode scalars.
package struct SourcePosition: Hashable, Sendable, BitwiseCopyable {
  package var line: Int
  package var column: Int

  package init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }
}

/// A named document.
package struct SourceText: Sendable {
  /// As the operator named it; only used in messages.
  package let file: String
  package let bytes: [UInt8]
  /// Offset of the first octet of each line; never empty.
  private let lineStarts: [Int]

  package init(_ bytes: [UInt8], file: String) {
    self.file = file
    self.bytes = bytes
    var starts = [0]
    for (offset, byte) in bytes.enumerated() where byte == 0x0A { starts.append(offset + 1) }
    lineStarts = starts
  }

  /// The line, from 1, that an octet offset lies on; offsets past the end lie on the last line.
  package func line(at offset: Int) -> Int {
    var low = 0
    var high = lineStarts.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if lineStarts[middle] <= offset { low = middle } else { high = middle }
    }
    return low + 1
  }

  /// Line and column of an octet offset. Costs the length of the line up to it.
  package func position(at offset: Int) -> SourcePosition {
    let line = line(at: offset)
    let start = lineStarts[line - 1]
    let end = min(max(offset, start), bytes.count)
    return SourcePosition(line: line, column: scalarCount(start..<end) + 1)
  }

  package func position(of span: SourceSpan) -> SourcePosition { position(at: span.start) }

  /// The octets of a line, from 1, without its line end; nil for a line that is not there.
  package func octets(ofLine line: Int) -> Range<Int>? {
    guard line >= 1, line <= lineStarts.count else { return nil }
    let start = lineStarts[line - 1]
    guard line < lineStarts.count else { return start..<bytes.count }
    var end = lineStarts[line] - 1
    if end > start, bytes[end - 1] == 0x0D { end -= 1 }
    return start..<end
  }

  /// Unicode scalars in a range of octets.
  package func scalarCount(_ range: Range<Int>) -> Int {
    var count = 0
    for byte in bytes[range] where byte & 0xC0 != 0x80 { count += 1 }
    return count
  }
}
