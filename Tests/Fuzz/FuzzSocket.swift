import Stack
import Wire

// A target's kernel socket, and what a dial comes to.

final class FuzzSocket {
  // The peer knows its last socket.
  unowned let peer: FuzzPeer
  var isConnecting: Bool
  /// RCV.NXT of the stack before the first octet, once the SYN-ACK has told it.
  var initial: UInt32?
  /// Octets of the upload that were taken, and how many more will be.
  var takenOctets = 0
  var appetite = Int.max
  var finishTold = false
  var writingFails = false
  /// Octets of the download that were read, and how many wait.
  var saidOctets = 0
  var waitingOctets = 0
  var finishes = false
  var finishRead = false
  var resets = false
  /// Datagrams that wait, by length.
  var datagrams: [Int] = []

  init(_ peer: FuzzPeer, isConnecting: Bool) {
    self.peer = peer
    self.isConnecting = isConnecting
  }
}

enum DialPlan {
  case connects
  case hangs
  case fails(TargetFailure)

  init(_ variant: UInt8) {
    switch variant & 7 {
    case 0, 1: self = .connects
    case 2: self = .hangs
    case 3: self = .fails(.refused)
    case 4: self = .fails(.hostUnreachable)
    case 5: self = .fails(.networkUnreachable)
    case 6: self = .fails(.prohibited)
    default: self = .fails(.exhausted)
    }
  }

  var failure: TargetFailure? {
    if case .fails(let failure) = self { failure } else { nil }
  }
}
