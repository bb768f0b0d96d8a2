import SimulationModel
import Testing

// A few hundred seeds of the build that is shipped, in batches, so that batches run beside one another.
// Many more run in an optimised build: see `Scripts/simulate`, which also replays a seed.

@Suite("Stack under simulation") struct StackSimulationTests {
  static let batches = 20
  static let seedsMax: UInt64 = 400

  @Test(
    "every flow ends byte-exact, within its windows, and leaves nothing behind",
    arguments: 0..<batches)
  func seeds(batch: Int) {
    var failures = 0
    for seed in stride(from: UInt64(batch + 1), through: Self.seedsMax, by: Self.batches) {
      do {
        _ = try simulate(seed: seed)
      } catch {
        Issue.record("\(error)\n  replay: Scripts/simulate --seed \(seed)")
        failures += 1
        if failures >= 3 { return }
      }
    }
  }

  @Test(
    "so does it on several workers, when the device gives every fourth packet to any of them",
    arguments: 2...4)
  func workers(count: Int) {
    var failures = 0
    var handedOver = 0
    for seed in stride(from: UInt64(count), through: 180, by: 3) {
      do {
        handedOver += try simulate(seed: seed, plan: Plan(seed: seed).shared(by: count)).handedOver
      } catch {
        Issue.record("\(error)\n  replay: Scripts/simulate --seed \(seed) --workers \(count)")
        failures += 1
        if failures >= 3 { return }
      }
    }
    #expect(handedOver > 300)
  }
}
