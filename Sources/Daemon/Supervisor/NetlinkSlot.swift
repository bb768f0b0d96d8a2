import Netlink

/// The keeper's session, once there is one. It is used on the keeper's thread only.
final class NetlinkSlot {
  private var session: NetlinkSession?

  func open(namespace: String?) throws(NetlinkError) {
    session = try NetlinkSession(namespace: namespace)
  }

  func use<Outcome>(
    _ body: (inout NetlinkSession) throws(NetlinkError) -> Outcome
  ) throws(NetlinkError) -> Outcome {
    guard var taken = session.take() else {
      throw .exchange(action: "configuring the device", reason: "there is no session")
    }
    let outcome: Outcome
    do throws(NetlinkError) {
      outcome = try body(&taken)
    } catch {
      session = consume taken
      throw error
    }
    session = consume taken
    return outcome
  }
}
