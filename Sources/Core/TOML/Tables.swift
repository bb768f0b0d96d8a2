// What may define what: TOML's rules on tables (TOML 1.0, "Keys", "Table", "Inline Table", "Array of
// Tables"), and nothing of syntax.
//
// Tables under construction live in one array and are named by their index, so a header that leads
// through a hundred tables copies none of them, and an array of tables grows in place. Every step is
// one dictionary look-up; a document of n keys costs n look-ups whatever its shape.
//
//   implicit   a header passed through it: `a` of [a.b]. May still be defined, by [a] or by dotted
//              keys of its parent.
//   header     defined by its own header: [a]. Closed to dotted keys and to a second header.
//   dotted     made by dotted keys below one header: open to those of that header, closed after.
//              Sub-tables by header remain possible.
//   element    one of an array of tables: [[a]].
//   inline     { … }: complete at its closing brace.

struct TableBuilder {
  /// Nesting, of whatever kind, beyond which a document is refused.
  static let depthMax = 64

  enum Origin: Equatable {
    case root
    case implicit
    case header
    case dotted(section: Int)
    case element
    case inline
  }

  enum Slot {
    case value(TOMLValue)
    case table(Int)
    case tableArray(Int)
  }

  struct Member {
    var key: TOMLKey
    var keySpan: SourceSpan
    var slot: Slot
  }

  struct Table {
    var origin: Origin
    /// Where the table was first named.
    var span: SourceSpan
    var depth: Int
    var isDamaged = false
    var members: [Member] = []
    var indexByKey: [TOMLKey: Int] = [:]
  }

  /// Why a key or header cannot stand where it stands.
  struct Conflict: Error {
    var message: String
    /// The key that cannot stand where it stands.
    var at: SourceSpan
    /// Where that which is in its way was written.
    var earlier: SourceSpan?
    var hint: String?
  }

  private(set) var tables: [Table]
  private var arrays: [[Int]] = []
  /// The table that key/value pairs go to.
  private(set) var current = 0
  /// Counts headers; dotted keys extend only what dotted keys below the same header made.
  private var section = 0

  init() {
    tables = [Table(origin: .root, span: SourceSpan(start: 0, end: 0), depth: 0)]
  }

  // MARK: Headers

  /// `[path]`: makes the table current.
  mutating func openTable(_ path: [PathPart]) throws(Conflict) {
    section += 1
    // Takes the keys, unseen, if this throws.
    current = makeTable(.header, at: path.span, depth: path.count)
    guard let last = path.last else { return }
    let parent = try walk(path.dropLast())
    guard let member = member(last.key, of: parent) else {
      tables[current].depth = tables[parent].depth + 1
      try checkDepth(current, at: last.span)
      add(last, .table(current), to: parent)
      return
    }
    switch member.slot {
    case .table(let index) where tables[index].origin == .implicit:
      tables[index].origin = .header
      tables[index].span = last.span
      current = index
    case .table(let index):
      tables[index].isDamaged = true
      let how = tables[index].origin == .header ? "defined twice" : "already defined by keys"
      throw Conflict(
        message: "table \(last.key.quoted) is \(how)", at: last.span, earlier: tables[index].span)
    case .tableArray:
      throw Conflict(
        message: "\(last.key.quoted) is an array of tables", at: last.span, earlier: member.keySpan,
        hint: "another element is written with two brackets, [[…]]")
    case .value(let value):
      throw Conflict(
        message: "\(last.key.quoted) is \(value.kind) already", at: last.span,
        earlier: member.keySpan)
    }
  }

  /// `[[path]]`: makes a new element of the array current.
  mutating func openElement(_ path: [PathPart]) throws(Conflict) {
    section += 1
    current = makeTable(.element, at: path.span, depth: path.count)
    guard let last = path.last else { return }
    let parent = try walk(path.dropLast())
    tables[current].depth = tables[parent].depth + 1
    try checkDepth(current, at: last.span)
    guard let member = member(last.key, of: parent) else {
      arrays.append([current])
      add(last, .tableArray(arrays.count - 1), to: parent)
      return
    }
    switch member.slot {
    case .tableArray(let index):
      arrays[index].append(current)
    case .table(let index):
      throw Conflict(
        message: "\(last.key.quoted) is a table, not an array of tables", at: last.span,
        earlier: tables[index].span)
    case .value(let value):
      throw Conflict(
        message: "\(last.key.quoted) is \(value.kind) already", at: last.span,
        earlier: member.keySpan,
        hint: value.isArray ? "an array written in brackets is complete" : nil)
    }
  }

  /// A header that could not be read: what follows belongs to a table that nobody sees.
  mutating func openDetached(at span: SourceSpan) {
    section += 1
    tables[0].isDamaged = true
    current = makeTable(.header, at: span, depth: 1)
  }

  /// Follows the leading parts of a header, making implicit tables where there are none.
  private mutating func walk(_ path: ArraySlice<PathPart>) throws(Conflict) -> Int {
    var index = 0
    for part in path {
      guard let member = member(part.key, of: index) else {
        let child = makeTable(.implicit, at: part.span, depth: tables[index].depth + 1)
        try checkDepth(child, at: part.span)
        add(part, .table(child), to: index)
        index = child
        continue
      }
      switch member.slot {
      case .table(let child): index = child
      case .tableArray(let array): index = arrays[array].last ?? 0
      case .value(let value):
        throw Conflict(
          message: "\(part.key.quoted) is \(value.kind), it cannot be extended by a header",
          at: part.span, earlier: member.keySpan)
      }
    }
    return index
  }

  // MARK: Keys

  /// `path = value` in the current table.
  mutating func insert(_ value: TOMLValue, at path: [PathPart]) throws(Conflict) {
    try insert(value, at: path, in: current)
  }

  /// `path = value` in a table of any origin.
  mutating func insert(_ value: TOMLValue, at path: [PathPart], in table: Int) throws(Conflict) {
    guard let last = path.last else { return }
    var index = table
    for part in path.dropLast() { index = try dottedChild(part, of: index) }
    if let member = member(last.key, of: index) {
      throw Conflict(
        message: "key \(last.key.quoted) is set twice", at: last.span, earlier: member.keySpan)
    }
    add(last, .value(value), to: index)
  }

  private mutating func dottedChild(_ part: PathPart, of index: Int) throws(Conflict) -> Int {
    guard let member = member(part.key, of: index) else {
      let child = makeTable(
        .dotted(section: section), at: part.span, depth: tables[index].depth + 1)
      try checkDepth(child, at: part.span)
      add(part, .table(child), to: index)
      return child
    }
    switch member.slot {
    case .table(let child) where tables[child].origin == .dotted(section: section):
      return child
    case .table(let child) where tables[child].origin == .implicit:
      tables[child].origin = .dotted(section: section)
      return child
    case .table(let child):
      throw Conflict(
        message: "table \(part.key.quoted) is already defined, dotted keys cannot extend it",
        at: part.span, earlier: tables[child].span)
    case .tableArray:
      throw Conflict(
        message: "\(part.key.quoted) is an array of tables, dotted keys cannot extend it",
        at: part.span, earlier: member.keySpan)
    case .value(let value):
      throw Conflict(
        message: "\(part.key.quoted) is \(value.kind), it has no keys", at: part.span,
        earlier: member.keySpan)
    }
  }

  /// Notes that a key of the current table was lost.
  mutating func damageCurrent() { tables[current].isDamaged = true }

  // MARK: Inline tables

  /// A table for the keys between two braces.
  mutating func beginInline(at span: SourceSpan, depth: Int) -> Int {
    makeTable(.inline, at: span, depth: depth)
  }

  mutating func damage(_ index: Int) { tables[index].isDamaged = true }

  /// The finished inline table. No header can stand between its braces, so all tables made since it
  /// was begun are its own, and go.
  mutating func endInline(_ index: Int) -> TOMLTable {
    let result = freeze(index)
    tables.removeSubrange(index...)
    return result
  }

  /// The finished table with everything below it.
  func freeze(_ index: Int = 0) -> TOMLTable {
    var result = TOMLTable(isDamaged: tables[index].isDamaged)
    for member in tables[index].members {
      let value: TOMLValue
      switch member.slot {
      case .value(let content): value = content
      case .table(let child):
        value = TOMLValue(.table(freeze(child)), span: tables[child].span)
      case .tableArray(let array):
        let elements = arrays[array].map {
          TOMLValue(.table(freeze($0)), span: tables[$0].span)
        }
        value = TOMLValue(.array(elements), span: member.keySpan)
      }
      result.insert(TOMLEntry(key: member.key, keySpan: member.keySpan, value: value))
    }
    return result
  }

  // MARK: Storage

  private func member(_ key: TOMLKey, of index: Int) -> Member? {
    tables[index].indexByKey[key].map { tables[index].members[$0] }
  }

  /// Depth of the table that key/value pairs go to; 0 is the root.
  var currentDepth: Int { tables[current].depth }

  private mutating func add(_ part: PathPart, _ slot: Slot, to index: Int) {
    tables[index].indexByKey[part.key] = tables[index].members.count
    tables[index].members.append(Member(key: part.key, keySpan: part.span, slot: slot))
  }

  private mutating func makeTable(_ origin: Origin, at span: SourceSpan, depth: Int) -> Int {
    tables.append(Table(origin: origin, span: span, depth: depth))
    return tables.count - 1
  }

  private func checkDepth(_ index: Int, at span: SourceSpan) throws(Conflict) {
    guard tables[index].depth > Self.depthMax else { return }
    throw Conflict(message: "tables are nested more than \(Self.depthMax) deep", at: span)
  }
}

/// One part of a dotted key or header.
struct PathPart {
  var key: TOMLKey
  var span: SourceSpan
}

extension [PathPart] {
  /// From the first part to the last.
  var span: SourceSpan {
    guard let first, let last else { return SourceSpan(start: 0, end: 0) }
    return first.span.extended(to: last.span)
  }
}

extension TOMLKey {
  var quoted: String { text.quotedForMessage }
}

extension TOMLValue {
  var isArray: Bool {
    if case .array = content { return true }
    return false
  }
}
