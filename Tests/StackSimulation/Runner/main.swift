import Glibc
import Primitives
import SimulationModel

// Runs seeds of the simulation one after the other and counts them; see `usage`. `Scripts/simulate`
// builds this, runs several beside one another, and adds up what they say.

let usage = """
  Usage: portferry-simulation [--from N] [--seeds N] [--step N] [--workers N] [--fault NAME]
         portferry-simulation --seed N [--workers N] [--fault NAME] | --list-faults

    --seeds N     run seeds up to N (10000), every --step N of them, from --from N (1)
    --seed N      run one seed and show every packet
    --workers N   with so many stacks (1), and a device that gives packets to any of them
    --fault NAME  plant a fault, and stop at the first seed that shows it
    --list-faults name the faults

  The last line is "N passed, N failed".
  """

/// What a trap leaves behind: the seed that was running. Async-signal-safe, so no strings.
enum Running {
  nonisolated(unsafe) static var seed: UInt64 = 0

  static func watchForTraps() {
    for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE] {
      signal(number) { number in
        var digits: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        withUnsafeMutableBytes(of: &digits) { text in
          let prefix: StaticString = "trap in seed "
          _ = write(2, prefix.utf8Start, prefix.utf8CodeUnitCount)
          var at = text.count - 1
          text[at] = 10
          var left = Running.seed
          repeat {
            at -= 1
            text[at] = UInt8(48 + left % 10)
            left /= 10
          } while left > 0 && at > 0
          if let base = text.baseAddress { _ = write(2, base + at, text.count - at) }
        }
        signal(number, SIG_DFL)
        raise(number)
      }
    }
  }
}

func stop(_ text: String) -> Never {
  print("portferry-simulation: \(text)")
  exit(2)
}

/// Says it now: a trap flushes nothing.
func say(_ text: String) {
  print(text)
  fflush(nil)
}

struct Options {
  var first: UInt64 = 1
  var last: UInt64 = 10_000
  var step: UInt64 = 1
  var single: UInt64?
  var workers = 1
  var faultName: String?

  init(_ arguments: [String]) {
    var rest = arguments[...]
    func number(_ option: String) -> UInt64 {
      guard let text = rest.popFirst(), let value = UInt64(text) else {
        stop("\(option) takes a number")
      }
      return value
    }
    while let argument = rest.popFirst() {
      switch argument {
      case "--from": first = number(argument)
      case "--seeds": last = number(argument)
      case "--step": step = max(1, number(argument))
      case "--seed": single = number(argument)
      case "--workers": workers = Int(min(16, max(1, number(argument))))
      case "--fault": faultName = rest.popFirst() ?? ""
      case "--list-faults":
        for name in Planting.names { print(name) }
        exit(0)
      case "--help", "-h":
        print(usage)
        exit(0)
      default: stop("no option '\(argument)'\n\(usage)")
      }
    }
  }
}

let options = Options(Array(CommandLine.arguments.dropFirst()))
var planting = Planting()
if let name = options.faultName {
  guard let known = Planting(named: name) else {
    stop("no fault '\(name)'; --list-faults names them")
  }
  planting = known
}
Running.watchForTraps()
let suffix =
  (options.workers > 1 ? " --workers \(options.workers)" : "")
  + (options.faultName.map { " --fault \($0)" } ?? "")

if let single = options.single {
  Running.seed = single
  do {
    let plan = Plan(seed: single).shared(by: options.workers)
    print(try simulate(seed: single, plan: plan, fault: planting.fault, whole: true))
    print("1 passed, 0 failed")
    exit(0)
  } catch {
    print("\(error)\n0 passed, 1 failed")
    exit(1)
  }
}

var passed = 0
var failed = 0
for seed in stride(from: options.first, through: options.last, by: Int(options.step)) {
  Running.seed = seed
  do {
    let plan = Plan(seed: seed).shared(by: options.workers)
    _ = try simulate(seed: seed, plan: plan, fault: planting.fault)
    passed += 1
  } catch {
    failed += 1
    say("\(error)\n  replay: Scripts/simulate --seed \(seed)\(suffix)")
    // The rest would say the same; they count as what was not shown.
    if failed == 5 || options.faultName != nil { break }
  }
}
print("\(passed) passed, \(failed) failed")
exit(failed == 0 ? 0 : 1)
