import Primitives
import TCP
import Testing
import Wire

// The verbs of a script. Each is a step of the trace; without a running script they do nothing.
//
//   inject("P.", 1...101, ack: 1)        the client sends octets 1 to 100
//   together { inject(…) inject(…) }     these arrive in one turn
//   expect(".", 1...1, ack: 101)         the next segment that went out must be this
//   expectNothing()                      none has
//   advance(by: .milliseconds(40))       time passes, deadlines are served as they come
//   targetSays(500)  targetTakes(.everything)  targetFinishes()

private func step(_ body: (Script) -> Void) {
  guard let script = Script.current, !script.failed else { return }
  body(script)
}

// MARK: Client

/// The client sends a segment.
/// - Parameters:
///   - window: octets, after the scaling that the client announced.
///   - ts: whether a SYN offers timestamps; later segments then carry them by themselves.
///   - timestamp: the client's clock, when it is not what it should be.
///   - echo: our timestamp that it echoes, when that is not the last.
///   - unstamped: the segment lacks the timestamp that was agreed on.
///   - marked: whether the network has marked it (CE).
func inject(
  _ flags: String, _ range: ClosedRange<Int>, ack: Int? = nil, window: Int = 64_000,
  mss: UInt16? = nil, sack: Bool = false, wscale: UInt8? = nil, ts: Bool = false,
  timestamp: UInt32? = nil, echo: UInt32? = nil, unstamped: Bool = false, marked: Bool = false,
  sackBlocks: [ClosedRange<Int>] = [], sourceLocation: SourceLocation = #_sourceLocation
) {
  step { script in
    var segment = TraceSegment(
      flags: TCPFlags(letters: flags), range: range, acknowledgment: ack, window: window,
      sackBlocks: sackBlocks)
    segment.options.maximumSegmentSize = mss
    segment.options.sackPermitted = sack
    segment.options.windowScale = wscale
    segment.isUnstamped = unstamped
    if ts {
      segment.options.timestamp = TCPTimestamp(
        value: timestamp ?? script.clientTimestamp, echo: 0)
    }
    if marked { segment.codepoint = 3 }
    script.inject(segment, timestamp: timestamp, echo: echo, sourceLocation)
  }
}

/// What the client sends within arrives in one turn.
func together(
  _ injections: () -> Void, sourceLocation: SourceLocation = #_sourceLocation
) {
  step { script in
    if script.kernel != nil { return script.inapplicable("what comes in one turn is ours") }
    script.isGathering = true
    injections()
    script.isGathering = false
    script.endTurn(sourceLocation)
  }
}

/// The next segment that went out must be this one. What is left out is not looked at, but SACK
/// blocks are: none are expected unless named. `capable` is ECT(0), or no ECN codepoint.
func expect(
  _ flags: String, _ range: ClosedRange<Int>, ack: Int? = nil, window: Int? = nil,
  mss: UInt16? = nil, sack: Bool? = nil, wscale: UInt8? = nil, ts: Bool? = nil,
  echo: UInt32? = nil, pieces: Int? = nil, capable: Bool? = nil,
  sackBlocks: [ClosedRange<Int>] = [],
  sourceLocation: SourceLocation = #_sourceLocation
) {
  step { script in
    var wanted = "\"\(flags)\" \(range.lowerBound)...\(range.upperBound)"
    if let ack { wanted += " ack \(ack)" }
    if let window { wanted += " win \(window)" }
    if !sackBlocks.isEmpty { wanted += " sack \(sackBlocks)" }
    if let kernel = script.kernel { script.wait(kernel, forSegments: 1, sourceLocation) }
    guard let actual = script.outbox.first else {
      return script.fail("expected \(wanted), and nothing went out", sourceLocation)
    }
    let options = actual.options
    let wantedFlags = TCPFlags(letters: flags)
    let matches =
      (actual.flags == wantedFlags
        || script.kernel != nil && actual.flags == wantedFlags.union(.psh))
      && actual.range == range
      && (ack == nil || actual.acknowledgment == ack)
      && (window == nil || actual.window == window || script.kernel != nil && window != 0)
      && (mss == nil || options.maximumSegmentSize == mss)
      && (sack == nil || options.sackPermitted == sack)
      && (wscale == nil || options.windowScale == wscale
        || script.kernel != nil && options.windowScale != nil)
      && (ts == nil || (options.timestamp != nil) == ts)
      && (echo == nil || options.timestamp?.echo == echo)
      && (pieces == nil || actual.pieceOctets == pieces)
      && (capable == nil || actual.codepoint == (capable == true ? 2 : 0))
      && actual.sackBlocks == sackBlocks
    guard matches else {
      return script.fail("expected \(wanted), but it was \(actual.description)", sourceLocation)
    }
    script.note("< \(actual.description)")
    script.outbox.removeFirst()
  }
}

/// Nothing (more) went out.
func expectNothing(sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if let kernel = script.kernel { script.wait(kernel, forSegments: 0, sourceLocation) }
    if !script.outbox.isEmpty { script.fail("expected nothing", sourceLocation) }
  }
}

/// Whatever went out does not matter here; its segments.
@discardableResult
func expectAnything() -> [TraceSegment] {
  var segments: [TraceSegment] = []
  step { script in
    if let kernel = script.kernel {
      script.wait(kernel, forSegments: 0, grace: KernelPeer.tick, #_sourceLocation)
    }
    for segment in script.outbox { script.note("< \(segment.description)") }
    segments = script.outbox
    script.outbox.removeAll()
  }
  return segments
}

/// Something went out, so many segments if that is said; what does not matter.
func expectSome(_ count: Int? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if let kernel = script.kernel { script.wait(kernel, forSegments: count ?? 1, sourceLocation) }
    if script.outbox.isEmpty || count.map({ $0 != script.outbox.count }) ?? false {
      script.fail("expected \(count.map(String.init) ?? "some") segments", sourceLocation)
    }
  }
  expectAnything()
}

/// SYN, SYN-ACK, ACK: the connection is open, and both streams stand at 1.
func handshake(
  mss: UInt16? = 1000, sack: Bool = false, wscale: UInt8? = nil, ts: Bool = false,
  ecn: Bool = false, window: Int = 64_000, roundTrip: Interval = .zero,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  inject(
    ecn ? "SEW" : "S", 0...0, window: window, mss: mss, sack: sack, wscale: wscale, ts: ts,
    sourceLocation: sourceLocation)
  targetConnects(sourceLocation: sourceLocation)
  expect(ecn ? "S.E" : "S.", 0...0, ack: 1, sourceLocation: sourceLocation)
  advance(by: roundTrip, sourceLocation: sourceLocation)
  inject(".", 1...1, ack: 1, window: window, sourceLocation: sourceLocation)
  expectNothing(sourceLocation: sourceLocation)
}

/// A router says by ICMP that a segment that began at `start` was too big for its next link.
func routerSays(
  mtu: Int, quoting start: Int, sourceLocation: SourceLocation = #_sourceLocation
) {
  step { script in
    if script.kernel != nil { return script.inapplicable("a router's words come by ICMP") }
    script.note("  a router says: \(start)... was too big for \(mtu) octets")
    if let reason = script.endpoint?.packetTooBig(
      mtu: mtu, isIPv4: script.isIPv4, quoting: Script.serverStart + start, at: script.now,
      memory: &script.memory)
    {
      script.memory.drops.count(reason)
    }
    script.turn(sourceLocation)
  }
}

// MARK: Clock

/// Time passes; deadlines are served when they come.
func advance(by interval: Interval, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if let kernel = script.kernel {
      return script.advance(kernel, by: interval, sourceLocation)
    }
    let end = script.now + interval
    var rounds = 0
    while let deadline = script.endpoint?.nextDeadline, deadline <= end {
      script.now = max(script.now, deadline)
      let outcome =
        script.endpoint?.handleDeadline(at: script.now, memory: &script.memory) ?? []
      script.events.formUnion(outcome)
      if let next = script.endpoint?.nextDeadline, next <= script.now {
        return script.fail("a deadline that was served stands still", sourceLocation)
      }
      script.turn(sourceLocation)
      rounds += 1
      if rounds > 100_000 { return script.fail("deadlines without end", sourceLocation) }
    }
    script.now = end
    script.note("  \(interval.milliseconds) ms pass")
  }
}

// MARK: Target

/// The target answers the dial: the SYN is answered.
func targetConnects(sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    script.note("  the target connects")
    script.kernel?.answer()
    script.endpoint?.answer()
    script.turn(sourceLocation)
  }
}

/// The target does not: the SYN is refused.
func targetRefuses(sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    script.note("  the target refuses")
    if let kernel = script.kernel {
      kernel.answer(refusing: true)
      return script.turn(sourceLocation)
    }
    _ = script.endpoint?.reset(path: script.path, frames: &script.frames)
    script.drain(sourceLocation)
    script.endpoint?.release(memory: &script.memory)
  }
}

/// The target's socket is full, and has left some of what it was given.
func targetFills() {
  step { script in
    if script.kernel != nil { return script.inapplicable("the target's socket is ours") }
    script.note("  the target's socket is full")
    script.endpoint?.targetFilled(at: script.now)
  }
}

/// The owner has the target's socket take what is kept.
func targetIsRelieved() {
  step { script in
    if script.kernel != nil { return script.inapplicable("the target's socket is ours") }
    script.note("  the target's socket is made to take what is kept")
    script.endpoint?.beginRelief()
    script.endpoint?.targetRelieved()
  }
}

/// The target's socket has room again.
func targetHasRoom(sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if script.kernel != nil { return script.inapplicable("the target's socket is ours") }
    script.note("  the target's socket has room")
    _ = script.endpoint?.targetHasRoom()
    script.turn(sourceLocation)
  }
}

/// From now on the target takes so much.
func targetTakes(_ appetite: Script.Appetite, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    script.note("  the target takes \(appetite)")
    script.appetite = appetite
    script.turn(sourceLocation)
  }
}

/// The target has said so many octets more, as far as there is room.
/// - Returns: octets that there was room for.
@discardableResult
func targetSays(_ octets: Int, sourceLocation: SourceLocation = #_sourceLocation) -> Int {
  var said = 0
  step { script in
    if let kernel = script.kernel { said = script.say(kernel, octets) }
    let slices = UnsafeMutableBufferPointer<Slice>.allocate(capacity: 256)
    defer { slices.deallocate() }
    while script.kernel == nil, said < octets {
      let count =
        script.endpoint?.room(
          limit: octets - said, at: script.now, memory: &script.memory, slices: slices) ?? 0
      guard count > 0 else { break }
      var written = 0
      for slice in slices[..<count] {
        guard let base = slice.base else { break }
        for offset in 0..<slice.octets {
          base.storeBytes(
            of: patternOctet(script.saidByTarget + 1 + offset, fromClient: false),
            toByteOffset: offset, as: UInt8.self)
        }
        script.saidByTarget += slice.octets
        written += slice.octets
      }
      script.endpoint?.commit(written, memory: &script.memory)
      said += written
    }
    script.endpoint?.said(said, at: script.now, memory: &script.memory)
    script.note("  the target says \(said) octets")
    script.turn(sourceLocation)
  }
  return said
}

/// The target has finished.
func targetFinishes(sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    script.note("  the target finishes")
    script.kernel?.finish()
    script.endpoint?.finish()
    script.turn(sourceLocation)
  }
}

// MARK: Looking

func expectState(_ state: TCPState, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    let actual = script.kernel?.state() ?? script.endpoint?.state ?? .closed
    if actual != state { script.fail("expected \(state), the state is \(actual)", sourceLocation) }
  }
}

/// What arrived so far has meant this.
func expectEvent(_ event: SegmentOutcome, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if script.kernel == nil, !script.events.isSuperset(of: event) {
      script.fail(
        "expected outcome \(event.rawValue), had \(script.events.rawValue)", sourceLocation)
    }
  }
}

/// No such thing has come to pass.
func expectNoEvent(_ event: SegmentOutcome, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if script.kernel == nil, !script.events.isDisjoint(with: event) {
      script.fail("outcome \(event.rawValue) came to pass", sourceLocation)
    }
  }
}

/// The client's window as we know it, octets (SND.WND).
func expectPeerWindow(_ octets: Int, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    let actual = script.endpoint.map { Int($0.send.windowOctets) }
    if script.kernel == nil, actual != octets {
      script.fail(
        "SND.WND is \(actual.map(String.init) ?? "unknown"), not \(octets)", sourceLocation)
    }
  }
}

/// The target was given so many octets.
func expectTaken(_ octets: Int, sourceLocation: SourceLocation = #_sourceLocation) {
  step { script in
    if script.takenByTarget != octets {
      script.fail("the target took \(script.takenByTarget) octets, not \(octets)", sourceLocation)
    }
  }
}

func expectDrop(
  _ reason: DropReason, _ count: UInt64, sourceLocation: SourceLocation = #_sourceLocation
) {
  step { script in
    if script.kernel == nil, script.memory.drops[reason] != count {
      script.fail(
        "\(reason.word) was counted \(script.memory.drops[reason]) times", sourceLocation)
    }
  }
}

/// The device's queue overflows.
func deviceOverflows() {
  step { script in
    script.memory.windowCap.narrow(usual: script.settings.windowOctets, at: script.now)
    script.note("the device's queue overflows")
  }
}
