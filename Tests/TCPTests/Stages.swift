import Primitives
import TCP
import Testing

// A connection led into each state of RFC 9293 §3.3.2, for traces that ask what a segment means in all of
// them. Where both streams stand there is said by position: 0 is a SYN, 1 the first octet or FIN.

enum Stage: CaseIterable, Sendable {
  case synReceived, established, finWait1, finWait2, closing, closeWait, lastAck, timeWait

  /// The states whose handshake is complete.
  static let synchronized = allCases.filter { $0 != .synReceived }
  /// Those in which a reset ends the connection.
  static let resettable = allCases.filter { $0 != .timeWait }
  /// Those in which the client may still send.
  static let receiving: [Stage] = [.established, .finWait1, .finWait2]
  /// Those in which the client has finished.
  static let finished: [Stage] = [.closing, .closeWait, .lastAck, .timeWait]

  var state: TCPState {
    switch self {
    case .synReceived: .synReceived
    case .established: .established
    case .finWait1: .finWait1
    case .finWait2: .finWait2
    case .closing: .closing
    case .closeWait: .closeWait
    case .lastAck: .lastAck
    case .timeWait: .timeWait
    }
  }

  /// RCV.NXT.
  var client: Int { Stage.finished.contains(self) ? 2 : 1 }

  /// SND.NXT.
  var server: Int {
    switch self {
    case .synReceived, .established, .closeWait: 1
    case .finWait1, .finWait2, .closing, .lastAck, .timeWait: 2
    }
  }

  /// SND.UNA.
  var acknowledged: Int {
    switch self {
    case .synReceived: 0
    case .finWait1, .closing, .lastAck: 1
    case .established, .finWait2, .closeWait, .timeWait: server
    }
  }

  /// What the client would acknowledge next: in SYN-RECEIVED our SYN, else what it has.
  var acknowledgment: Int { self == .synReceived ? 1 : acknowledged }
}

/// Leads a fresh script into a state.
func reach(_ stage: Stage, ts: Bool = false, sourceLocation: SourceLocation = #_sourceLocation) {
  let at = sourceLocation
  if stage == .synReceived {
    inject("S", 0...0, mss: 1000, ts: ts, sourceLocation: at)
    targetConnects(sourceLocation: at)
    expect("S.", 0...0, ack: 1, sourceLocation: at)
  } else {
    handshake(ts: ts, sourceLocation: at)
  }
  switch stage {
  case .synReceived, .established: break
  case .closeWait, .lastAck:
    inject("F.", 1...1, ack: 1, sourceLocation: at)
    advance(by: .milliseconds(40))
    expect(".", 1...1, ack: 2, sourceLocation: at)
    guard stage == .lastAck else { break }
    targetFinishes(sourceLocation: at)
    expect("F.", 1...1, ack: 2, sourceLocation: at)
  case .finWait1, .finWait2, .closing, .timeWait:
    targetFinishes(sourceLocation: at)
    expect("F.", 1...1, ack: 1, sourceLocation: at)
    if stage == .closing {
      inject("F.", 1...1, ack: 1, sourceLocation: at)
      expect(".", 2...2, ack: 2, sourceLocation: at)
    }
    guard stage == .finWait2 || stage == .timeWait else { break }
    inject(".", 1...1, ack: 2, sourceLocation: at)
    guard stage == .timeWait else { break }
    inject("F.", 1...1, ack: 2, sourceLocation: at)
    expect(".", 2...2, ack: 2, sourceLocation: at)
  }
  expectState(stage.state, sourceLocation: at)
  expectNothing(sourceLocation: at)
}

/// The segment that says what is true, <SEQ=SND.NXT><ACK=RCV.NXT>, and nothing else; the state is what
/// it was.
func expectTruth(_ stage: Stage, sourceLocation: SourceLocation = #_sourceLocation) {
  expect(
    ".", stage.server...stage.server, ack: stage.client, sourceLocation: sourceLocation)
  expectNothing(sourceLocation: sourceLocation)
  expectState(stage.state, sourceLocation: sourceLocation)
}

/// No answer; the state is what it was.
func expectSilence(_ stage: Stage, sourceLocation: SourceLocation = #_sourceLocation) {
  expectNothing(sourceLocation: sourceLocation)
  expectState(stage.state, sourceLocation: sourceLocation)
}
