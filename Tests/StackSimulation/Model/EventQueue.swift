import Primitives

// What will happen, earliest first; what is due at the same instant in the order it was pushed.

struct EventQueue<Event> {
  private var heap: [(at: UInt64, order: UInt64, event: Event)] = []
  private var pushed: UInt64 = 0

  mutating func push(_ event: Event, at instant: MonotonicInstant) {
    pushed += 1
    heap.append((instant.nanoseconds, pushed, event))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard precedes(child, parent) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  mutating func pop() -> (at: MonotonicInstant, event: Event)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      var parent = 0
      while true {
        var least = parent
        for child in [2 * parent + 1, 2 * parent + 2]
        where child < heap.count && precedes(child, least) { least = child }
        guard least != parent else { break }
        heap.swapAt(parent, least)
        parent = least
      }
    }
    return (MonotonicInstant(nanoseconds: first.at), first.event)
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    heap[a].at != heap[b].at ? heap[a].at < heap[b].at : heap[a].order < heap[b].order
  }
}
