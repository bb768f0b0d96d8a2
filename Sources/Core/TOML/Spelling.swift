// "Did you mean …?": the known word nearest to a misspelt one.
//
// Distance is the Damerau-Levenshtein distance in its restricted form (optimal string alignment):
// inserting, deleting, replacing a letter or swapping two neighbours costs one each. Case is
// ignored. Words far from every candidate get no suggestion: a wrong guess is worse than none.

package enum Spelling {
  /// Scalars of a word beyond which nothing is suggested.
  static let wordLengthMax = 48

  /// The candidate nearest to `word`, or nil when none is near: more than a third of the word's
  /// letters wrong, and more than one. The first of equals wins.
  package static func nearest(to word: String, among candidates: [String]) -> String? {
    let letters = Array(word.lowercased().unicodeScalars.prefix(wordLengthMax + 1))
    guard !letters.isEmpty, letters.count <= wordLengthMax else { return nil }
    let allowed = max(1, min(letters.count / 3, 4))
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let distance = distance(letters, Array(candidate.lowercased().unicodeScalars))
      guard distance <= allowed, distance < (best?.distance ?? .max) else { continue }
      // A word of one or two letters is one edit away from any other.
      guard distance < letters.count else { continue }
      best = (candidate, distance)
    }
    return best?.candidate
  }

  /// "did you mean 'x'?" for the nearest candidate, if there is one.
  package static func suggestion(for word: String, among candidates: [String]) -> String? {
    nearest(to: word, among: candidates).map { "did you mean '\($0)'?" }
  }

  static func distance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
    if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
    var beforePrevious = [Int](repeating: 0, count: b.count + 1)
    var previous = Array(0...b.count)
    for i in 1...a.count {
      var row = [Int](repeating: i, count: b.count + 1)
      for j in 1...b.count {
        let replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
        var cost = min(replaced, previous[j] + 1, row[j - 1] + 1)
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
          cost = min(cost, beforePrevious[j - 2] + 1)
        }
        row[j] = cost
      }
      beforePrevious = previous
      previous = row
    }
    return previous[b.count]
  }
}
