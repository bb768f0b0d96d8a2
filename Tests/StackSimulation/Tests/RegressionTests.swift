import SimulationModel
import Testing

// Seeds that once failed, each for a reason of its own: with the mend taken out they fail again.
//
// A seed means what `Plan` makes of it, with strangeness or plain. Whoever changes that takes each mend
// out once more and notes the seeds that fail then.

@Suite("Seeds that once failed") struct RegressionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var seed: UInt64
    var what: String
    var testDescription: String { "\(seed): \(what)" }
  }

  static let plain = [
    Case(seed: 593, what: "a FIN behind data that fill the window lay beyond it"),
    Case(seed: 592, what: "an old segment's new acknowledgement moved the window's edge unseen"),
    Case(seed: 1173, what: "the same"),
    Case(seed: 180, what: "an acknowledgement behind a FIN beyond the window lay beyond it too"),
    Case(seed: 339, what: "the same"),
    Case(seed: 5, what: "what the target said before its reset was not read to the end"),
    Case(seed: 338, what: "the same"),
  ]

  static let strange = [
    Case(seed: 5137, what: "a window closed upon octets in flight was flooded with single octets"),
    Case(seed: 8359, what: "the same"),
    Case(seed: 4594, what: "an old acknowledgement's window was counted from a newer one"),
    Case(seed: 10_773, what: "an unacknowledged FIN that ours had crossed met no TIME-WAIT"),
    Case(
      seed: 44_542, what: "a slow client's flow kept the pool spent, and another starved to its end"
    ),
    Case(seed: 189_395, what: "octets in front of a gap held the memory that the gap's needed"),
    Case(seed: 459, what: "a released endpoint still wanted to acknowledge"),
  ]

  /// With ECN, keep-alive and flows that are cut for their memory besides.
  static let whole = [
    Case(
      seed: 141_744,
      what: "a window that shut and opened in turn had the flight sent again each time, for ever"
    ),
    Case(seed: 37_316, what: "a few chunks were left, too few for any segment, and nobody was cut"),
    Case(seed: 24_483, what: "a flow whose client acknowledged just now was cut as idle"),
    Case(seed: 155_296, what: "TIME-WAIT answered behind a reset, which it may (RFC 1337)"),
  ]

  @Test("end well now", arguments: plain)
  func endsWell(case known: Case) {
    do {
      _ = try simulate(seed: known.seed, plan: Plan(plain: known.seed))
    } catch { Issue.record("\(known.what): \(error)") }
  }

  @Test("end well now, strange clients too", arguments: strange)
  func endsStrangelyWell(case known: Case) {
    do {
      _ = try simulate(seed: known.seed, plan: Plan(strange: known.seed))
    } catch { Issue.record("\(known.what): \(error)") }
  }

  @Test("end well now, with all that a seed means", arguments: whole)
  func endsWhollyWell(case known: Case) {
    do {
      _ = try simulate(seed: known.seed)
    } catch { Issue.record("\(known.what): \(error)") }
  }
}
