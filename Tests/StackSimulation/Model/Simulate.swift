import Primitives

/// Runs a seed, or a plan of one's own with a seed for what happens by chance.
/// - Throws: the first violation, with the seed, how to replay it, and what came before it.
package func simulate(
  seed: UInt64, plan: Plan? = nil, fault: Fault? = nil, whole: Bool = false
) throws -> Report {
  var plan = plan ?? Plan(seed: seed)
  if fault == .ignoresHomes { plan = plan.shared(by: 3) }
  #if PLANTED_FAULTS
    if PlantedFault.isPlanted(.leavesHomeEarly) { plan = plan.shared(by: 3) }
  #endif
  let simulation = Simulation(plan, seed: seed, fault: fault)
  simulation.trace.isWhole = whole
  do {
    let report = try simulation.run()
    if whole { print(simulation.trace.text) }
    return report
  } catch {
    throw Violation(
      """
      \(simulation.trace.text)
      seed \(seed): \(error)
      """)
  }
}
