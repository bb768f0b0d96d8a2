// Every hot path as a benchmark. One measurement drives many packets; the figures are for one.

import Benchmark
import HotPaths

private let packetsOfMeasurement = 10_000

private struct Registrar: HotPathVisitor {
  mutating func visit<Path: HotPath & ~Copyable>(_ type: Path.Type) {
    Benchmark(
      Path.name,
      configuration: .init(
        metrics: [.wallClock, .throughput], timeUnits: .nanoseconds,
        warmupIterations: 3, scalingFactor: .kilo, maxDuration: .seconds(2),
        maxIterations: 200)
    ) { benchmark in
      var path = Path()
      _ = path.drive(packets: packetsOfMeasurement)
      benchmark.startMeasurement()
      _ = path.drive(packets: benchmark.scaledIterations.count)
      benchmark.stopMeasurement()
      if let failure = path.failure() { benchmark.error("\(Path.name): \(failure)") }
    }
  }
}

let benchmarks: @Sendable () -> Void = {
  var registrar = Registrar()
  registrar.visitAll()
}
