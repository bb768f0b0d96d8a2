import Testing
import Primitives
@Test func tmpTrace() throws {
  var plan = ThroughputTests.bulk(upload: 4 << 20, download: 0, loss: 0, offloads: true)
  plan.timeWait = .seconds(1)
  let s = Simulation(plan, seed: 1)
  s.trace.isWhole = true
  print(try s.run()); print(s.trace.text)
}
