// Which octets of one datagram are here: its fragments' borders, in order, in memory that the
// reassembler owns.
//
// Neighbours are not joined: an exact duplicate can be told from an overlap only by the borders that
// the fragments had.

/// One fragment's place in its datagram, in octets.
struct FragmentRange: BitwiseCopyable, Equatable {
  var start: UInt16
  var end: UInt16
}

/// The ranges of one datagram's fragments, ascending and disjoint.
struct HeldFragments {
  /// How a fragment relates to those that are held.
  enum Place: Equatable {
    /// It goes in front of the fragment with this number.
    case free(Int)
    /// One with the same borders is held.
    case repeated
    case overlapping
  }

  let ranges: UnsafeMutablePointer<FragmentRange>
  let count: Int

  /// - Parameter range: not empty.
  func place(of range: FragmentRange) -> Place {
    // Fragments mostly arrive in order; the first one that ends behind the new one's start decides.
    var low = 0
    var high = count
    if count > 0, ranges[count - 1].end <= range.start { low = count }
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].end <= range.start { low = middle + 1 } else { high = middle }
    }
    guard low < count, ranges[low].start < range.end else { return .free(low) }
    return ranges[low] == range ? .repeated : .overlapping
  }

  /// Stores a range at the place that `place(of:)` gave. There is room for one more.
  func insert(_ range: FragmentRange, at position: Int) {
    var index = count
    while index > position {
      ranges[index] = ranges[index - 1]
      index -= 1
    }
    ranges[position] = range
  }
}
