import Glibc
import Primitives
import Testing

// Seeds in batches, so that batches run beside one another.
//
// `PORTFERRY_SEED=N` runs one seed alone with its whole trace, `PORTFERRY_SEEDS=N` so many seeds
// instead of 1 000.

enum Environment {
  static func number(_ name: String) -> UInt64? {
    guard let value = getenv(name) else { return nil }
    return UInt64(String(cString: value))
  }
}

func simulate(seed: UInt64, plan: Plan? = nil, fault: Fault? = nil, whole: Bool = false) throws
  -> Report
{
  let simulation = Simulation(plan ?? Plan(seed: seed), seed: seed, fault: fault)
  simulation.trace.isWhole = whole
  do {
    return try simulation.run()
  } catch {
    throw Violation("seed \(seed): \(error)\n\(simulation.trace.text)")
  }
}

@Suite("Stack under simulation") struct StackSimulationTests {
  static let batches = 20

  @Test(
    "every flow ends byte-exact, within its windows, and leaves nothing behind",
    arguments: 0..<batches)
  func seeds(batch: Int) {
    if let seed = Environment.number("PORTFERRY_SEED") {
      guard batch == 0 else { return }
      do {
        print(try simulate(seed: seed, whole: true))
      } catch { Issue.record("\(error)") }
      return
    }
    let count = Environment.number("PORTFERRY_SEEDS") ?? 1_000
    var failures = 0
    for seed in stride(from: UInt64(batch + 1), through: count, by: Self.batches) {
      do {
        _ = try simulate(seed: seed)
      } catch {
        Issue.record("\(error)")
        failures += 1
        if failures >= 3 { return }
      }
    }
  }
}
