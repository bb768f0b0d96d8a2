import Primitives
import TCP
import Testing

// Near clients that send in bulk at once share one window.

@Suite("Flow control: clients that send in bulk at the same time")
struct UploadCensusTests {
  private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

  @Test("each is counted once in a count, and still in the next one")
  func counts() {
    var census = UploadCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 8)
    #expect(census.share(of: 960 << 10, at: start) == 960 << 10)
    for round in 0..<5 {
      for index in marks.indices {
        census.saw(20_000, mark: &marks[index], at: start + .milliseconds(round))
      }
    }
    #expect(census.share(of: 960 << 10, at: start + .milliseconds(5)) == 120 << 10)
    // Seven fall silent: when the next count is full, the eighth has all.
    census.saw(20_000, mark: &marks[0], at: start + .milliseconds(51))
    #expect(census.share(of: 960 << 10, at: start + .milliseconds(51)) == 120 << 10)
    census.saw(20_000, mark: &marks[0], at: start + .milliseconds(102))
    #expect(census.share(of: 960 << 10, at: start + .milliseconds(102)) == 960 << 10)
  }

  @Test("what is no bulk does not count, and a count that is long over neither")
  func small() {
    var census = UploadCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 4)
    for index in marks.indices {
      census.saw(UploadCensus.bulkOctets - 1, mark: &marks[index], at: start)
    }
    #expect(marks == [0, 0, 0, 0])
    #expect(census.share(of: 100_000, at: start) == 100_000)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    #expect(census.share(of: 400_000, at: start) == 100_000)
    census.saw(20_000, mark: &marks[0], at: start + .seconds(1))
    #expect(census.share(of: 400_000, at: start + .seconds(1)) == 400_000)
  }

  @Test("a count that nobody closed bounds nobody: who sends little is not seen")
  func stale() {
    var census = UploadCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 8)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    let end = start + UploadCensus.period
    #expect(census.share(of: 960 << 10, at: start + .milliseconds(49)) == 120 << 10)
    #expect(census.share(of: 960 << 10, at: end + .milliseconds(49)) == 120 << 10)
    #expect(census.share(of: 960 << 10, at: end + UploadCensus.period) == 960 << 10)
  }

  @Test("no share is narrower than 64 KiB, or than the window")
  func least() {
    var census = UploadCensus()
    var marks: [UInt8] = Array(repeating: 0, count: 100)
    for index in marks.indices { census.saw(20_000, mark: &marks[index], at: start) }
    #expect(census.share(of: 960 << 10, at: start) == 64 << 10)
    #expect(census.share(of: 5000, at: start) == 5000)
  }
}
