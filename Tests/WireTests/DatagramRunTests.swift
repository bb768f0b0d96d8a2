// Runs of datagrams: which lengths join, and how far.

import Testing
import Wire

@Suite("Runs of datagrams")
struct DatagramRunTests {
  /// Joins datagrams of these lengths as far as they let themselves be; the lengths of each run.
  private func runs(_ lengths: [Int]) -> [[Int]] {
    var runs: [(DatagramRun, [Int])] = []
    for length in lengths {
      if let last = runs.indices.last, runs[last].0.join(DatagramRun(length)) {
        runs[last].1.append(length)
      } else {
        runs.append((DatagramRun(length), [length]))
      }
    }
    for (run, lengths) in runs {
      #expect(run.datagrams == lengths.count)
      #expect(run.octets == lengths.reduce(0, +))
    }
    return runs.map(\.1)
  }

  @Test("equal lengths join, a shorter one is the last")
  func lengths() {
    #expect(runs([100, 100, 100]) == [[100, 100, 100]])
    #expect(runs([100, 100, 40, 40, 40]) == [[100, 100, 40], [40, 40]])
    #expect(runs([100, 101, 100]) == [[100], [101, 100]])
    #expect(runs([1, 1]) == [[1, 1]])
  }

  @Test("an empty datagram stands alone")
  func empty() {
    #expect(runs([0, 0, 5, 0, 5]) == [[0], [0], [5], [0], [5]])
  }

  @Test("no run has more than 64 datagrams, or more octets than a packet")
  func bounds() {
    let small = runs(Array(repeating: 10, count: 150))
    #expect(small.map(\.count) == [64, 64, 22])
    let large = runs(Array(repeating: 9000, count: 15))
    #expect(large.map(\.count) == [7, 7, 1])
    #expect(runs([65_507, 65_507, 1]) == [[65_507], [65_507], [1]])
  }

  @Test("pieces of several datagrams join when their lengths agree, and behind a full one only")
  func pieces() {
    var run = DatagramRun(300, segmentOctets: 100)
    #expect(run.datagrams == 3 && run.segmentOctets == 100)
    #expect(run.join(DatagramRun(250, segmentOctets: 100)) == true)
    #expect(run.datagrams == 6 && run.octets == 550)
    #expect(run.join(DatagramRun(50)) == false)
    var other = DatagramRun(300, segmentOctets: 100)
    #expect(other.join(DatagramRun(160, segmentOctets: 80)) == false)
    #expect(other.join(DatagramRun(0)) == false)
    #expect(other.join(DatagramRun(80, segmentOctets: 80)) == true)
    #expect((0..<4).map { other.datagramOctets(at: $0 * 100) } == [100, 100, 100, 80])
  }

  @Test("a run that a socket gives may be longer than any that is joined here, and takes no more")
  func received() {
    for (octets, segment, datagrams) in [(1280, 10, 128), (65_527, 512, 128), (65_520, 1456, 45)] {
      var run = DatagramRun(octets, segmentOctets: segment)
      #expect(run.datagrams == datagrams && run.octets == octets)
      #expect(datagrams > DatagramRun.datagramsMax || octets > DatagramRun.octetsMax)
      let last = (datagrams - 1) * segment
      #expect(run.datagramOctets(at: last) == octets - last)
      #expect(run.join(DatagramRun(1)) == false)
      var other = DatagramRun(segment)
      #expect(other.join(run) == false)
    }
  }

  @Test("a segment longer than its piece makes one datagram")
  func oversized() {
    let run = DatagramRun(40, segmentOctets: 100)
    #expect(run.datagrams == 1 && run.segmentOctets == 40)
  }
}
