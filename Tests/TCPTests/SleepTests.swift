import Primitives
import TCP
import Testing
import Wire

// Endpoints that sleep. That nobody can tell is shown by all other traces, each of which is run twice
// (`Script.run`); here is which of them may, what that saves, and whose turn it is.

@Suite("Endpoints with nothing to do sleep") struct SleepTests {
  /// The endpoint of the running script, asleep.
  private func asleep() -> DormantEndpoint? {
    guard let script = Script.current, let endpoint = script.endpoint else { return nil }
    return DormantEndpoint(endpoint, settings: script.settings)
  }

  @Test(
    "an answered connection with nothing on its way sleeps, whoever has finished",
    arguments: [Stage.established, .finWait2, .closeWait, .timeWait])
  func sleeps(_ stage: Stage) throws {
    try Script.run {
      reach(stage)
      #expect(asleep()?.state == stage.state)
    }
  }

  @Test(
    "a handshake or a FIN under way keeps the endpoint awake",
    arguments: [Stage.synReceived, .finWait1, .closing, .lastAck])
  func staysAwake(_ stage: Stage) throws {
    try Script.run {
      reach(stage)
      #expect(asleep() == nil)
    }
  }

  @Test("data in flight, data that the target has not taken, and an owed acknowledgement do too")
  func busy() throws {
    try Script.run {
      handshake()
      targetSays(100)
      expect("P.", 1...101, ack: 1)
      #expect(asleep() == nil)
      inject(".", 1...1, ack: 101)
      #expect(asleep() != nil)

      inject("P.", 1...101, ack: 101)  // its acknowledgement waits for something to go with
      #expect(asleep() == nil)
      advance(by: .milliseconds(40))
      expect(".", 101...101, ack: 101)
      #expect(asleep() != nil)

      targetTakes(.nothing)
      inject("P.", 101...201, ack: 101)
      #expect(asleep() == nil)
    }
  }

  @Test("one that sleeps takes a quarter of the octets") func size() {
    #expect(EndpointTable.placeOctets <= 128)
    #expect(EndpointTable.placeOctets * 3 < MemoryLayout<TCPEndpoint>.stride)
  }

  /// An established endpoint of a connection that has nothing to do.
  private func idleEndpoint() throws -> (endpoint: TCPEndpoint, settings: TCPSettings) {
    var found: (TCPEndpoint, TCPSettings)?
    try Script.run {
      handshake()
      if let script = Script.current, let endpoint = script.endpoint {
        found = (endpoint, script.settings)
      }
    }
    return try #require(found)
  }

  @Test("a table keeps few awake, and has each slot's own when it is asked for")
  func table() throws {
    let (endpoint, settings) = try idleEndpoint()
    var table = EndpointTable(capacity: 500, awakeFew: 10, settings: settings)
    for slot in 0..<500 as Range<UInt32> {
      table.open(slot, endpoint)
      table[slot].finish()  // a FIN to be sent: awake
      if slot % 50 != 0 { table[slot] = endpoint }
    }
    // Ten may not sleep, and the others are looked at before many come to be awake beside them.
    let awake = table.awakeCount
    #expect((10...40).contains(awake))
    for slot in 0..<500 as Range<UInt32> {
      let state = table.state(slot)
      #expect(state == (slot % 50 == 0 ? .finWait1 : .established))
      let woken = table[slot].state
      #expect(woken == state)
    }
    for slot in 0..<500 as Range<UInt32> { table.close(slot) }
    let left = table.awakeCount
    #expect(left == 0)
  }

  @Test("what is used all the time is not put to sleep") func busyOnesStay() throws {
    let (endpoint, settings) = try idleEndpoint()
    var table = EndpointTable(capacity: 100, awakeFew: 2, settings: settings)
    table.open(0, endpoint)
    table[0].finish()
    for slot in 1..<100 as Range<UInt32> {
      table.open(slot, endpoint)
      _ = table[0].state
    }
    let state = table.state(0)
    #expect(state == .finWait1)
    let awake = table.awakeCount
    #expect(awake <= 6)
  }
}
