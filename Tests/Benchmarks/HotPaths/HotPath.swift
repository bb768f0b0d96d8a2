// What a packet costs: the paths that packets of a running conversation take, and those on which flows
// begin and end, driven over and over.
//
// Each path stands still apart from sequence numbers and time, so that a count over many packets,
// divided by them, is what one packet costs. What drives it keeps the same rules as what is driven:
// once warm it allocates nothing and counts no reference, or the counts would be its own. `Gate`
// counts allocations and calls of the runtime over these paths; `Benchmarks` times them.

package protocol HotPath: ~Copyable {
  /// What the gate and the benchmarks call it.
  static var name: String { get }

  init()

  /// Drives the path for at least so many packets, or look-ups where there are none.
  /// - Returns: how many.
  mutating func drive(packets: Int) -> Int

  /// Whether everything driven came out as it should; if not, what went wrong.
  func failure() -> String?
}

/// Whoever does something with every path.
package protocol HotPathVisitor: ~Copyable {
  mutating func visit<Path: HotPath & ~Copyable>(_ path: Path.Type)
}

extension HotPathVisitor where Self: ~Copyable {
  package mutating func visitAll() {
    visit(UploadOfSuperPackets.self)
    visit(UploadOfSegments.self)
    visit(UploadToFullTarget.self)
    visit(UploadWithGaps.self)
    visit(Download.self)
    visit(DownloadIPv6.self)
    visit(DownloadWithoutOffloads.self)
    visit(DownloadWithLoss.self)
    visit(Acknowledgments.self)
    visit(Datagrams.self)
    visit(DatagramSuperPackets.self)
    visit(DatagramRuns.self)
    visit(Connections.self)
    visit(BoundedConnections.self)
    visit(Sessions.self)
    visit(TurnedAway.self)
    visit(UnknownSegments.self)
    visit(Echoes.self)
    visit(SocketTableHits.self)
    visit(SocketTableMisses.self)
    visit(FlowIndexHits.self)
    visit(Deadlines.self)
  }
}
