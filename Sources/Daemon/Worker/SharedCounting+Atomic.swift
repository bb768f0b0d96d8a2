import Stack
import Synchronization

extension SharedCounting {
  /// For workers that are threads.
  package static let atomic = SharedCounting(
    load: { word in
      word.assumingMemoryBound(to: Atomic<Int>.self).pointee.load(ordering: .relaxed)
    },
    add: { word, number in
      word.assumingMemoryBound(to: Atomic<Int>.self).pointee
        .add(number, ordering: .relaxed).newValue
    })
}
