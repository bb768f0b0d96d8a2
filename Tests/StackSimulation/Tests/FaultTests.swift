import SimulationModel
import Testing

// The checks, checked: each planted fault must be found, and soon.

@Suite("The simulation's checks") struct FaultTests {
  @Test("find every planted fault", arguments: Fault.allCases)
  func finds(fault: Fault) {
    for seed in UInt64(1)...80 {
      do {
        _ = try simulate(seed: seed, fault: fault)
      } catch { return }
    }
    Issue.record("\(fault) was not found in 80 seeds")
  }

  @Test("a seed replays: the same run, event by event")
  func replays() throws {
    for seed in UInt64(1)...10 {
      let first = Simulation(Plan(seed: seed), seed: seed)
      let second = Simulation(Plan(seed: seed), seed: seed)
      _ = try first.run()
      _ = try second.run()
      #expect(first.trace.text == second.trace.text)
    }
  }
}
