import Kernel
import Wire

// A second thread of a worker, that writes to the device what one flow's target said, while the worker
// reads on.
//
// To receive octets and to write them is two copies, and most of what a download costs. Where one flow
// has the worker for itself, its octets can only be as fast as these two, one behind the other, on one
// processor. So a large part of such a flow is written here, at the same time as the next is read. All
// else the worker writes itself: to wake a thread takes as long as a frame or two.
//
// Worker and thread take turns with frames and their headers, in a queue that the stack's is exchanged for:
// while they are being written, the worker neither writes others nor touches these, and the chunks that they
// refer to are given to nobody (`ChunkPool.hold`).

/// Unchecked, since its memory is plain pointers that two threads take turns with.
package struct FrameWriter<Sink: FrameSink & Sendable>: ~Copyable, @unchecked Sendable {
  private struct State: ~Copyable, @unchecked Sendable {
    let queue: Sink
    let toWrite = Semaphore()
    let written = Semaphore()
    var frames = FrameQueue()
    /// Packets of the lot that the device took, and those that it did not.
    var taken = 0
    var lost = 0
    var refusedFrames = RefusedFrames()
    var isOver = false
    /// The thread, for the worker; it itself says its number before the worker goes on.
    var thread: Thread?
    var number: ThreadNumber?

    init(queue: Sink) { self.queue = queue }
  }

  private let state: UnsafeMutablePointer<State>
  /// Frames are being written, or what became of them has not been looked at.
  package private(set) var isWriting = false
  /// The processor that the thread keeps off.
  private var avoided: Int?

  /// Starts the thread.
  /// - Parameter queue: outlives this.
  package init(queue: Sink, name: String) throws(SystemError) {
    let state = UnsafeMutablePointer<State>.allocate(capacity: 1)
    state.initialize(to: State(queue: queue))
    self.state = state
    let address = UInt(bitPattern: state)
    do throws(SystemError) {
      state.pointee.thread = try Thread.spawn(name: name) {
        guard let state = UnsafeMutablePointer<State>(bitPattern: address) else { return }
        Self.run(state)
      }
    } catch {
      state.deinitialize(count: 1)
      state.deallocate()
      throw error
    }
    state.pointee.written.wait()
  }

  deinit {
    if isWriting { state.pointee.written.wait() }
    state.pointee.isOver = true
    state.pointee.toWrite.signal()
    state.pointee.thread.take()?.join()
    state.deinitialize(count: 1)
    state.deallocate()
  }

  private static func run(_ state: UnsafeMutablePointer<State>) {
    state.pointee.number = ThreadNumber.current
    // To write takes none. Where they stay, all is as in the worker.
    try? Privileges.dropCapabilities()
    while true {
      state.pointee.written.signal()
      state.pointee.toWrite.wait()
      if state.pointee.isOver { return }
      write(state)
    }
  }

  /// Part by part of the state, for the worker may look at `written` all the while.
  private static func write(_ state: UnsafeMutablePointer<State>) {
    var taken = 0
    var lost = 0
    for index in 0..<state.pointee.frames.count {
      let frame = UnsafeBufferPointer(state.pointee.frames.slices(of: index))
      switch state.pointee.queue.write(frame) {
      case .octets: taken += 1
      case .wouldBlock, .endOfStream: lost += 1
      case .failed(let error):
        // In its place among the others.
        let again = state.pointee.refusedFrames.writeAgain(
          frame, after: error, to: state.pointee.queue)
        taken += again.written
        lost += again.lost
      }
    }
    state.pointee.taken = taken
    state.pointee.lost = lost
  }

  /// Begins to write frames, which the queue's memory is exchanged for.
  package mutating func start(_ take: (inout FrameQueue) -> Void) {
    precondition(!isWriting, "one lot at a time")
    take(&state.pointee.frames)
    keepOff()
    isWriting = true
    state.pointee.toWrite.signal()
  }

  /// Else the kernel, which likes to wake a thread where it was woken from, would have it wait for the
  /// worker. Does nothing where there is no other processor.
  private mutating func keepOff() {
    let here = Thread.currentProcessor
    guard here != avoided, let thread = state.pointee.number else { return }
    avoided = here
    thread.keepOff(here)
  }

  /// What was being written is: `finish` need not wait.
  package var hasWritten: Bool { isWriting && state.pointee.written.isRaised }

  /// Waits until all frames are written.
  /// - Returns: packets that the device took, and those that it did not; refusals since the start.
  package mutating func finish() -> (taken: Int, lost: Int, refusals: RefusedFrames.Counts) {
    state.pointee.written.wait()
    isWriting = false
    state.pointee.frames.removeAll()
    return (state.pointee.taken, state.pointee.lost, state.pointee.refusedFrames.counts)
  }
}
