// The ports of one address pattern, laid flat: who owns which run of ports.
//
// Rules of one pattern may overlap: a port inside a range, a range inside "*". Which one wins is
// settled here once, when the table is built: the narrowest takes its ports first, the next narrowest
// what is left. What remains are disjoint runs of ports in order, each one rule's. A directory over
// equal buckets of ports, about as many as there are runs, leads a search to the run or next to it: two
// cache lines, for a rule of one port, for a rule of all of them, and beside 65 534 others.

import Wire

/// A rule's claim on a range of ports.
struct PortClaim {
  var ports: PortRange
  var rule: UInt32
}

/// Neighbouring ports of one rule.
struct PortRun: BitwiseCopyable {
  var first: UInt16
  var last: UInt16
  var rule: UInt32
}

/// The rule number that stands for none.
let noRule = UInt32.max

enum PortSet {
  /// The runs that the claims amount to, in order; at least one if there is a claim.
  ///
  /// Of two claims of one width the earlier one takes what both want.
  static func flatten(_ claims: [PortClaim]) -> [PortRun] {
    var edges: [Int] = []
    for claim in claims {
      edges.append(Int(claim.ports.first))
      edges.append(Int(claim.ports.last) + 1)
    }
    edges.sort()
    edges = edges.indices.filter { $0 == 0 || edges[$0] != edges[$0 - 1] }.map { edges[$0] }

    // A segment lies between neighbouring edges; `free[i]` leads to the first unclaimed one from i on.
    var owners = [UInt32](repeating: noRule, count: edges.count)
    var free = Array(0...edges.count)
    let order = claims.indices.sorted {
      (claims[$0].ports.count, $0) < (claims[$1].ports.count, $1)
    }
    for index in order {
      let claim = claims[index]
      var segment = firstFree(position(of: Int(claim.ports.first), in: edges), &free)
      while segment < edges.count && edges[segment] <= Int(claim.ports.last) {
        owners[segment] = claim.rule
        free[segment] = segment + 1
        segment = firstFree(segment, &free)
      }
    }

    var runs: [PortRun] = []
    for segment in edges.indices.dropLast() where owners[segment] != noRule {
      let first = UInt16(edges[segment])
      let last = UInt16(edges[segment + 1] - 1)
      if let run = runs.last, run.rule == owners[segment], Int(run.last) + 1 == Int(first) {
        runs[runs.count - 1].last = last
      } else {
        runs.append(PortRun(first: first, last: last, rule: owners[segment]))
      }
    }
    return runs
  }

  /// How far to shift a port right for its bucket, when a set has so many runs.
  static func directoryShift(runCount: Int) -> Int {
    UInt16.bitWidth - (Int.bitWidth - (runCount - 1).leadingZeroBitCount)
  }

  /// Runs for each port of the span, less one, over 65 536: a port's distance from the first one, times
  /// this and one, names a run that is there.
  static func runsPerPort(_ runs: some BidirectionalCollection<PortRun>) -> UInt16 {
    guard let first = runs.first?.first, let last = runs.last?.last else { return 0 }
    let span = Int(last) - Int(first) + 1
    return UInt16(max(1, (runs.count << 16) / span) - 1)
  }

  /// For each bucket, and for the end of the last, how many runs begin before it.
  static func directory(of runs: some Collection<PortRun>) -> [UInt16] {
    let shift = directoryShift(runCount: runs.count)
    var directory = [UInt16](repeating: 0, count: (1 << (16 - shift)) + 1)
    for run in runs { directory[(Int(run.first) >> shift) + 1] += 1 }
    for bucket in directory.indices.dropFirst() { directory[bucket] += directory[bucket - 1] }
    return directory
  }

  private static func firstFree(_ start: Int, _ free: inout [Int]) -> Int {
    var root = start
    while free[root] != root { root = free[root] }
    var segment = start
    while segment != root { (segment, free[segment]) = (free[segment], root) }
    return root
  }

  private static func position(of edge: Int, in edges: [Int]) -> Int {
    var low = 0
    var high = edges.count
    while low < high {
      let middle = (low + high) / 2
      if edges[middle] < edge { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
