// Datagrams by the batch: one system call for up to 64 of them.
//
// Both directions keep their message headers allocated, so that a turn allocates nothing. A
// `DatagramSendBatch` refers to payload that lies elsewhere (a TUN read's buffer); a
// `DatagramReceiveBatch` owns its buffers, each large enough for the largest datagram and for a
// UDP_GRO super-datagram later. The kernel fills buffers from the first one on, and pages that no
// datagram reached are never committed.

import CLinux
import Glibc
import Wire

/// How a batch of datagrams went.
package enum BatchTransfer: Sendable, BitwiseCopyable {
  /// So many datagrams were moved, at least one. An error that ended the batch early comes with the
  /// next call.
  case datagrams(Int)
  /// Nothing to read, or no room to write, for now.
  case wouldBlock
  case failed(SystemError)

  init(answer: CInt, _ call: SystemCall) {
    if answer > 0 {
      self = .datagrams(Int(answer))
    } else if answer == 0 || answer == -EAGAIN || answer == -EINTR {
      self = .wouldBlock
    } else {
      self = .failed(SystemError(code: -answer, call: call))
    }
  }
}

/// Datagrams that wait to be sent on one socket.
package struct DatagramSendBatch: ~Copyable {
  /// Datagrams of one batch.
  package static let datagramsMax = 64
  /// Slices of all datagrams together.
  package static let slicesMax = 256

  private let messages: UnsafeMutablePointer<clinux_message>
  private let slices: UnsafeMutablePointer<iovec>
  private var slicesUsed = 0
  private var first = 0
  private var end = 0
  /// Octets of payload that the newest `send` sent.
  package private(set) var octetsSent = 0

  package init() {
    messages = .allocate(capacity: Self.datagramsMax)
    messages.initialize(repeating: clinux_message(), count: Self.datagramsMax)
    slices = .allocate(capacity: Self.slicesMax)
    slices.initialize(repeating: iovec(), count: Self.slicesMax)
  }

  deinit {
    messages.deallocate()
    slices.deallocate()
  }

  /// Datagrams that still wait.
  package var count: Int { end - first }

  /// Adds a datagram made of these slices' octets, which must stay until it is sent or removed.
  /// False when it does not fit: send first.
  package mutating func append(_ gather: UnsafeBufferPointer<Slice>) -> Bool {
    guard end < Self.datagramsMax, slicesUsed + gather.count <= Self.slicesMax else { return false }
    for (index, slice) in gather.enumerated() {
      slices[slicesUsed + index] = iovec(iov_base: slice.base, iov_len: slice.octets)
    }
    messages[end].header.msg_iov = slices + slicesUsed
    messages[end].header.msg_iovlen = gather.count
    slicesUsed += gather.count
    end += 1
    return true
  }

  /// Adds a datagram of one slice.
  package mutating func append(_ slice: Slice) -> Bool {
    withUnsafePointer(to: slice) { append(UnsafeBufferPointer(start: $0, count: 1)) }
  }

  /// Sends what waits, first datagram first. Those sent leave the batch; after `failed` the first that
  /// waits is the one that was not sent: drop it with `removeFirst`, or send again (an earlier
  /// refusal is reported once).
  package mutating func send(on socket: borrowing TargetSocket) -> BatchTransfer {
    octetsSent = 0
    guard count > 0 else { return .datagrams(0) }
    let outcome = BatchTransfer(
      answer: clinux_send_messages(socket.number, messages + first, UInt32(count)), .sendmmsg)
    if case .datagrams(let sent) = outcome {
      for index in first..<first + sent { octetsSent += Int(messages[index].octets) }
      first += sent
    }
    if first == end { removeAll() }
    return outcome
  }

  /// Drops the first datagram that waits.
  package mutating func removeFirst() {
    precondition(first < end, "datagram")
    first += 1
    if first == end { removeAll() }
  }

  package mutating func removeAll() {
    first = 0
    end = 0
    slicesUsed = 0
  }
}

/// Room for the datagrams that one receive takes.
package struct DatagramReceiveBatch: ~Copyable {
  /// Datagrams of one batch.
  package static let datagramsMax = 64
  /// Octets of a buffer: more than UDP's largest payload over either family.
  package static let datagramOctetsMax = 65536

  private let memory: UnsafeMutableRawPointer
  private let messages: UnsafeMutablePointer<clinux_message>
  private let slices: UnsafeMutablePointer<iovec>
  private var received = 0

  package init() {
    memory = .allocate(byteCount: Self.datagramsMax * Self.datagramOctetsMax, alignment: 4096)
    slices = .allocate(capacity: Self.datagramsMax)
    messages = .allocate(capacity: Self.datagramsMax)
    for index in 0..<Self.datagramsMax {
      let buffer = memory + index * Self.datagramOctetsMax
      (slices + index).initialize(
        to: iovec(iov_base: buffer, iov_len: Self.datagramOctetsMax))
      var message = clinux_message()
      message.header.msg_iov = slices + index
      message.header.msg_iovlen = 1
      (messages + index).initialize(to: message)
    }
  }

  deinit {
    memory.deallocate()
    messages.deallocate()
    slices.deallocate()
  }

  /// Receives up to `limit` datagrams; what was received before is overwritten.
  package mutating func receive(
    on socket: borrowing TargetSocket, limit: Int = datagramsMax
  ) -> BatchTransfer {
    precondition(limit > 0 && limit <= Self.datagramsMax, "datagrams of one receive")
    let outcome = BatchTransfer(
      answer: clinux_receive_messages(socket.number, messages, UInt32(limit)), .recvmmsg)
    if case .datagrams(let count) = outcome { received = count } else { received = 0 }
    return outcome
  }

  /// The datagram at a position below what `receive` returned; stays until the next receive.
  package func datagram(_ index: Int) -> Slice {
    precondition(index >= 0 && index < received, "datagram")
    return Slice(memory + index * Self.datagramOctetsMax, Int(messages[index].octets))
  }
}
