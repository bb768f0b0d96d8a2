import Primitives
import Wire

// The two ends of a handshake by cookie: the answer that keeps nothing, and the endpoint of the client
// who acknowledged it. Such an endpoint is established before its target is connected; until then it
// offers no more than the answer's window.

extension TCPEndpoint {
  /// Answers a SYN and keeps nothing of it (see `SYNCookies`).
  /// - Parameter floor: where the answer's numbers may begin; nil: anywhere.
  /// - Returns: false when there was no room for the frame.
  package static func answer(
    _ syn: TCPHeader, with cookies: SYNCookies, beyond floor: SequenceNumber? = nil,
    path: TCPPath, timestampOffset: UInt32, settings: TCPSettings, at now: MonotonicInstant,
    frames: inout FrameQueue
  ) -> Bool {
    guard frames.fits(headerOctets: PacketWriter.tcpHeaderOctetsMax, payloadSlices: 0) else {
      return false
    }
    let syn = SYNCookies.reduced(syn)
    var endpoint = TCPEndpoint(
      holding: syn, isIPv4: path.tuple.virtual.isIPv4,
      initialSequence: cookies.sequence(for: syn, tuple: path.tuple, beyond: floor, at: now),
      timestampOffset: timestampOffset, settings: narrow(settings), at: now)
    if endpoint.usesTimestamps {
      let clock = endpoint.timestamp(at: now).value
      let marked = SYNCookies.timestamp(clock, for: syn.options)
      endpoint.timestampOffset &-= clock &- marked
    }
    endpoint.sendAnswer(at: now, path: path, frames: &frames)
    return true
  }

  /// The endpoint of a client whose segment acknowledges a cookie; nil when it acknowledges none. The
  /// segment itself is still to be taken.
  package init?(
    acknowledging header: TCPHeader, of cookies: SYNCookies, tuple: FiveTuple,
    beyond floor: SequenceNumber? = nil, timestampOffset: UInt32, settings: TCPSettings,
    at now: MonotonicInstant
  ) {
    guard
      let syn = cookies.syn(acknowledgedBy: header, tuple: tuple, beyond: floor, at: now)
    else { return nil }
    self.init(
      holding: syn, isIPv4: tuple.virtual.isIPv4, initialSequence: header.acknowledgment - 1,
      timestampOffset: timestampOffset, settings: Self.narrow(settings), at: now)
    send.answered(at: .zero)  // at an unknown time: its round trip does not count
    send.synchronized(echo: nil, at: now)
    let acknowledgment = receive.taken
    _ = receive.windowField(
      acknowledgment: acknowledgment, unscaled: true, segmentOctets: Int(send.segmentOctets))
    receive.acknowledged(acknowledgment)
    state = .established
  }

  private static func narrow(_ settings: TCPSettings) -> TCPSettings {
    var settings = settings
    settings.windowOctets = min(settings.windowOctets, SYNCookies.windowOctets)
    settings.windowOctetsMax = settings.windowOctets
    return settings
  }

  /// Whether the client has not been answered: its SYN is held.
  package var isHeld: Bool { state == .listen }

  /// The target of a client that was answered before it is connected: from now on the window is what
  /// it would have been.
  package mutating func targetConnected(settings: TCPSettings) {
    let window = settings.window(scales: peerScales)
    receive.widenWindow(to: window.usual, max: window.widest)
  }
}
