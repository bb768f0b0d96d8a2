import Primitives
import SimulationModel
import Testing

// What a transfer costs when the path is plain: time, and retransmissions by time-out.

@Suite("Transfers under simulation") struct ThroughputTests {
  @Test("without loss nothing is sent twice, and no timer is waited for", arguments: [true, false])
  func clean(offloads: Bool) throws {
    for (upload, download) in [(4 << 20, 0), (0, 4 << 20), (2 << 20, 2 << 20)] {
      let plan = Plan.bulk(upload: upload, download: download, loss: 0, offloads: offloads)
      let report = try simulate(seed: 1, plan: plan)
      #expect(report.retransmissions == 0)
      #expect(report.timeouts == 0)
      #expect(report.clientTimeouts == 0)
      #expect(report.transferTime < .seconds(2), "\(report.transferTime)")
    }
  }

  @Test("one percent of loss is mended by selective acknowledgements", arguments: [true, false])
  func lossy(offloads: Bool) throws {
    var retransmissions = 0
    var timeouts = 0
    for seed in UInt64(1)...10 {
      let plan = Plan.bulk(upload: 0, download: 2 << 20, loss: 1_000, offloads: offloads)
      let report = try simulate(seed: seed, plan: plan)
      retransmissions += report.retransmissions
      timeouts += report.timeouts
    }
    // Only the very last segments may have nothing behind them that could tell of their loss.
    #expect(timeouts <= 12, "\(timeouts) of \(retransmissions)")
    #expect(retransmissions > 50)
  }
}
