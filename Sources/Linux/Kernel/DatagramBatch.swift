// Datagrams by the batch: one system call for up to 64 messages, each of which is a datagram or a run of
// them (`DatagramRun`, which tells how long those get).
//
// Both directions keep their message headers allocated, so that a turn allocates nothing. A
// `DatagramSendBatch` refers to payload that lies elsewhere (a TUN read's buffer); a
// `DatagramReceiveBatch` owns its buffers, each large enough for the largest datagram and for the
// longest run. The kernel fills buffers from the first one on, and pages that no datagram reached are
// never committed.

import CLinux
import Glibc
import Wire

/// How a batch of datagrams went.
package enum BatchTransfer: Sendable, BitwiseCopyable {
  /// So many messages were moved, at least one. An error that ended the batch early comes with the
  /// next call.
  case messages(Int)
  /// Nothing to read, or no room to write, for now.
  case wouldBlock
  case failed(SystemError)

  init(answer: CInt, _ call: SystemCall) {
    if answer > 0 {
      self = .messages(Int(answer))
    } else if answer == 0 || answer == -EAGAIN || answer == -EINTR {
      self = .wouldBlock
    } else {
      self = .failed(SystemError(code: -answer, call: call))
    }
  }
}

/// Datagrams that wait to be sent on one socket.
package struct DatagramSendBatch: ~Copyable {
  /// Messages of one batch.
  package static let messagesMax = 64
  /// Slices of all messages together.
  package static let slicesMax = 1024

  private let messages: UnsafeMutablePointer<clinux_message>
  private let runs: UnsafeMutablePointer<DatagramRun>
  private let slices: UnsafeMutablePointer<iovec>
  private let controls: UnsafeMutablePointer<clinux_segment_control>
  private var slicesUsed = 0
  private var first = 0
  private var end = 0
  /// The first message goes out datagram by datagram: the next one's slice and offset in that.
  private var isSplit = false
  private var splitSlice = 0
  private var splitOffset = 0
  /// The length of datagrams up to which `append` joins them: what the kernel is known to cut.
  package var segmentOctetsMax = Int(UInt16.max)
  /// Datagrams that still wait.
  package private(set) var count = 0
  /// Octets of payload, and datagrams, that the newest `send` sent.
  package private(set) var octetsSent = 0
  package private(set) var datagramsSent = 0

  package init() {
    messages = .allocate(capacity: Self.messagesMax)
    messages.initialize(repeating: clinux_message(), count: Self.messagesMax)
    runs = .allocate(capacity: Self.messagesMax)
    slices = .allocate(capacity: Self.slicesMax)
    slices.initialize(repeating: iovec(), count: Self.slicesMax)
    controls = .allocate(capacity: Self.messagesMax)
    controls.initialize(repeating: clinux_segment_control(), count: Self.messagesMax)
  }

  deinit {
    messages.deallocate()
    runs.deallocate()
    slices.deallocate()
    controls.deallocate()
  }

  /// Adds datagrams that lie one behind the other, and must stay until they are sent or removed.
  ///
  /// - Parameter segmentOctets: the length of each but the last; 0: it is one datagram.
  /// - Returns: false when they do not fit: send first.
  package mutating func append(_ slice: Slice, segmentOctets: Int = 0) -> Bool {
    guard slicesUsed < Self.slicesMax else { return false }
    let piece = DatagramRun(slice.octets, segmentOctets: segmentOctets)
    if end > first, runs[end - 1].segmentOctets <= segmentOctetsMax, runs[end - 1].join(piece) {
      messages[end - 1].header.msg_iovlen += 1
    } else {
      guard end < Self.messagesMax else { return false }
      runs[end] = piece
      messages[end].header.msg_iov = slices + slicesUsed
      messages[end].header.msg_iovlen = 1
      end += 1
    }
    slices[slicesUsed] = iovec(iov_base: slice.base, iov_len: slice.octets)
    slicesUsed += 1
    count += piece.datagrams
    return true
  }

  /// Sends what waits, first datagram first. Those sent leave the batch; after `failed` the first that
  /// waits was not sent: `split` its run, drop it with `removeFirst`, or send again (an earlier refusal
  /// is reported once).
  package mutating func send(on socket: borrowing TargetSocket) -> BatchTransfer {
    octetsSent = 0
    datagramsSent = 0
    guard first < end else { return .messages(0) }
    if isSplit { return sendNextOfSplit(on: socket) }
    for index in first..<end {
      clinux_set_segment(
        messages + index, controls + index,
        runs[index].datagrams > 1 ? UInt16(runs[index].segmentOctets) : 0)
    }
    let outcome = BatchTransfer(
      answer: clinux_send_messages(socket.number, messages + first, UInt32(end - first)), .sendmmsg)
    if case .messages(let sent) = outcome {
      for index in first..<first + sent {
        octetsSent += runs[index].octets
        datagramsSent += runs[index].datagrams
      }
      count -= datagramsSent
      first += sent
    }
    if first == end { removeAll() }
    return outcome
  }

  /// Has the datagrams of the first message sent one by one: the kernel does not take the run.
  /// - Returns: the length of its datagrams; nil when there is nothing to take apart.
  package mutating func split() -> Int? {
    guard first < end, !isSplit, runs[first].datagrams > 1 else { return nil }
    isSplit = true
    splitSlice = 0
    splitOffset = 0
    return runs[first].segmentOctets
  }

  private mutating func sendNextOfSplit(on socket: borrowing TargetSocket) -> BatchTransfer {
    let whole = messages[first].header.msg_iov[splitSlice]
    let octets = min(runs[first].segmentOctets, whole.iov_len - splitOffset)
    let slice = Slice(whole.iov_base + splitOffset, octets)
    let transfer = withUnsafePointer(to: slice) {
      socket.send(UnsafeBufferPointer(start: $0, count: 1))
    }
    switch transfer {
    case .octets:
      octetsSent = octets
      datagramsSent = removeFirst()
      return .messages(1)
    case .wouldBlock, .endOfStream: return .wouldBlock
    case .failed(let error): return .failed(error)
    }
  }

  /// Drops what waits first: one datagram of a run that was split, or a message.
  /// - Returns: how many datagrams that was.
  package mutating func removeFirst() -> Int {
    precondition(first < end, "datagram")
    let dropped = isSplit ? 1 : runs[first].datagrams
    count -= dropped
    if isSplit { removeOfSplit() } else { removeMessage() }
    return dropped
  }

  private mutating func removeOfSplit() {
    splitOffset += runs[first].segmentOctets
    guard splitOffset >= messages[first].header.msg_iov[splitSlice].iov_len else { return }
    splitOffset = 0
    splitSlice += 1
    if splitSlice == messages[first].header.msg_iovlen { removeMessage() }
  }

  private mutating func removeMessage() {
    isSplit = false
    first += 1
    if first == end { removeAll() }
  }

  package mutating func removeAll() {
    first = 0
    end = 0
    slicesUsed = 0
    count = 0
    isSplit = false
  }
}

/// Room for the datagrams that one receive takes.
package struct DatagramReceiveBatch: ~Copyable {
  /// Messages of one batch.
  package static let messagesMax = 64
  /// Octets of a buffer: more than UDP's largest payload over either family.
  package static let messageOctetsMax = 65536
  /// Messages longer than this, on average, are taken fewer at a time: their memory stays in the cache,
  /// and no session has megabytes of a turn.
  private static let longOctets = 8192
  private static let longMessagesMax = 16

  private let memory: UnsafeMutableRawPointer
  private let messages: UnsafeMutablePointer<clinux_message>
  private let slices: UnsafeMutablePointer<iovec>
  private let controls: UnsafeMutablePointer<clinux_segment_control>
  private var received = 0
  /// Messages that the next receive should take.
  package private(set) var messagesExpected = messagesMax

  package init() {
    memory = .allocate(byteCount: Self.messagesMax * Self.messageOctetsMax, alignment: 4096)
    slices = .allocate(capacity: Self.messagesMax)
    messages = .allocate(capacity: Self.messagesMax)
    controls = .allocate(capacity: Self.messagesMax)
    for index in 0..<Self.messagesMax {
      let buffer = memory + index * Self.messageOctetsMax
      (slices + index).initialize(
        to: iovec(iov_base: buffer, iov_len: Self.messageOctetsMax))
      var message = clinux_message()
      message.header.msg_iov = slices + index
      message.header.msg_iovlen = 1
      (messages + index).initialize(to: message)
      (controls + index).initialize(to: clinux_segment_control())
    }
  }

  deinit {
    memory.deallocate()
    messages.deallocate()
    slices.deallocate()
    controls.deallocate()
  }

  /// Receives up to `limit` messages; what was received before is overwritten.
  package mutating func receive(
    on socket: borrowing TargetSocket, limit: Int = messagesMax
  ) -> BatchTransfer {
    precondition(limit > 0 && limit <= Self.messagesMax, "messages of one receive")
    let outcome = BatchTransfer(
      answer: clinux_receive_messages(socket.number, messages, controls, UInt32(limit)), .recvmmsg)
    if case .messages(let count) = outcome { received = count } else { received = 0 }
    if received > 0 {
      messagesExpected =
        octetsReceived / received > Self.longOctets ? Self.longMessagesMax : Self.messagesMax
    }
    return outcome
  }

  /// Octets of payload that the newest `receive` received.
  package var octetsReceived: Int {
    var octets = 0
    for index in 0..<received { octets += Int(messages[index].octets) }
    return octets
  }

  /// The message at a position below what `receive` returned: one datagram, or a run of them; stays until
  /// the next receive.
  package func message(_ index: Int) -> (slice: Slice, run: DatagramRun) {
    precondition(index >= 0 && index < received, "message")
    let octets = Int(messages[index].octets)
    return (
      Slice(memory + index * Self.messageOctetsMax, octets),
      DatagramRun(octets, segmentOctets: Int(clinux_segment(messages + index, controls + index)))
    )
  }
}
