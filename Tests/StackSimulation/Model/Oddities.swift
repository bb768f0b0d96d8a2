import Primitives

// Bad habits of a client: what broken, hostile or merely unusual TCPs do. Chances are in
// hundred-thousandths, for each occasion.
//
// None of them excuses the stack: unless a habit makes it impossible, every flow still ends with every
// octet in its place.

struct Oddities {
  // its windows
  /// An acknowledgement takes back some of the window, or all of it.
  var shrinksWindow = 0
  /// The window that the SYN tells.
  var synWindow: Int?
  // its acknowledgements
  /// Each arrival is acknowledged in so many steps.
  var divisions = 1
  /// An acknowledgement comes several times.
  var repeatsAcknowledgments = 0
  /// What waits behind a gap is forgotten, although blocks told of it.
  var reneges = 0
  /// A block tells of what did not arrive, or of nothing that makes sense.
  var liesInBlocks = 0
  /// Blocks tell of single octets of what has arrived, in many acknowledgements at once.
  var cutsBlocks = false
  /// What lies in a gap is acknowledged as if it had arrived.
  var jumpsGaps = 0
  /// Octets are acknowledged that nobody has sent.
  var acknowledgesUnsent = 0
  // its timestamps
  var skipsStamps = 0
  var spoilsEchoes = 0
  /// A segment's timestamp is older than earlier ones'.
  var agesStamps = 0
  // its notion of ECN
  /// Every acknowledgement says ECE.
  var echoesAlways = false
  /// It never says CWR, whatever is echoed.
  var neverSaysReduced = false
  /// What is sent again, and what carries nothing, says ECT too.
  var capableAlways = false
  /// Its SYN says ECE or CWR alone, which is no offer.
  var halfOffer: UInt8 = 0
  /// Its SYN no longer offers ECN when it is sent again.
  var withdrawsOffer = false
  /// Bits that the traffic class had before there was ECN, on everything.
  var oldCodepoint: UInt8 = 0
  // its segments
  /// Something that was sent before is sent once more.
  var replays = 0
  /// Somebody else speaks in its name: stale data, blind resets, SYNs, nonsense.
  var forges = 0
  /// Urgent flags and pointers at random.
  var urgent = 0
  /// Octets are cut into segments anew whenever they are sent.
  var recutsSegments = false
  /// Octets that the SYN carries.
  var synOctets = 0
  /// The SYN comes so many times more.
  var synCopies = 0
  // its end
  /// Falls silent for ever this long after its start.
  var vanishesAfter: Interval?
}

extension Oddities {
  /// Three habits or so.
  init(_ dice: inout Dice, upload: Int) {
    func some(_ dice: inout Dice, _ percent: Int, _ range: ClosedRange<Int>) -> Int {
      dice.percent(percent) ? dice.scaled(range) : 0
    }
    shrinksWindow = some(&dice, 20, 500...50_000)
    if dice.percent(10) { synWindow = dice.pick([0, 1, dice.below(2_000)]) }
    if dice.percent(15) { divisions = dice.within(2...8) }
    repeatsAcknowledgments = some(&dice, 15, 1_000...60_000)
    reneges = some(&dice, 20, 1_000...60_000)
    liesInBlocks = some(&dice, 15, 1_000...30_000)
    // No throw of its own: seeds mean what they meant.
    cutsBlocks = reneges % 5 == 4 || repeatsAcknowledgments % 4 == 1
    jumpsGaps = some(&dice, 10, 5_000...100_000)
    acknowledgesUnsent = some(&dice, 10, 500...20_000)
    skipsStamps = some(&dice, 10, 1_000...40_000)
    spoilsEchoes = some(&dice, 10, 1_000...100_000)
    agesStamps = some(&dice, 10, 500...20_000)
    replays = some(&dice, 20, 500...20_000)
    forges = some(&dice, 30, 500...20_000)
    urgent = some(&dice, 15, 1_000...100_000)
    recutsSegments = dice.percent(25)
    if dice.percent(10) { synOctets = min(upload, dice.within(1...500)) }
    if dice.percent(10) { synCopies = dice.within(1...3) }
    if dice.percent(4) { vanishesAfter = .microseconds(dice.scaled(0...3_000_000)) }
  }
}
