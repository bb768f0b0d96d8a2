import Glibc
import Kernel
import Primitives
import Synchronization

// Whether workers get in each other's way: what a packet costs one, and each of several side by side.
//
// Each worker is a thread with a stack of its own (`Lane`), made there, as the daemon's are. If they
// wrote to common cache lines, each would wait for the others' and its packets cost it more; as a
// measure of how much, everything is done once more with one counter that all of them write for each
// packet. What counts is the processor time of a thread, and of many short runs the median: other
// processes on the machine disturb that little. Threads that never run at the same time cannot disturb
// one another: on a busy machine the difference is less than on one that is idle.
//
// What to expect of the daemon on more cores than there are here: a worker's user-space share of a
// packet does not depend on the others, so packets per second grow with the number of workers as long
// as each has a core of its own. What they do share is the kernel's: the device's statistics (per CPU), the
// socket tables, and the memory bus, which bulk transfers meet first, at some 10 to 20 GB/s of copying per
// socket. So with 16 cores and clients elsewhere: 14 to 16 times one worker in packets of datagrams
// or short requests, and in bulk what four to eight workers carry. Where clients and targets run
// on the same cores, they take two of three, and the daemon grows to a third.

/// What all lanes write, if they are told to.
let common = Atomic<Int>(0)

/// Nanoseconds of its thread's processor time that a packet costs a lane, with so many side by side.
func measure(workers: Int, sharesCounter: Bool, run: Interval) throws -> Double {
  let total = Total()
  let start = MonotonicClock.now() + .milliseconds(20)
  for number in 0..<workers {
    _ = try Thread.spawn(name: "lane-\(number)") {
      var lane = Lane(number, of: workers, at: start)
      var now = MonotonicClock.now()
      while now < start { now = MonotonicClock.now() }
      let began = threadTime()
      var packets = 0
      while now < start + run {
        let done = lane.turn(at: now)
        if sharesCounter { for _ in 0..<done { common.add(1, ordering: .relaxed) } }
        packets += done
        now = MonotonicClock.now()
      }
      total.add(nanoseconds: threadTime() - began, packets: packets)
    }
  }
  return total.wait(for: workers)
}

/// Processor time of the calling thread, in nanoseconds.
func threadTime() -> Int {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The lanes' results, gathered at their ends.
final class Total: Sendable {
  private let sums = Mutex((lanes: 0, nanoseconds: 0, packets: 0))

  func add(nanoseconds: Int, packets: Int) {
    sums.withLock { sums in
      sums.lanes += 1
      sums.nanoseconds += nanoseconds
      sums.packets += packets
    }
  }

  func wait(for lanes: Int) -> Double {
    while true {
      let sums = sums.withLock { $0 }
      if sums.lanes == lanes { return Double(sums.nanoseconds) / Double(max(1, sums.packets)) }
      usleep(1000)
    }
  }
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

let repetitions = max(1, CommandLine.arguments.dropFirst().first.flatMap(Int.init) ?? 21)
let counts = Array(1...min(Thread.processors, 64))
for sharesCounter in [false, true] {
  print(sharesCounter ? "with a counter that all of them write:" : "nothing shared:")
  var costs = counts.map { _ in [Double]() }
  for _ in 0..<repetitions {
    for (place, workers) in counts.enumerated() {
      let cost = try measure(
        workers: workers, sharesCounter: sharesCounter, run: .milliseconds(150))
      costs[place].append(cost)
    }
  }
  let alone = median(costs[0])
  for (place, workers) in counts.enumerated() {
    let cost = median(costs[place])
    print(
      "  \(workers) at a time: \(Int(cost.rounded())) ns for a packet,",
      "\(Int((100 * cost / alone).rounded())) % of one alone")
  }
}
