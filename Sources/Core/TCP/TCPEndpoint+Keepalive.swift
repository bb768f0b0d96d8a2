import Primitives
import Wire

// Keep-alive (RFC 9293 §3.8.4): whether a client that says nothing is still there.
//
// Off unless the settings name an interval. When nothing acceptable was heard for so long, and nothing
// is in flight whose timer would tell (MUST-26), a segment without data goes out one octet before
// SND.NXT, which a client that is there must answer. It is asked again at shorter intervals, and given
// up only when many questions in a row got no answer (MUST-29). In TIME-WAIT nobody is asked: the
// same instant is the end of that.

extension TCPEndpoint {
  /// Questions in a row without an answer before the client is given up.
  package static let keepaliveProbesMax = 9

  /// Between two questions: a fifth of the interval, a second at least and 75 s at most.
  package static func keepaliveSpacing(_ interval: Interval) -> Interval {
    Interval(
      nanoseconds: min(
        max(interval.nanoseconds / 5, Interval.seconds(1).nanoseconds),
        Interval.seconds(75).nanoseconds))
  }

  private var keepaliveInterval: Interval { .milliseconds(Int(keepaliveMilliseconds)) }

  /// SEG.SEQ of a question: an octet that the client has acknowledged.
  var keepaliveSequence: SequenceNumber { send.next - 1 }

  /// Something acceptable came from the client.
  mutating func heard(at now: MonotonicInstant) {
    guard keepaliveMilliseconds != 0, state != .timeWait else { return }
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.ignoresSignsOfLife), keepaliveProbes > 0 { return }
    #endif
    keepaliveProbes = 0
    keepaliveDue = false
    wakeAt = now + keepaliveInterval
  }

  /// The client was silent for an interval, or has not answered a question.
  /// - Returns: false when it is given up.
  mutating func keepaliveDeadline(at now: MonotonicInstant) -> Bool {
    // What is in flight, or waits for a closed window, has a timer of its own.
    guard send.retransmitAt == .distantFuture else {
      keepaliveProbes = 0
      wakeAt = max(now + keepaliveInterval, send.retransmitAt)
      return true
    }
    #if PLANTED_FAULTS
      if PlantedFault.isPlanted(.asksForEver) { keepaliveProbes = 0 }
    #endif
    guard keepaliveProbes < Self.keepaliveProbesMax else { return false }
    keepaliveProbes += 1
    keepaliveDue = true
    wakeAt = now + Self.keepaliveSpacing(keepaliveInterval)
    return true
  }
}
