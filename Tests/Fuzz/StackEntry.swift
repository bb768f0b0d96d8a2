import Configuration
import ICMP
import Primitives
import Stack
import TCP
import Wire

// A whole stack, driven by a small program that the input encodes.
//
// An instruction is an opcode, a peer and operands, all of which always mean something: no input is
// malformed. Instructions build packets from the live state of a conversation (what the stack has
// acknowledged, what it sent last), so that mutations reach deep states; they tell what targets do;
// and they let time pass. The opcode's highest bit leaves the turn open for more packets. At the end
// everything is cut, or falls silent for three hours: then nothing may be kept.

@Sendable func stackEntry(_ bytes: UnsafeRawBufferPointer) {
  var input = Input(bytes)
  let settings = input.octet()
  let peers = FuzzPeer.all
  let worker = StackProgram.worker(settings, peers: peers)
  StackProgram(settings: settings, worker: worker, peers: peers).run(&input)
}

/// What a program drives: one worker, or several of the same device.
protocol FuzzDevice: AnyObject {
  var now: MonotonicInstant { get }
  var givenCount: Int { get }

  func give(_ frame: [UInt8], from peer: FuzzPeer?)
  func giveRaw(_ frame: UnsafeRawBufferPointer)
  func plan(_ plan: DialPlan, of peer: FuzzPeer)
  func resolveDial(of peer: FuzzPeer, failure: TargetFailure?)
  func say(_ peer: FuzzPeer, octets: Int)
  func end(_ peer: FuzzPeer, _ variant: UInt8)
  func feed(_ peer: FuzzPeer, octets: Int)
  func control(_ variant: UInt8)
  func tick()
  func advance(by interval: Interval)
  func turn()
  func endAll()
  func requireEmpty()
}

final class StackProgram {
  private static let instructionsMax = 400

  private let worker: any FuzzDevice
  private let endsSilently: Bool
  private let peers: [FuzzPeer]

  init(settings: UInt8, worker: any FuzzDevice, peers: [FuzzPeer]) {
    self.worker = worker
    endsSilently = settings & 64 != 0
    self.peers = peers
  }

  static func worker(
    _ settings: UInt8, peers: [FuzzPeer], place: FuzzPlace? = nil
  ) -> FuzzWorker {
    let worker = FuzzWorker(
      offloads: settings & 1 != 0, mtu: settings & 2 != 0 ? 1280 : 1500,
      bufferOctets: settings & 4 != 0 ? 4 << 14 : 1 << 20, maxFlows: settings & 8 != 0 ? 2 : 16,
      unmatched: settings & 16 != 0 ? .drop : .reject, usesNewReno: settings & 32 != 0,
      keepalive: settings & 128 != 0 ? .seconds(10) : nil, place: place)
    worker.peers = peers
    return worker
  }

  /// - Parameter prepare: reads what comes before an instruction.
  func run(_ input: inout Input, before prepare: (inout Input) -> Void = { _ in }) {
    var instructions = 0
    while !input.isEmpty, instructions < Self.instructionsMax {
      prepare(&input)
      step(&input)
      instructions += 1
    }
    finish()
  }

  private func step(_ input: inout Input) {
    let operation = input.octet()
    let operand = input.octet()
    let peer = peers[Int(operand & 7) % peers.count]
    let variant = operand >> 3
    worker.tick()
    switch operation & 0x7F % 20 {
    case 0: worker.give(peer.syn(input.octet(), at: worker.now), from: peer)
    case 1:
      let flags: TCPFlags = variant & 8 != 0 ? [.ack, .ece] : .ack
      worker.give(
        peer.segment(flags, window: peer.window(variant), at: worker.now), from: peer)
    case 2:
      let octets = length(&input, variant)
      var flags: TCPFlags = [.ack, .psh]
      if variant & 4 != 0 { flags.insert(.cwr) }
      worker.give(
        peer.segment(flags, octets: octets, advances: true, ecn: variant & 3, at: worker.now),
        from: peer)
    case 3:
      let octets = variant & 1 != 0 ? length(&input, variant) : 0
      worker.give(
        peer.segment([.ack, .fin], octets: octets, advances: true, at: worker.now), from: peer)
    case 4: worker.give(peer.reset(variant, at: worker.now), from: peer)
    case 5: rawSegment(peer, variant, &input)
    case 6:
      worker.give(peer.selective(variant, input.octet(), input.octet(), at: worker.now), from: peer)
    case 7: worker.plan(DialPlan(variant), of: peer)
    case 8: worker.resolveDial(of: peer, failure: DialPlan(variant).failure)
    case 9: worker.say(peer, octets: length(&input, variant))
    case 10: worker.end(peer, variant)
    case 11: worker.feed(peer, octets: variant == 31 ? .max : length(&input, variant))
    case 12: worker.advance(by: Self.interval(variant, input.octet()))
    case 13:
      worker.give(peer.datagram(length(&input, variant), variant, at: worker.now), from: nil)
    case 14: worker.give(peer.message(variant, input.octet()), from: nil)
    case 15: worker.giveRaw(input.octets(Int(input.octet())))
    case 16: worker.control(variant)
    case 17:
      let whole =
        peer.isTCP
        ? peer.segment([.ack], octets: length(&input, variant), advances: true, at: worker.now)
        : peer.datagram(length(&input, variant), 0, at: worker.now)
      for fragment in peer.fragments(of: whole, cut: input.octet()) {
        worker.give(fragment, from: peer)
      }
    case 18:
      worker.give(peer.syn(variant & 1 != 0 ? 0x1D : 0x01, at: worker.now), from: peer)
      worker.turn()
      worker.give(peer.segment(.ack, window: 0xFFFF, at: worker.now), from: peer)
    default: converse(peer)
    }
    if operation & 0x80 == 0 || worker.givenCount >= 64 { worker.turn() }
  }

  /// The peer acknowledges what comes until nothing does.
  private func converse(_ peer: FuzzPeer) {
    worker.turn()
    for _ in 0..<32 where peer.owesAcknowledgment {
      worker.give(peer.segment(.ack, window: 0xFFFF, at: worker.now), from: peer)
      worker.turn()
    }
  }

  private func rawSegment(_ peer: FuzzPeer, _ variant: UInt8, _ input: inout Input) {
    let flags = TCPFlags(rawValue: input.octet())
    let sequence = Int(Int16(bitPattern: input.number())) * (variant & 1 != 0 ? 64 : 1)
    let acknowledgment = Int(Int16(bitPattern: input.number())) * (variant & 2 != 0 ? 64 : 1)
    let octets = variant & 4 != 0 ? length(&input, variant) : 0
    worker.give(
      peer.segment(
        flags, octets: octets, sequenceDelta: sequence, acknowledgmentDelta: acknowledgment,
        fromAcknowledged: variant & 8 != 0, window: variant & 16 != 0 ? input.number() : nil,
        at: worker.now), from: peer)
  }

  private func length(_ input: inout Input, _ variant: UInt8) -> Int {
    let octets = Int(input.octet())
    switch variant >> 3 & 3 {
    case 0: return octets
    case 1: return octets * 8
    case 2: return 1460 * (octets & 7)
    default: return octets * 250
    }
  }

  private static func interval(_ variant: UInt8, _ count: UInt8) -> Interval {
    let unit: Interval
    switch variant & 7 {
    case 0: unit = .microseconds(1)
    case 1: unit = .microseconds(100)
    case 2: unit = .milliseconds(1)
    case 3: unit = .milliseconds(10)
    case 4: unit = .milliseconds(250)
    case 5: unit = .seconds(1)
    case 6: unit = .seconds(15)
    default: unit = .seconds(120)
    }
    return Interval(nanoseconds: unit.nanoseconds * Int64(count))
  }

  private func finish() {
    worker.turn()
    if endsSilently {
      worker.advance(by: .seconds(3 * 3600))
    } else {
      worker.endAll()
      worker.turn()
      // A rule whose flows were to be cut may have gone by itself: its time comes all the same.
      worker.advance(by: .seconds(60))
    }
    worker.requireEmpty()
  }
}
