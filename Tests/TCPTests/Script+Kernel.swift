import Glibc
import Primitives
import TCP
import Testing
import Wire

// A script against the kernel's TCP: the steps that differ, and what is told of its end.
//
// Each script leaves a line in the file that PORTFERRY_TRACE_RESULTS names: the test, a tab, and "same",
// "differs" or "inapplicable", with why; the trace follows, indented. Tests/KernelTraces reads them.

extension Script {
  /// What a script's run against the kernel came to.
  enum Verdict: String {
    case same, differs, inapplicable
  }

  /// Gives this script the kernel as its peer, when the process runs against it.
  func chooseKernel(usual: Bool) {
    guard KernelPeer.isChosen else { return }
    kernel = KernelPeer(path: path, settings: settings)
    if !usual {
      inapplicable("bounds of memory and windows, keep-alive and super-packets are ours")
    }
  }

  /// The trace asks for something that a kernel does not have.
  func inapplicable(_ why: String) {
    if !failed { end(.inapplicable, why) }
  }

  /// Takes what the kernel has sent into the outbox, and lets the target take.
  func turn(_ kernel: KernelPeer, _ location: SourceLocation) {
    collect(kernel, location)
    feed(kernel, location)
    collect(kernel, location)
  }

  private func collect(_ kernel: KernelPeer, _ location: SourceLocation) {
    while let frame = kernel.next() {
      do {
        outbox.append(try read(frame, location))
      } catch {
        fail("a packet does not parse: \(error.word)", location)
      }
    }
  }

  private func feed(_ kernel: KernelPeer, _ location: SourceLocation) {
    while true {
      let wanted: Int
      switch appetite {
      case .everything: wanted = 65_536
      case .nothing: wanted = 0
      case .octets(let left): wanted = left
      }
      guard wanted > 0, let taken = kernel.take(atMost: wanted), !taken.isEmpty else { return }
      for (offset, octet) in taken.enumerated()
      where octet != patternOctet(takenByTarget + 1 + offset, fromClient: true) {
        return fail("the target was given a wrong octet at \(takenByTarget + 1 + offset)", location)
      }
      takenByTarget += taken.count
      if case .octets = appetite { appetite = .octets(wanted - taken.count) }
    }
  }

  /// So many segments should be in the outbox, or no more. What is late moves the script's clock.
  func wait(
    _ kernel: KernelPeer, forSegments count: Int, grace: Interval = KernelPeer.grace,
    _ location: SourceLocation
  ) {
    guard count == 0 || outbox.count < count else { return }
    let end =
      KernelPeer.clock()
      + (count > 0 ? KernelPeer.slack : grace)
    repeat {
      KernelPeer.wait(atMost: .milliseconds(max(1, (end - KernelPeer.clock()).milliseconds)))
      turn(kernel, location)
    } while outbox.count < max(1, count) && KernelPeer.clock() < end
    if count > 0 { kernel.moveClock(to: KernelPeer.clock()) }
  }

  /// Long intervals end a little early: the kernel's timers may be a tick early, and what is late is
  /// waited for.
  func advance(_ kernel: KernelPeer, by interval: Interval, _ location: SourceLocation) {
    kernel.waited = kernel.waited + interval
    guard kernel.waited <= KernelPeer.longest else {
      return inapplicable("takes longer than \(KernelPeer.longest.milliseconds) ms")
    }
    let early = interval < .milliseconds(100) ? .zero : KernelPeer.tick
    now = now + interval
    kernel.catchUp(earlier: early)
    note("  \(interval.milliseconds) ms pass")
    turn(kernel, location)
  }

  func say(_ kernel: KernelPeer, _ octets: Int) -> Int {
    guard kernel.isAccepted else {
      inapplicable("a kernel gives no socket before the handshake is complete")
      return 0
    }
    kernel.catchUp()
    let words = (0..<min(octets, 4 << 20)).map {
      patternOctet(saidByTarget + 1 + $0, fromClient: false)
    }
    let said = kernel.say(words)
    saidByTarget += said
    return said
  }

  /// Writes the verdict down.
  func tell(_ verdict: Verdict, _ why: String, _ lines: [String]) {
    guard let results = getenv("PORTFERRY_TRACE_RESULTS"), let file = fopen(results, "a")
    else { return }
    let test = Test.current.map { String(describing: $0.id) } ?? "?"
    fputs("\(test)\t\(verdict.rawValue)\t\(why)\n", file)
    for line in lines { fputs("    \(line)\n", file) }
    fclose(file)
  }
}
