import Glibc
import Primitives
import TCP
import Testing
import Wire

// The kernel's own TCP in the place of the endpoint under a script, so that traces which expect what no
// TCP does are found. PORTFERRY_TRACE_PEER=kernel chooses it; Tests/KernelTraces makes the network
// namespace with the device, runs the tests and judges what came of each trace.
//
// Time is real: what is due is waited for a little (`slack`), and the script's clock stands still
// meanwhile. The client's SYN is held until the script says that the target connects, as the relay holds
// it. The kernel's initial number is learnt from its SYN-ACK, and numbers are moved so that the script
// reads its own. What only our engine has (counted drops, memory, events) is not looked at; what asks
// for it to act makes a trace inapplicable (Script+Kernel.swift).

final class KernelPeer {
  /// How long something that is due may take: the kernel's timers are coarser the longer they run.
  static let slack = Interval.milliseconds(150)
  /// How long something that must not come is waited for: answers come while the packet is written.
  static let grace = Interval.milliseconds(1)
  /// How much too early a kernel's timer may be.
  static let tick = Interval.milliseconds(6)
  /// A trace that takes more than this is not run to its end.
  static let longest = Interval.milliseconds(3_500)

  static let isChosen = getenv("PORTFERRY_TRACE_PEER").map { String(cString: $0) } == "kernel"

  /// The device, for the whole process; negative when there is none.
  private static let device = attach("trace0")
  nonisolated(unsafe) private static var portsUsed: UInt16 = 0

  let path: TCPPath
  /// When the script began, moved by all that was late.
  var epoch = KernelPeer.clock()
  /// How long the script has let time pass.
  var waited = Interval.zero
  private var listener: CInt = -1
  private var connection: CInt = -1
  private var held: [[UInt8]]? = []
  /// From the script's server numbers to the kernel's.
  private var shift = 0

  /// Each script has its own client port, so that what is left of the last does not meddle.
  static func nextClientPort() -> UInt16 {
    portsUsed += 1
    return 40_000 + portsUsed
  }

  init(path: TCPPath, settings: TCPSettings) {
    self.path = path
    let isIPv4 = path.tuple.virtual.isIPv4
    listener = socket(
      isIPv4 ? AF_INET : AF_INET6,
      CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
    set(listener, SOL_SOCKET, SO_REUSEADDR, 1)
    set(listener, CInt(IPPROTO_TCP), TCP_MAXSEG, CInt(settings.segmentOctets))
    var name = settings.algorithm == .cubic ? Array("cubic".utf8) : Array("reno".utf8)
    setsockopt(listener, CInt(IPPROTO_TCP), TCP_CONGESTION, &name, socklen_t(name.count))
    let bound: CInt
    if isIPv4 {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = path.tuple.virtualPort.bigEndian
      bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    } else {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = path.tuple.virtualPort.bigEndian
      bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    }
    if Self.device < 0 || bound != 0 || listen(listener, 16) != 0 {
      Issue.record("no device, or no listener: errno \(errno)")
    }
  }

  deinit {
    var abort = linger(l_onoff: 1, l_linger: 0)
    if connection >= 0 {
      setsockopt(
        connection, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
      close(connection)
    }
    if listener >= 0 { close(listener) }
    while readPacket() != nil {}
  }

  private static func attach(_ name: String) -> CInt {
    let device = open("/dev/net/tun", O_RDWR | O_NONBLOCK)
    var request = [UInt8](repeating: 0, count: 40)  // struct ifreq: a name, then flags
    request.replaceSubrange(0..<name.utf8.count, with: name.utf8)
    let flags: UInt16 = 0x1001  // IFF_TUN | IFF_NO_PI
    request[16] = UInt8(flags & 0xFF)
    request[17] = UInt8(flags >> 8)
    let attached = request.withUnsafeMutableBytes {
      $0.baseAddress.map { ioctl(device, 0x4004_54CA, $0) }  // TUNSETIFF
    }
    return attached == 0 ? device : -1
  }

  private func set(_ socket: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
    var value = value
    setsockopt(socket, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
  }

  /// A SYN is held.
  var isHolding: Bool { held?.isEmpty == false }

  // MARK: Packets

  /// Writes a segment of the client's into the device, or holds it.
  func inject(_ segment: TCPSegment) {
    var header = segment.header
    if header.flags.contains(.ack) { header.acknowledgment = header.acknowledgment + shift }
    var blocks = SACKBlocks()
    for index in 0..<header.options.sackBlocks.count {
      let block = header.options.sackBlocks[index]
      blocks.append(SACKBlock(start: block.start + shift, end: block.end + shift))
    }
    header.options.sackBlocks = blocks
    var packet = [UInt8](repeating: 0, count: 256)
    let used = withUnsafePointer(to: segment.payload) { payload in
      packet.withUnsafeMutableBytes { memory in
        memory.baseAddress.map {
          PacketWriter.tcp(
            to: $0, source: path.tuple.client, destination: path.tuple.virtual, header: header,
            payload: UnsafeBufferPointer(start: payload, count: 1),
            payloadOctets: segment.payload.octets, segmentOctets: 0,
            trafficClass: segment.isCongestionMarked ? 3 : 0, checksum: .computed)
        } ?? 0
      }
    }
    packet = Array(packet[VirtioNetHeader.octets..<used])
    packet += UnsafeRawBufferPointer(start: segment.payload.base, count: segment.payload.octets)
    if held != nil { held?.append(packet) } else { write(packet) }
  }

  /// The target connects, or does not: what was held is let go.
  func answer(refusing: Bool = false) {
    if refusing {
      close(listener)
      listener = -1
    }
    for packet in held ?? [] { write(packet) }
    held = nil
  }

  private func write(_ packet: [UInt8]) {
    if Glibc.write(Self.device, packet, packet.count) != packet.count {
      Issue.record("the device does not take a packet: errno \(errno)")
    }
  }

  /// The next packet of this connection that the kernel has sent, as a frame of ours would be, with
  /// numbers as the script has them.
  func next() -> [UInt8]? {
    while let packet = readPacket() {
      let isIPv4 = packet[0] >> 4 == 4
      let start = isIPv4 ? Int(packet[0] & 0xF) * 4 : 40
      guard isIPv4 == path.tuple.client.isIPv4, packet[isIPv4 ? 9 : 6] == 6,
        packet.count >= start + 20
      else { continue }
      func word(_ place: Int) -> UInt32 {
        packet[start + place..<start + place + 4].reduce(0) { $0 << 8 | UInt32($1) }
      }
      guard word(0) & 0xFFFF == UInt32(path.tuple.clientPort) else { continue }
      let sequence = SequenceNumber(word(4))
      let flags = TCPFlags(rawValue: packet[start + 13])
      if flags.contains(.syn) { shift = sequence.distance(from: Script.serverStart) }
      var frame = [UInt8](repeating: 0, count: VirtioNetHeader.octets)
      frame[0] = 1  // the checksum is not to be looked at: numbers are moved
      frame += packet
      if !(flags.contains(.rst) && word(4) == 0) {
        let moved = (sequence + -shift).rawValue
        for place in 0..<4 {
          frame[VirtioNetHeader.octets + start + 4 + place] = UInt8(
            truncatingIfNeeded: moved >> (24 - 8 * place))
        }
      }
      return frame
    }
    return nil
  }

  private func readPacket() -> [UInt8]? {
    var packet = [UInt8](repeating: 0, count: 70_000)
    let octets = read(Self.device, &packet, packet.count)
    return octets > 0 ? Array(packet[..<octets]) : nil
  }

  // MARK: Time

  static func clock() -> MonotonicInstant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicInstant(nanoseconds: UInt64(time.tv_sec * 1_000_000_000 + time.tv_nsec))
  }

  static func sleep(for interval: Interval) {
    var time = timespec(
      tv_sec: Int(interval.nanoseconds / 1_000_000_000),
      tv_nsec: Int(interval.nanoseconds % 1_000_000_000))
    var left = timespec()
    while nanosleep(&time, &left) != 0, errno == EINTR { time = left }
  }

  /// Sleeps until the script's time has come.
  func catchUp(earlier early: Interval = .zero) {
    let left = (epoch + waited - KernelPeer.clock()).nanoseconds - early.nanoseconds
    if left > 0 {
      Self.sleep(for: .microseconds(Int(left / 1_000)))
    } else {
      moveClock(to: KernelPeer.clock())
    }
  }

  /// The script's clock is behind by what took longer than it should.
  func moveClock(to instant: MonotonicInstant) {
    let due = epoch + waited
    if due < instant { epoch = epoch + (instant - due) }
  }

  /// Waits until the kernel has sent something.
  static func wait(atMost interval: Interval) {
    var poller = pollfd(fd: device, events: Int16(POLLIN), revents: 0)
    poll(&poller, 1, CInt(interval.milliseconds))
  }

  // MARK: The target's side

  private func accepted() -> CInt {
    if connection < 0, listener >= 0 {
      connection = accept(listener, nil, nil)
      if connection >= 0 {
        _ = fcntl(connection, F_SETFL, O_NONBLOCK)
        set(connection, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        set(connection, CInt(IPPROTO_TCP), TCP_QUICKACK, 0)
        set(connection, SOL_SOCKET, SO_OOBINLINE, 1)
      }
    }
    return connection
  }

  /// The target has its socket.
  var isAccepted: Bool { accepted() >= 0 }

  /// What the target is given; nil when there is nothing (yet), empty at the client's FIN.
  func take(atMost octets: Int) -> [UInt8]? {
    var taken = [UInt8](repeating: 0, count: octets)
    let count = recv(accepted(), &taken, octets, 0)
    return count >= 0 ? Array(taken[..<count]) : nil
  }

  /// - Returns: how many octets there was room for.
  func say(_ octets: [UInt8]) -> Int {
    max(0, send(accepted(), octets, octets.count, CInt(truncatingIfNeeded: MSG_NOSIGNAL)))
  }

  func finish() { shutdown(accepted(), CInt(SHUT_WR)) }

  /// As the kernel's table has it.
  func state() -> TCPState {
    if held != nil { return .listen }
    let isIPv4 = path.tuple.client.isIPv4
    guard
      let table = fopen(isIPv4 ? "/proc/thread-self/net/tcp" : "/proc/thread-self/net/tcp6", "r")
    else { return .closed }
    defer { fclose(table) }
    let port = String(path.tuple.clientPort, radix: 16, uppercase: true)
    var line = [CChar](repeating: 0, count: 512)
    while fgets(&line, 512, table) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      let words = text.split(separator: " ")
      guard words.count > 3, words[2].hasSuffix(":\(port)") else { continue }
      switch words[3] {
      case "01": return .established
      case "03": return .synReceived
      case "04": return .finWait1
      case "05": return .finWait2
      case "06": return .timeWait
      case "08": return .closeWait
      case "09": return .lastAck
      case "0B": return .closing
      default: return .closed
      }
    }
    return .closed
  }
}
