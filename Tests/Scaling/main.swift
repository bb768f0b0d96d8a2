import Glibc
import HotPaths
import Kernel
import Primitives
import Stack
import Synchronization

// Whether workers get in each other's way: what a packet costs one, and each of several side by side; and
// for how long a reload holds one up.
//
//     portferry-scaling [REPETITIONS]    shows times
//     portferry-scaling --check          judges none: lanes side by side lose nothing while rules change
//
// Each worker is a thread with a stack of its own (`Lane`), made there, as the daemon's are; the rules
// are made elsewhere and shared. If they wrote to common cache lines, each would wait for the others' and
// its packets cost it more; as a measure of how much, everything is done once more with one counter that
// all of them write for each packet. What counts is the processor time of a thread, and of many short
// runs the median: other processes on the machine disturb that little. Threads that never run at the same
// time cannot disturb one another: on a busy machine the difference is less than on one that is idle. That
// nothing shared is counted by references is judged elsewhere, by numbers: portferry-hotpath.
//
// What to expect of the daemon on more cores than there are here: a worker's user-space share of a
// packet does not depend on the others, so packets per second grow with the number of workers as long
// as each has a core of its own. What they do share is the kernel's: the device's statistics (per CPU), the
// socket tables, and the memory bus, which bulk transfers meet first, at some 10 to 20 GB/s of copying per
// socket. So with 16 cores and clients elsewhere: 14 to 16 times one worker in packets of datagrams
// or short requests, and in bulk what four to eight workers carry. Where clients and targets run
// on the same cores, they take two of three, and the daemon grows to a third.

let arguments = CommandLine.arguments.dropFirst()
if arguments.first == "--check" {
  var check = Check()
  check.run(DatagramLane.self)
  check.run(PathLane<Connections>.self)
  check.run(PathLane<Sessions>.self)
  check.finish()
}
let repetitions = max(1, arguments.first.flatMap(Int.init) ?? 21)
try show(DatagramLane.self, repetitions)
try show(PathLane<Connections>.self, repetitions)
try show(PathLane<Sessions>.self, repetitions)
for change in Reload.Change.allCases { try showReload(change, repetitions) }
