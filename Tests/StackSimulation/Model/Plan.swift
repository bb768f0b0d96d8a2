import Primitives
import Stack

// What a seed decides before anything happens: the link, the stack's settings, each flow's life.

/// How a link mistreats packets, in hundred-thousandths where not said otherwise.
struct LinkPlan {
  var delay = Interval.milliseconds(1)
  var jitter = Interval.zero
  var loss = 0
  /// A burst of losses begins.
  var burst = 0
  var burstPackets = 8
  var duplication = 0
  var corruption = 0
  /// A packet is held back, so that later ones overtake it.
  var reordering = 0
  var holdBack = Interval.zero
  /// Nothing passes in these stretches.
  var blackouts: [Range<UInt64>] = []
  /// Time for one octet, nanoseconds: 0 means no bottleneck.
  var nanosecondsPerOctet = 0
  /// Within a stretch no packet longer than this passes; the sender is told, or not.
  var narrow: Narrow?
  struct Narrow {
    var during: Range<UInt64>
    var mtu: Int
    var isTold: Bool
  }
  /// What says that it knows of ECN is marked, by chance.
  var marking = 0
  /// And whenever a bottleneck's queue is longer.
  var markAbove: Interval?
  /// A bottleneck's queue.
  var queueLimit = Interval.milliseconds(100)

  var isClean: Bool {
    loss + burst + corruption == 0 && blackouts.isEmpty && nanosecondsPerOctet == 0
  }
}

enum Ending { case afterSending, afterPeersEnd, never }
enum Dial { case connected, later, refused, unreachable, silent }

struct ClientPlan {
  var start = Interval.zero
  var upload = 0
  /// Octets that the application writes at a time, and the pause between.
  var writeOctets = 1 << 20
  var writePause = Interval.zero
  var ending = Ending.afterSending
  /// The application resets the connection this long after its start.
  var resetAfter: Interval?
  // as a receiver
  var maximumSegment: Int? = 1460
  var scale: Int? = 7
  var bufferOctets = 65_536
  var readOctets = 1 << 20
  var readPause = Interval.zero
  var stallAt: Int?
  var stall = Interval.zero
  var tellsWindowUpdates = true
  var takesFinishBeyondWindow = true
  var acknowledgesEvery = 2
  var acknowledgmentDelay = Interval.milliseconds(40)
  // as a sender
  var usesTimestamps = true
  var permitsSACK = true
  var flightSegments = 16
  var superSegments = 1
  var forgetsSACK = true
  var timeout = Interval.milliseconds(300)
  var probesWithData = true
  /// What lies just before its RCV.NXT and carries nothing is answered (RFC 9293 §3.8.4).
  var answersKeepalive = false
  /// Its SYN offers ECN.
  var offersECN = false
  var oddities = Oddities()
  /// It has bad habits, so that of some segments nobody can tell what becomes of them.
  var isOdd = false
  /// The engine under test is the client, too.
  var isTwin = false
}

struct TargetPlan {
  var dial = Dial.connected
  var dialDelay = Interval.zero
  var download = 0
  var sayOctets = 1 << 20
  var sayPause = Interval.zero
  var sayDelay = Interval.zero
  var ending = Ending.afterSending
  /// The socket's send buffer.
  var bufferOctets = 65_536
  var takeOctets = 1 << 20
  var takePause = Interval.zero
  var stallAt: Int?
  var stall = Interval.zero
  /// The target resets after it has said, or taken, so many octets.
  var resetAt: Int?
  var resetAtTaken: Int?
}

struct FlowPlan {
  var isIPv4 = true
  var client = ClientPlan()
  var target = TargetPlan()
}

package struct Plan {
  var up = LinkPlan()
  var down = LinkPlan()
  var flows: [FlowPlan] = []
  var mtu = 1500
  var offloads = true
  var memoryOctets = 64 << 20
  var timeWait = Interval.seconds(10)
  /// Longer than the backed-off timers of a lossy path without timestamps may be silent.
  var idleTimeout = Interval.seconds(240)
  /// The worker's turn takes, and is late by, up to so much.
  var turnTime = Interval.microseconds(20)
  var wakeJitter = Interval.microseconds(50)
  var turnPackets = 256
  var budget = TurnBudget()
  var usesNewReno = false
  /// The device cuts super-packets that carry CWR.
  var offloadsECN = true
  /// A silent client is asked whether it is there.
  var keepalive: Interval?
  /// What a flow that does not move may be cut after, when others lack memory; by default who lacks
  /// memory waits.
  var idleBeforeCut = Interval.seconds(3600)
  /// A stalled target's socket can be made to take what is kept.
  var relievesTargets = true
  /// With several, the device gives every fourth packet to any of them.
  var workers = 1
}

extension Plan {
  /// The same for several workers, and a device that does not know where flows live.
  package func shared(by workers: Int) -> Plan {
    var plan = self
    plan.workers = workers
    return plan
  }

  /// What a seed means: a plain run, and what makes it strange.
  package init(seed: UInt64) {
    self.init(strange: seed)
    addNotification(seed)
    addVigilance(seed)
    addThrift(seed)
  }

  /// Turns that may read and dial little.
  private mutating func addThrift(_ seed: UInt64) {
    var dice = Dice(seed ^ 0x7417_F700_0000_0001)
    guard dice.percent(25) else { return }
    budget.flowOctets = dice.scaled(1000...100_000)
    budget.octets = dice.scaled(1...200_000)
    budget.dials = dice.within(1...3)
  }

  /// Without ECN, keep-alive, flows that are cut for their memory, and short turns.
  package init(strange seed: UInt64) {
    self.init(plain: seed)
    addStrangeness(seed)
  }

  /// Clients without bad habits, and a path whose MTU stays.
  package init(plain seed: UInt64) {
    var dice = Dice(seed)
    mtu = dice.pick([1500, 1500, 1500, 1400, 1280, 9000])
    offloads = dice.percent(50)
    memoryOctets = dice.percent(15) ? dice.within(16...160) << 14 : 64 << 20
    timeWait = .milliseconds(dice.within(40_000...60_000))
    turnTime = .microseconds(dice.within(1...100))
    wakeJitter = .microseconds(dice.percent(30) ? dice.within(0...5_000) : dice.within(0...100))
    turnPackets = dice.percent(20) ? dice.within(1...8) : 256
    usesNewReno = dice.percent(30)
    let delay = Interval.microseconds(dice.scaled(20...80_000))
    let harshness = dice.below(4)
    up = LinkPlan(&dice, delay: delay, harshness: harshness)
    down = LinkPlan(&dice, delay: delay, harshness: harshness)
    let count = dice.percent(40) ? 1 : dice.within(1...8)
    for _ in 0..<count {
      flows.append(FlowPlan(&dice, mtu: mtu, delay: delay, crowd: count, harsh: harshness))
    }
  }
}

extension LinkPlan {
  init(_ dice: inout Dice, delay: Interval, harshness: Int) {
    self.delay = delay
    guard harshness > 0 else { return }
    jitter = dice.percent(50) ? .microseconds(dice.below(delay.microseconds + 1)) : .zero
    holdBack = .microseconds(dice.scaled(1...delay.microseconds * 4 + 2_000))
    let scale = [0, 300, 2_000, 10_000][harshness]
    if dice.percent(60) { loss = dice.below(scale) }
    if dice.percent(40) { burst = dice.below(scale / 8 + 1) }
    burstPackets = dice.within(2...20)
    if dice.percent(40) { duplication = dice.below(scale) }
    if dice.percent(40) { corruption = dice.below(scale / 2 + 1) }
    if dice.percent(50) { reordering = dice.below(scale * 2 + 1) }
    if dice.percent(25) {
      nanosecondsPerOctet = dice.pick([8, 80, 800])
      queueLimit = .milliseconds(dice.within(5...200))
    }
    if dice.percent(15) {
      let from = UInt64(dice.within(0...3_000)) * 1_000_000
      blackouts = [from..<from + UInt64(dice.within(50...5_000)) * 1_000_000]
    }
  }
}

extension FlowPlan {
  init(_ dice: inout Dice, mtu: Int, delay: Interval, crowd: Int, harsh: Int) {
    isIPv4 = dice.percent(60)
    let wholeMax = crowd > 4 || harsh > 2 ? 128 << 10 : 1 << 20
    func octets(_ dice: inout Dice) -> Int {
      switch dice.below(20) {
      case 0: wholeMax > 1 << 17 ? dice.within(0...wholeMax) : dice.within(0...wholeMax / 2)
      case 1...3: dice.within(0...min(wholeMax, 128 << 10))
      case 4...9: dice.within(0...24 << 10)
      default: dice.scaled(0...8 << 10)
      }
    }
    let upload = octets(&dice)
    let download = octets(&dice)
    client = ClientPlan(&dice, mtu: mtu, delay: delay, upload: upload, download: download)
    target = TargetPlan(&dice, upload: upload, download: download)
    // One of the two must end first.
    if client.ending == .afterPeersEnd, target.ending == .afterPeersEnd {
      target.ending = .afterSending
    }
    if !isIPv4, client.maximumSegment != nil {
      client.maximumSegment = client.maximumSegment.map { max(220, $0 - 20) }
    }
  }
}

extension ClientPlan {
  init(_ dice: inout Dice, mtu: Int, delay: Interval, upload: Int, download: Int) {
    start = .milliseconds(dice.scaled(0...2_000))
    self.upload = upload
    if dice.percent(40) {
      writeOctets = max(upload / 20, dice.scaled(1...65_536), 1)
      writePause = .microseconds(dice.scaled(0...200_000))
    }
    ending = dice.percent(60) ? .afterSending : .afterPeersEnd
    if dice.percent(8) { resetAfter = .microseconds(dice.scaled(0...3_000_000)) }
    let large = upload + download > 100_000
    maximumSegment = dice.percent(70) ? mtu - 40 : dice.within((large ? 536 : 200)...mtu - 40)
    if dice.percent(5) { maximumSegment = nil }
    scale = dice.percent(80) ? dice.within(0...14) : nil
    bufferOctets = dice.scaled((large ? 16_384 : 2_000)...400_000)
    if scale == nil { bufferOctets = min(bufferOctets, 65_535) }
    if let scale { bufferOctets = max(bufferOctets, 4 << scale) }
    if dice.percent(30) {
      readOctets = max(download / 40, dice.scaled(1...65_536), 1)
      readPause = .microseconds(dice.scaled(0...100_000))
    }
    if dice.percent(20), download > 0 {
      stallAt = dice.below(download)
      stall = .milliseconds(dice.scaled(1...20_000))
    }
    tellsWindowUpdates = dice.percent(85)
    takesFinishBeyondWindow = dice.percent(50)
    acknowledgesEvery = dice.percent(70) ? 2 : dice.within(1...16)
    acknowledgmentDelay = .milliseconds(dice.within(0...200))
    usesTimestamps = dice.percent(70)
    permitsSACK = dice.percent(75)
    flightSegments = dice.scaled(2...128)
    superSegments = dice.percent(25) ? dice.within(2...40) : 1
    forgetsSACK = dice.percent(50)
    timeout = .microseconds(4 * delay.microseconds + dice.within(200_000...1_000_000))
    probesWithData = dice.percent(50)
  }
}

extension TargetPlan {
  init(_ dice: inout Dice, upload: Int, download: Int) {
    let fate = dice.below(100)
    dial =
      switch fate {
      case 0..<4: .refused
      case 4: .unreachable
      case 5: .silent
      case 6..<50: .later
      default: .connected
      }
    dialDelay = .microseconds(dice.scaled(1...3_000_000))
    self.download = download
    if dice.percent(40) {
      sayOctets = max(download / 20, dice.scaled(1...65_536), 1)
      sayPause = .microseconds(dice.scaled(0...200_000))
    }
    if dice.percent(20) { sayDelay = .milliseconds(dice.scaled(0...3_000)) }
    ending = dice.percent(60) ? .afterSending : .afterPeersEnd
    bufferOctets = dice.scaled(1_000...200_000)
    if dice.percent(40) {
      takeOctets = max(upload / 40, dice.scaled(1...65_536), 1)
      takePause = .microseconds(dice.scaled(0...100_000))
    }
    if dice.percent(20), upload > 0 {
      stallAt = dice.below(upload)
      stall = .milliseconds(dice.scaled(1...20_000))
    }
    if dice.percent(8) {
      resetAt = dice.below(download + 1)
    } else if dice.percent(8), upload > 0 {
      resetAtTaken = dice.within(1...upload)
    }
  }
}
