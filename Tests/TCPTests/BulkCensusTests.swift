import Primitives
import TCP
import Testing

// Near clients that send in bulk at once share one window.

@Suite("Flow control: clients that send in bulk at the same time")
struct BulkCensusTests {
  private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

  private func share(_ usual: UInt32, of census: BulkCensus, at now: MonotonicInstant) -> UInt32 {
    census.share(of: usual, alone: usual, at: now)
  }

  @Test("each is counted once in a count, and still in the next one")
  func counts() {
    var census = BulkCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 8)
    #expect(share(960 << 10, of: census, at: start) == 960 << 10)
    for round in 0..<5 {
      for index in marks.indices {
        census.saw(20_000, mark: &marks[index], at: start + .milliseconds(round))
      }
    }
    #expect(share(960 << 10, of: census, at: start + .milliseconds(5)) == 120 << 10)
    // Seven fall silent: when the next count is full, the eighth has all.
    census.saw(20_000, mark: &marks[0], at: start + .milliseconds(51))
    #expect(share(960 << 10, of: census, at: start + .milliseconds(51)) == 120 << 10)
    census.saw(20_000, mark: &marks[0], at: start + .milliseconds(102))
    #expect(share(960 << 10, of: census, at: start + .milliseconds(102)) == 960 << 10)
  }

  @Test("what is no bulk does not count, and a count that is long over neither")
  func small() {
    var census = BulkCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 4)
    for index in marks.indices {
      census.saw(BulkCensus.bulkOctets - 1, mark: &marks[index], at: start)
    }
    #expect(marks == [0, 0, 0, 0])
    #expect(share(100_000, of: census, at: start) == 100_000)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    #expect(share(400_000, of: census, at: start) == 100_000)
    census.saw(20_000, mark: &marks[0], at: start + .seconds(1))
    #expect(share(400_000, of: census, at: start + .seconds(1)) == 400_000)
  }

  @Test("a count that nobody closed bounds nobody: who sends little is not seen")
  func stale() {
    var census = BulkCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 8)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    let end = start + BulkCensus.period
    #expect(share(960 << 10, of: census, at: start + .milliseconds(49)) == 120 << 10)
    #expect(share(960 << 10, of: census, at: end + .milliseconds(49)) == 120 << 10)
    #expect(share(960 << 10, of: census, at: end + BulkCensus.period) == 960 << 10)
  }

  @Test("no share is narrower than 64 KiB, or than the window")
  func least() {
    var census = BulkCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 100)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    #expect(share(960 << 10, of: census, at: start) == 64 << 10)
    #expect(share(5000, of: census, at: start) == 5000)
  }

  @Test("of two that send in bulk none is alone")
  func two() {
    var census = BulkCensus()
    var marks: [UInt8] = [0, 0]
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    #expect(census.share(of: 1_000_000, alone: 4_000_000, at: start) == 500_000)
    census.saw(20_000, mark: &marks[0], at: start + .seconds(1))
    #expect(census.share(of: 1_000_000, alone: 4_000_000, at: start + .seconds(1)) == 4_000_000)
    #expect(census.share(of: 1_000_000, alone: nil, at: start + .seconds(1)) == 1_000_000)
  }
}
